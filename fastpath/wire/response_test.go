package wire

import (
	"fmt"
	"strings"
	"testing"

	"rauta.io/rauta/proxy/message"
)

// parseResponse is parseRequest for responses.
func parseResponse(in []byte, ends []int, toHead bool, lim *Limits) (resp *message.Response, n int, reason Reason) {
	var p ResponseParser
	var buf []byte
	resp = &message.Response{}
	for _, end := range ends {
		buf = moved(buf, in[:end])
		if n, reason = p.Parse(buf, resp, toHead, lim); n > 0 || reason != OK {
			break
		}
	}
	return resp, n, reason
}

func responseOutcome(c *wireCase, in []byte, ends []int) string {
	lim := c.limits(DefaultResponseLimits())
	resp, n, reason := parseResponse(in, ends, c.has("head"), &lim)
	switch {
	case reason != OK:
		return reason.String() + "\n"
	case n == 0:
		return "more\n"
	}
	var b strings.Builder
	fmt.Fprintf(&b, "%d HTTP/%d %s\n", resp.Status, resp.Version, framingText(resp.Framing, resp.Length))
	if resp.Close {
		b.WriteString("close\n")
	}
	if resp.Upgrade.Len > 0 {
		fmt.Fprintf(&b, "upgrade to %s\n", resp.Bytes(resp.Upgrade))
	}
	writeFields(&b, &resp.Head)
	writeRest(&b, in[n:])
	return b.String()
}

func TestResponsesHaveOneOutcomeHoweverTheyAreCut(t *testing.T) {
	runCases(t, "response", responseOutcome)
}

func TestAnAcceptedResponseIsForwardedInAFormThatReadsTheSame(t *testing.T) {
	for _, cases := range readCases(t, "response") {
		for _, c := range cases {
			checkResponseRoundTrip(t, c.in, c.has("head"))
		}
	}
}

// checkResponseRoundTrip parses the canonical heads of in, which must announce the body that Chunked and Closes promise.
func checkResponseRoundTrip(t *testing.T, in []byte, toHead bool) {
	t.Helper()
	lim := DefaultResponseLimits()
	resp, n, _ := parseResponse(in, []int{len(in)}, toHead, &lim)
	if n == 0 {
		return
	}
	for _, opt := range []ResponseOptions{
		{Version: message.HTTP11, ToHead: toHead}, {Version: message.HTTP11, ToHead: toHead, Close: true},
		{Version: message.HTTP10, ToHead: toHead}, {Version: message.HTTP10, ToHead: toHead, KeepAlive10: true},
	} {
		canonical := AppendResponseHead(nil, resp, opt)
		wide := Limits{RequestLineBytes: 1 << 20, HeadBytes: 1 << 20, Fields: 1 << 10}
		again, m, reason := parseResponse(canonical, []int{len(canonical)}, toHead, &wide)
		if m != len(canonical) || reason != OK || again.Status != resp.Status {
			t.Fatalf("%q is forwarded as %q, which is %s", in, canonical, reason)
		}
		want := resp.Framing
		switch {
		case opt.Chunked(resp):
			want = message.Streamed
		case want == message.Streamed:
			want = message.UntilClose // to HTTP/1.0
		}
		if again.Framing != want || want == message.Sized && again.Length != resp.Length {
			t.Fatalf("%q is forwarded as %q: framing %v, want %v", in, canonical, again.Framing, want)
		}
		if resp.Status >= 200 && again.Close != opt.Closes(resp) {
			t.Fatalf("%q is forwarded as %q: close %t, want %t", in, canonical, again.Close, opt.Closes(resp))
		}
	}
}
