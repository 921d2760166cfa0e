package exchange

import (
	"testing"

	"rauta.io/rauta/proxy/upstream"
)

func TestTrailersPassBothWays(t *testing.T) {
	s := newSim(t, 1, nil)
	c := s.request("POST /").chunked().start()
	b := s.dialer.connect()
	c.x.OnRequestData([]byte("ping"))
	c.x.OnRequestEnd(trailerFields("checksum: abc"))
	b.wants("head POST /", "data ping", "end checksum=abc")
	b.head(200)
	b.data("pong")
	b.endWith(trailerFields("grpc-status: 0", "grpc-message: fine"))
	c.wants("pause", "resume", "head 200", "data pong", "end grpc-status=0 grpc-message=fine", "finished")
}

// TestTrailersThatOverruleAHeadAreDropped: attack row 14.
func TestTrailersThatOverruleAHeadAreDropped(t *testing.T) {
	forbidden := []string{
		"content-length: 1", "transfer-encoding: chunked", "host: b.example", "authorization: Basic eDp5", "connection: close",
		"content-type: text/html", "content-language: de", "cookie: a=b", "set-cookie: a=b", "te: trailers", "trailer: x",
		"x-forwarded-for: 192.0.2.9", "x-forwarded-client-cert: x", "x-real-ip: 192.0.2.9", "forwarded: for=x", "expect: x",
		"proxy-authorization: x", "if-none-match: x", "cache-control: public", "location: /", "upgrade: x", "keep-alive: x",
		"proxy-connection: x", "www-authenticate: Basic", "access-control-allow-origin: *",
	}
	s := newSim(t, 1, nil)
	c := s.request("POST /").chunked().start()
	b := s.dialer.connect()
	c.x.OnRequestData([]byte("x"))
	c.x.OnRequestEnd(trailerFields(append(forbidden, "kept: 1", "Content_Length: 5")...))
	b.wants("head POST /", "data x", "end kept=1")
	b.head(200)
	b.endWith(trailerFields(append(forbidden, "kept_too: 2")...))
	c.wants("pause", "resume", "head 200", "end kept_too=2", "finished")

	c = s.request("POST /").chunked().start()
	c.x.OnRequestData([]byte("x"))
	c.x.OnRequestEnd(trailerFields(forbidden...))
	b.answer(200, "")
	if last := b.events[len(b.events)-1]; last != "end" {
		t.Errorf("the back end saw %q although no trailer is left", last)
	}
}

// TestTrailersWaitForTheBackEnd: the end of an empty body may come before there is a connection, or before the first one breaks.
func TestTrailersWaitForTheBackEnd(t *testing.T) {
	s := newSim(t, 2, nil)
	c := s.request("POST /").chunked().start()
	trailers := trailerFields("a: 1")
	c.x.OnRequestEnd(trailers)
	trailers.Set("a", "changed since", 0) // views are valid during the call only
	b := s.dialer.connect()
	b.wants("head POST /", "end a=1")
	b.fail(upstream.StageUnsent, upstream.CauseReset)
	b = s.dialer.connect()
	b.wants("head POST /", "end a=1")
	b.answer(200, "")

	c = s.request("POST /").chunked().start()
	c.x.OnRequestEnd(nil)
	if last := b.events[len(b.events)-1]; last != "end" {
		t.Errorf("the next exchange ends with %q", last)
	}
}
