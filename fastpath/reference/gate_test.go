package reference

import (
	"errors"
	"strings"
	"testing"

	"rauta.io/rauta/fastpath/wire"
)

// through feeds in to a gate in pieces of the given size and returns what comes out, and the error.
func through(in string, piece int) (out string, err error) {
	limits := wire.DefaultRequestLimits()
	g := gate{limits: &limits}
	p := make([]byte, piece)
	for {
		n, err := g.take(p)
		out += string(p[:n])
		switch {
		case err != nil:
			return out, err
		case n == 0 && in == "":
			return out, nil
		case n == 0:
			next := min(piece, len(in))
			g.buf = append(g.buf, in[:next]...)
			in = in[next:]
		}
	}
}

const (
	getHead     = "GET /a HTTP/1.1\r\nHost: a\r\n\r\n"
	oneByte     = "POST /b HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\n\r\nG"
	chunkedPost = "POST /c HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3;x=y\r\nabc\r\n0\r\nA: b\r\n\r\n"
)

func TestTheGateLetsGoodRequestsThroughUnchanged(t *testing.T) {
	before := getHead + oneByte + getHead + chunkedPost + oneByte + chunkedPost
	in, want := before+"\r\n"+getHead, before+getHead // an empty line goes missing (RFC 9112 section 2.2)
	for piece := 1; piece <= len(in); piece++ {
		if out, err := through(in, piece); out != want || err != nil {
			t.Fatalf("in pieces of %d: %q, %v", piece, out, err)
		}
	}
}

func TestTheGateHoldsWhatIsBad(t *testing.T) {
	for _, c := range []struct {
		bad    string
		passes string // at most
		reason wire.Reason
	}{
		{"GET /a HTTP/1.1\nHost: a\r\n\r\n", "G", wire.BareLF},
		{"GET /a HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nContent-Length: 1\r\n\r\nx", "G", wire.DupContentLength},
		{"\r\n\r\nGET / HTTP/1.1\r\n", "G", wire.BadRequestLine},
		{"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabcX", "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc", wire.BadChunkEnd},
	} {
		for _, before := range []string{"", getHead, oneByte, chunkedPost} {
			in := before + c.bad + getHead
			for piece := 1; piece <= len(in); piece++ {
				out, err := through(in, piece)
				var refused *refusal
				if !errors.As(err, &refused) || refused.reason != c.reason {
					t.Fatalf("%q in pieces of %d: %v, want %s", in, piece, err, c.reason)
				}
				if !strings.HasPrefix(before+c.passes, out) || len(out) <= len(before) {
					t.Fatalf("%q in pieces of %d: %q passes, want a beginning of %q and a byte of the bad one", in, piece, out, before+c.passes)
				}
			}
		}
	}
}
