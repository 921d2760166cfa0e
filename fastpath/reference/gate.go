package reference

import (
	"rauta.io/rauta/fastpath/wire"
	"rauta.io/rauta/proxy/message"
)

// gate stands between a client and fasthttp: it lets bytes through only after fastpath/wire has found them good, because
// fasthttp forgives what two readers could take differently (a bare LF, loose chunk sizes). It is used by whichever
// goroutine reads from the connection.
type gate struct {
	limits *wire.Limits

	buf     []byte // buf[:given] was handed out, buf[given:cleared] is good, the rest has not been looked at
	given   int
	cleared int

	state  gateState
	begun  bool // the first byte of a head that is not complete has been cleared
	parser wire.RequestParser
	req    message.Request
	chunks wire.ChunkReader
	left   int64 // of a sized body

	// head is the head of the request under way, as received.
	head []byte
	// err ends the connection.
	err *refusal
}

type gateState uint8

const (
	gateHead gateState = iota
	gateSized
	gateChunked
	gateOpen // no HTTP/1.1 any more: everything passes
)

// refusal is the error of a message that breaks the protocol or a limit.
type refusal struct{ reason wire.Reason }

func (r *refusal) Error() string { return "refuse the message: " + r.reason.String() }

// foreign reports whether the connection has begun with something that is no HTTP at all, and gets no answer.
func (g *gate) foreign() bool {
	return g.err != nil && g.err.reason == wire.UnknownProtocol && len(g.head) == 0
}

// take hands out good bytes; 0 without an error means that more are needed.
func (g *gate) take(p []byte) (int, error) {
	if g.given == g.cleared {
		g.look()
	}
	switch {
	case g.given < g.cleared:
	case g.err == nil:
		return 0, nil
	case g.state == gateHead && !g.begun && len(p) > 0:
		g.begun = true
		p[0] = firstOfBad
		return 1, nil
	default:
		return 0, g.err
	}
	n := copy(p, g.buf[g.given:g.cleared])
	g.given += n
	if g.given == g.cleared && !g.begun {
		g.buf = g.buf[:copy(g.buf, g.buf[g.given:])]
		g.given, g.cleared = 0, 0
	}
	return n, nil
}

// look clears what it can.
func (g *gate) look() {
	if g.err != nil || len(g.buf) == g.cleared {
		return
	}
	rest := g.buf[g.cleared:]
	switch g.state {
	case gateHead:
		g.lookAtHead()
	case gateSized:
		n := min(int64(len(rest)), g.left)
		g.cleared += int(n)
		if g.left -= n; g.left == 0 {
			g.state = gateHead
		}
	case gateChunked:
		for g.state == gateChunked && len(g.buf) > g.cleared && g.err == nil {
			_, n, done, reason := g.chunks.Next(g.buf[g.cleared:])
			g.cleared += n
			switch {
			case reason != wire.OK:
				g.err = &refusal{reason}
			case done:
				g.state = gateHead
			}
		}
	case gateOpen:
		g.cleared = len(g.buf)
	}
}

// firstOfBad goes ahead of the error of a bad head: without a byte of a request fasthttp would answer no error.
const firstOfBad = 'G'

// lookAtHead clears a head once it is complete. Its first byte goes ahead: it tells fasthttp that a request has begun,
// from where its time limit counts, and that an error is to be answered. An empty line before the request line is left out.
func (g *gate) lookAtHead() {
	if !g.begun {
		g.parser.Reset()
	}
	n, reason := g.parser.Parse(g.buf, &g.req, g.limits)
	if reason != wire.OK {
		g.err = &refusal{reason}
		return
	}
	if !g.begun {
		start := 0
		if g.buf[0] == '\r' {
			start = len("\r\n")
		}
		if len(g.buf) <= start || g.buf[start] == '\r' {
			return
		}
		g.begun, g.given, g.cleared = true, start, start+1
	}
	if n > 0 {
		g.endHead(n)
	}
}

// endHead clears a head of n bytes and prepares for its body.
func (g *gate) endHead(n int) {
	g.begun = false
	g.head = append(g.head[:0], g.buf[:n]...)
	g.cleared = n
	switch {
	case g.req.Framing == message.Streamed:
		g.chunks.Reset()
		g.state = gateChunked
	case g.req.Framing == message.Sized && g.req.Length > 0:
		g.left = g.req.Length
		g.state = gateSized
	}
}
