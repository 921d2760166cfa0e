package wire

import (
	"bytes"
	"fmt"
	"strings"
	"testing"

	"rauta.io/rauta/proxy/message"
)

// parseRequest feeds in up to each of ends, in memory that moves between the calls if there is not too much of it.
func parseRequest(in []byte, ends []int, lim *Limits) (p *RequestParser, req *message.Request, n int, reason Reason) {
	p, req = &RequestParser{}, &message.Request{}
	var buf []byte
	for _, end := range ends {
		if len(in) > inputBytesMax {
			buf = in[:end]
		} else {
			buf = moved(buf, in[:end])
		}
		if n, reason = p.Parse(buf, req, lim); n > 0 || reason != OK {
			break
		}
	}
	return p, req, n, reason
}

func requestOutcome(c *wireCase, in []byte, ends []int) string {
	lim := c.limits(DefaultRequestLimits())
	p, req, n, reason := parseRequest(in, ends, &lim)
	switch {
	case reason != OK:
		return fmt.Sprintf("%s %d\n", reason, reason.Status())
	case n == 0:
		return "more\n"
	}
	var b strings.Builder
	fmt.Fprintf(&b, "%s %s", req.Bytes(req.Method), req.Bytes(req.Path))
	if req.HasQuery {
		fmt.Fprintf(&b, " ?%s", req.Bytes(req.Query))
	}
	fmt.Fprintf(&b, " HTTP/%d host %q %s\n", req.Version, req.Bytes(req.Authority), framingText(req.Framing, req.Length))
	for _, flag := range []struct {
		on   bool
		name string
	}{{req.Close, "close"}, {req.ExpectContinue, "expects 100"}, {req.TETrailers, "takes trailers"},
		{req.Upgrade.Len > 0, "upgrade to " + string(req.Bytes(req.Upgrade))},
		{p.DroppedFields > 0, fmt.Sprint("dropped ", p.DroppedFields)}} {
		if flag.on {
			fmt.Fprintln(&b, flag.name)
		}
	}
	if target := req.Bytes(req.ReceivedTarget); !bytes.HasPrefix(target, req.Bytes(req.Path)) {
		fmt.Fprintf(&b, "received %s\n", target)
	}
	writeFields(&b, &req.Head)
	writeRest(&b, in[n:])
	return b.String()
}

func framingText(f message.Framing, length int64) string {
	switch f {
	case message.Sized:
		return fmt.Sprint("sized ", length)
	case message.Streamed:
		return fmt.Sprint("streamed ", length)
	case message.UntilClose:
		return fmt.Sprint("until close ", length)
	}
	return fmt.Sprint("no body ", length)
}

// writeFields writes the fields that are left, with quotes around values that have bytes outside of visible ASCII.
func writeFields(b *strings.Builder, h *message.Head) {
	for _, f := range h.Fields {
		if f.ID != message.Removed {
			fmt.Fprintf(b, "%s: %s\n", h.Bytes(f.Name), strings.Trim(fmt.Sprintf("%q", h.Bytes(f.Value)), `"`))
		}
	}
}

func writeRest(b *strings.Builder, rest []byte) {
	if len(rest) > 0 {
		fmt.Fprintf(b, "rest %q\n", rest)
	}
}

func TestRequestsHaveOneOutcomeHoweverTheyAreCut(t *testing.T) {
	runCases(t, "request", requestOutcome)
}

func TestAnAcceptedRequestIsForwardedInAFormThatReadsTheSame(t *testing.T) {
	addRequests := func(cases []*wireCase) {
		for _, c := range cases {
			checkRoundTrip(t, c.in)
		}
	}
	for _, cases := range readCases(t, "request") {
		addRequests(cases)
	}
}

// checkRoundTrip parses the canonical head of in, which must say the same and be a fixed point.
func checkRoundTrip(t *testing.T, in []byte) {
	t.Helper()
	lim := DefaultRequestLimits()
	_, req, n, _ := parseRequest(in, []int{len(in)}, &lim)
	if n == 0 || req.Authority.Len == 0 {
		return // an empty Host, which HTTP/1.0 lets a client mean, is nothing that we accept ourselves
	}
	canonical := AppendRequestHead(nil, req)
	for i, c := range canonical {
		if c == '\n' && (i == 0 || canonical[i-1] != '\r') || c == '\r' && canonical[i+1] != '\n' || c == 0 {
			t.Fatalf("%q is forwarded as %q", in, canonical)
		}
	}
	wide := Limits{RequestLineBytes: 1 << 20, HeadBytes: 1 << 20, Fields: 1 << 10}
	_, again, m, reason := parseRequest(canonical, []int{len(canonical)}, &wide)
	if m != len(canonical) || reason != OK {
		t.Fatalf("%q is forwarded as %q, which is %s", in, canonical, reason)
	}
	if got := AppendRequestHead(nil, again); !bytes.Equal(got, canonical) {
		t.Fatalf("%q is forwarded as %q and then as %q", in, canonical, got)
	}
	for _, s := range [][2][]byte{
		{req.Bytes(req.Method), again.Bytes(again.Method)}, {req.Bytes(req.Path), again.Bytes(again.Path)},
		{req.Bytes(req.Query), again.Bytes(again.Query)}, {req.Bytes(req.Authority), again.Bytes(again.Authority)},
	} {
		if !bytes.Equal(s[0], s[1]) {
			t.Fatalf("%q: %q becomes %q", in, s[0], s[1])
		}
	}
	if (req.Framing == message.Streamed) != (again.Framing == message.Streamed) || max(req.Length, 0) != max(again.Length, 0) {
		t.Fatalf("%q: framing %v %d becomes %v %d", in, req.Framing, req.Length, again.Framing, again.Length)
	}
}

func TestLimitsOfARequestHeadAreExact(t *testing.T) {
	const host = "Host: a\r\n"
	line := func(bytes int) string {
		return "GET /" + strings.Repeat("a", bytes-len("GET / HTTP/1.1")) + " HTTP/1.1\r\n" + host + "\r\n"
	}
	// The head counts up to its empty line, with the overhead of each of its two fields.
	head := func(bytes int) string {
		start := "GET / HTTP/1.1\r\n" + host + "A: "
		return start + strings.Repeat("a", bytes-len(start)-len("\r\n")-2*FieldOverheadBytes) + "\r\n\r\n"
	}
	fields := func(n int) string { return "GET / HTTP/1.1\r\n" + host + strings.Repeat("A: a\r\n", n-1) + "\r\n" }
	cookies := func(n int) string {
		return "GET / HTTP/1.1\r\n" + host + "Cookie: a=b" + strings.Repeat("; a=b", n-1) + "\r\n\r\n"
	}
	method := func(n int) string { return strings.Repeat("M", n) + " / HTTP/1.1\r\n" + host + "\r\n" }
	authority := func(n int) string {
		return "GET / HTTP/1.1\r\nHost: " + strings.Repeat("a.", n/2) + strings.Repeat("a", n%2) + "\r\n\r\n"
	}
	options := func(n int) string {
		return "GET / HTTP/1.1\r\n" + host + "Connection: x" + strings.Repeat(", x", n-1) + "\r\n\r\n"
	}
	for _, c := range []struct {
		name string
		make func(int) string
		max  int
		over Reason
	}{
		{"request line", line, RequestLineBytesMax, RequestLineTooLong},
		{"head", head, RequestHeadBytesMax, HeadTooLarge},
		{"fields", fields, message.FieldsMax, TooManyFields},
		{"cookies", cookies, CookieCrumbsMax, TooManyCookies},
		{"method", method, MethodBytesMax, BadMethod},
		{"authority", authority, AuthorityBytesMax, BadHost},
		{"connection options", options, ConnectionOptionsMax, TooManyConnectionOptions},
	} {
		lim := DefaultRequestLimits()
		for _, step := range []int{1 << 20, 1, 1000} {
			for over, want := range map[int]Reason{0: OK, 1: c.over} {
				in := []byte(c.make(c.max + over))
				var ends []int
				for end := step; end < len(in); end += step {
					ends = append(ends, end)
				}
				_, _, n, reason := parseRequest(in, append(ends, len(in)), &lim)
				if reason != want || reason == OK && n != len(in) {
					t.Errorf("%s %d in parts of %d: %v, n %d of %d", c.name, c.max+over, step, reason, n, len(in))
				}
			}
		}
	}
}

func TestAHeadThatNeverEndsIsRefusedAtItsLimitAndNotBuffered(t *testing.T) {
	for _, in := range []string{
		strings.Repeat("a", 1<<20), "GET / HTTP/1.1\r\n" + strings.Repeat("a", 1<<20),
		"GET / HTTP/1.1\r\nA: " + strings.Repeat(" ", 1<<20), "GET / HTTP/1.1\r\n" + strings.Repeat("A:\r\n", 1<<18),
	} {
		lim := DefaultRequestLimits()
		var p RequestParser
		var req message.Request
		head := []byte(in)
		reason, end := OK, 0
		for ; reason == OK && end < len(in); end++ {
			_, reason = p.Parse(head[:end], &req, &lim)
		}
		if reason.Status() != 414 && reason.Status() != 431 || end > RequestHeadBytesMax+2 {
			t.Errorf("%.40q: %v after %d bytes", in, reason, end)
		}
	}
}

func TestEveryReasonHasATokenOfItsOwnAndAStatus(t *testing.T) {
	seen := map[string]bool{}
	for r := OK; int(r) < ReasonCount; r++ {
		if r.String() == "" || seen[r.String()] {
			t.Errorf("reason %d: token %q", r, r)
		}
		seen[r.String()] = true
		if s := r.Status(); r != OK && (s < 400 || s > 599) {
			t.Errorf("%s: status %d", r, s)
		}
	}
}
