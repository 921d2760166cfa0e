package blackbox

import (
	"strings"
	"testing"

	"rauta.io/rauta/proxy/server"
)

// onEveryEngine runs f as one subtest per engine; start looks up which one by the subtest's name.
func onEveryEngine(t *testing.T, f func(t *testing.T)) {
	for _, engine := range []string{"loop", referenceName} {
		t.Run(engine, func(t *testing.T) {
			skipDifference(t)
			f(t)
		})
	}
}

// skipDifference skips a test, or a case of one, that the reference engine can't pass.
func skipDifference(t *testing.T) {
	test, rest, _ := strings.Cut(t.Name(), "/")
	engine, rest, isCase := strings.Cut(rest, "/")
	if engine != referenceName {
		return
	}
	if isCase {
		test += "/" + rest
	}
	if why, differs := differences()[test]; differs {
		t.Skip(why)
	}
}

const referenceName = "reference"

// planeOf returns the engine that a test runs on; nil is the loop, also for tests that have no subtests per engine.
func planeOf(t *testing.T) func(*server.Deps) server.Plane {
	for _, part := range strings.Split(t.Name(), "/")[1:] {
		if part == referenceName {
			return server.Reference
		}
	}
	return nil
}

// differences are the tests, or cases of tests, that the reference engine can't pass, and why.
func differences() map[string]string {
	const firstByte = "fasthttp waits for the first byte of a sized body before it runs a handler"
	const trailers = "fasthttp refuses trailers that are forbidden, with 400; the loop drops every trailer"
	const pieces = "fasthttp sends the first bytes of a sized body with the last"
	return map[string]string{
		"TestASizedBodyOverTheLimitIsRefusedByItsHead":         firstByte,
		"TestOnlyAnAskedSwitchMakesATunnel/body_not_sent":      firstByte,
		"TestOnlySoMuchIsReadAfterAnEarlyAnswer":               firstByte,
		"TestAClientThatStaysAfterItsAnswerIsCutOff":           firstByte,
		"TestABadRequestLineIsRefused/HTTP/2_preface":          "it speaks HTTP/2 by prior knowledge, the loop not yet",
		"TestARequestInABodyIsNeverServed/trailer_that_frames": trailers,
		"TestTrailersOfARequestAreDropped":                     trailers,
		"TestAConnectionGoesOnAfterARequestWithBodyCouldNotBeSent": "a connection closes when the answer came before the " +
			"body was read",
		"TestWhenTheClientGoesTheBackEndKnows/HTTP1_to_HTTP1/in_a_sized_response_body":          pieces,
		"TestWhenTheClientGoesTheBackEndKnows/HTTP1_to_HTTP1_over_TLS/in_a_sized_response_body": pieces,
		"TestTheLineOfARequestHasAllOfItsStages/HTTP1_to_HTTP1":                                 pieces,
		"TestTheLineOfARequestHasAllOfItsStages/HTTP1_to_HTTP1_over_TLS":                        pieces,
		"TestTheOldestIdleConnectionMakesRoom":                                                  "connections beyond the limit are closed; none is evicted for them",
		"TestALoopThatMayNotAcceptDoesNotSpin":                                                  "about the loop",
		"TestTheClientGetsExactlyTheCanonicalResponse":                                          "fasthttp has an order of fields and reason phrases of its own",
	}
}
