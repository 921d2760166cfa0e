package blackbox

import (
	"crypto/tls"
	"io"
	"net"
	"strings"
	"time"

	"golang.org/x/net/http2"
)

// fault is something that goes wrong at the back end.
type fault struct {
	name string
	// h1 and h2 are run for each connection, until they return, of a back end that speaks the protocol. nil: there is no such
	// fault in it. Where both are nil nothing listens.
	h1 func(c *conn)
	h2 func(p *h2peer)
	// status is what the client gets, 0 for a response that it must see as truncated.
	status int
	// or is another status that is as good, where the kernel decides how soon we see what happens; 0 for none.
	or int
	// gets and posts are how often a GET and a POST with a body may reach the back end.
	gets, posts int
}

// in returns whether the fault exists in the protocol of the back end. What stalls is the same with TLS, and takes its time.
func (f *fault) in(m combination) bool {
	if m.ca != nil && strings.HasPrefix(f.name, "stalls ") && f.name != "stalls in a streamed body" {
		return false
	}
	return f.h1 == nil && f.h2 == nil || m.backend == 1 && f.h1 != nil || m.backend == 2 && f.h2 != nil
}

// requestTimeout is short only where nothing but a timeout ends the exchange.
func (f *fault) requestTimeout() time.Duration {
	if strings.HasPrefix(f.name, "stalls ") {
		return 300 * time.Millisecond
	}
	return patience
}

func reset(c *conn) {
	nc := c.Conn
	if s, over := nc.(*tls.Conn); over {
		nc = s.NetConn()
	}
	nc.(*net.TCPConn).SetLinger(0)
}

// beforeReset lets bytes out before RST overtakes them.
const beforeReset = 20 * time.Millisecond

// What a scripted back end does once it has had the request: the connection closes, is reset, or hangs after what it writes.
func closes1(s string) func(*conn) {
	return func(c *conn) { c.drain(c.head()); c.write(s) }
}

func resets1(s string) func(*conn) {
	return func(c *conn) { c.drain(c.head()); c.write(s); time.Sleep(beforeReset); reset(c) }
}

func stalls1(s string) func(*conn) {
	return func(c *conn) { c.drain(c.head()); c.write(s); c.hang() }
}

// wire2 writes a response, or a part of one, to a request.
type wire2 func(p *h2peer, q *h2request)

func (p *h2peer) take(write wire2) bool {
	p.WriteSettings()
	q := p.request()
	if q == nil {
		return false
	}
	p.body(q)
	write(p, q)
	return true
}

func closes2(write wire2) func(*h2peer) { return func(p *h2peer) { p.take(write) } }

func resets2(write wire2) func(*h2peer) {
	return func(p *h2peer) {
		if p.take(write) {
			time.Sleep(beforeReset)
			reset(p.conn)
		}
	}
}

func stalls2(write wire2) func(*h2peer) {
	return func(p *h2peer) {
		if p.take(write) {
			p.hang()
		}
	}
}

// always writes to every request of a connection.
func always2(write wire2) func(*h2peer) {
	return func(p *h2peer) {
		p.WriteSettings()
		for q := p.request(); q != nil; q = p.request() {
			p.body(q)
			write(p, q)
		}
	}
}

func nothing(*h2peer, *h2request) {}

func interim2(p *h2peer, q *h2request) { p.respond(q.id, false, ":status: 103", "link: </a>") }

func openHead2(p *h2peer, q *h2request) {
	p.WriteHeaders(http2.HeadersFrameParam{StreamID: q.id, BlockFragment: p.encode(":status: 200")})
}

func sized2(p *h2peer, q *h2request) {
	p.respond(q.id, false, ":status: 200", "content-length: 10")
	p.WriteData(q.id, false, []byte("abc"))
}

func streamed2(p *h2peer, q *h2request) {
	p.respond(q.id, false, ":status: 200")
	p.WriteData(q.id, false, []byte("abc"))
}

func resetStream2(before wire2, code http2.ErrCode) wire2 {
	return func(p *h2peer, q *h2request) { before(p, q); p.WriteRSTStream(q.id, code) }
}

const (
	sized1   = "HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nabc"
	chunked1 = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n"
	interim1 = "HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n"
)

// closeNotify ends the connection as TLS has it, which is no better an end of what is not complete.
func closeNotify(c *conn) { c.Conn.(*tls.Conn).CloseWrite() }

// faultsTLS are those that only TLS has.
func faultsTLS() []fault {
	say1 := func(s string) func(*conn) {
		return func(c *conn) { c.drain(c.head()); c.write(s); closeNotify(c) }
	}
	say2 := func(write wire2) func(*h2peer) {
		return func(p *h2peer) {
			if p.take(write) {
				closeNotify(p.conn)
			}
		}
	}
	return []fault{
		{"closes a body until the end without close_notify", closes1("HTTP/1.1 200 OK\r\n\r\nabc"), nil, 0, 0, 1, 1},
		{"says that it closes after the request", say1(""), say2(nothing), 502, 0, 2, 1},
		{"says that it closes in the head", say1("HTTP/1.1 200 OK\r\nContent-"), say2(openHead2), 502, 0, 1, 1},
		{"says that it closes in a sized body", say1(sized1), say2(sized2), 0, 0, 1, 1},
		{"says that it closes in a streamed body", say1(chunked1), say2(streamed2), 0, 0, 1, 1},
		{"sends what is no record in a body", func(c *conn) {
			c.drain(c.head())
			c.write(chunked1)
			io.WriteString(c.Conn.(*tls.Conn).NetConn(), "0\r\n\r\n")
			c.hang()
		}, func(p *h2peer) {
			p.take(streamed2)
			io.WriteString(p.Conn.(*tls.Conn).NetConn(), "\x00\x00\x00\x00\x01\x00\x00\x00\x01")
			p.hang()
		}, 0, 0, 1, 1},
	}
}

// faults are the faults at every stage of an exchange.
func faults() []fault {
	return append([]fault{
		{"refuses", nil, nil, 503, 0, 0, 0},
		{"closes at once", func(*conn) {}, func(*h2peer) {}, 502, 503, 0, 0},
		{"resets at once", reset, func(p *h2peer) { reset(p.conn) }, 502, 503, 0, 0},
		{"closes after the head", func(c *conn) { c.head() }, func(p *h2peer) { p.WriteSettings(); p.request() }, 502, 0, 2, 1},
		{"closes after the request", closes1(""), closes2(nothing), 502, 0, 2, 1},
		{"resets after the request", resets1(""), resets2(nothing), 502, 0, 2, 1},
		{"closes in the head", closes1("HTTP/1.1 200 OK\r\nContent-"), closes2(openHead2), 502, 0, 1, 1},
		{"resets in the head", resets1("HTTP/1.1 200 OK\r\nContent-"), resets2(openHead2), 502, 0, 1, 1},
		{"closes after an interim head", closes1(interim1), closes2(interim2), 502, 0, 1, 1},
		{"closes in a sized body", closes1(sized1), closes2(sized2), 0, 0, 1, 1},
		{"resets in a sized body", resets1(sized1), resets2(sized2), 0, 0, 1, 1},
		{"closes in a streamed body", closes1(chunked1), closes2(streamed2), 0, 0, 1, 1},
		{"resets in a streamed body", resets1(chunked1), resets2(streamed2), 0, 0, 1, 1},
		{"closes in a piece of a body", closes1(chunked1 + "5\r\nab"), closes2(func(p *h2peer, q *h2request) {
			streamed2(p, q)
			p.cut(http2.FrameData, 0, q.id, "ab")
		}), 0, 0, 1, 1},
		{"closes before the end of the trailers", closes1(chunked1 + "0\r\nA: b\r\n"), closes2(func(p *h2peer, q *h2request) {
			streamed2(p, q)
			p.WriteHeaders(http2.HeadersFrameParam{StreamID: q.id, BlockFragment: p.encode("a: b"), EndStream: true})
		}), 0, 0, 1, 1},
		{"stalls before the head", stalls1(""), stalls2(nothing), 504, 0, 1, 1},
		{"stalls in the head", stalls1("HTTP/1.1 200 OK\r\nConte"), stalls2(openHead2), 504, 0, 1, 1},
		{"stalls after an interim head", stalls1(interim1), stalls2(interim2), 504, 0, 1, 1},
		{"stalls in a sized body", stalls1(sized1), stalls2(sized2), 0, 0, 1, 1},
		{"stalls in a streamed body", stalls1(chunked1), stalls2(streamed2), 0, 0, 1, 1},
		{"stalls before the end of the trailers", stalls1(chunked1 + "0\r\nA: b\r\n"), stalls2(func(p *h2peer, q *h2request) {
			streamed2(p, q)
			p.WriteHeaders(http2.HeadersFrameParam{StreamID: q.id, BlockFragment: p.encode("a: b"), EndStream: true})
		}), 0, 0, 1, 1},
	}, append(faults1(), faults2()...)...)
}

// faults1 are those that only HTTP/1.1 has.
func faults1() []fault {
	return []fault{
		{"closes in the status line", closes1("HTTP/1.1 2"), nil, 502, 0, 1, 1},
		{"closes after 100", closes1("HTTP/1.1 100 Continue\r\n\r\n"), nil, 502, 0, 1, 1},
		{"stalls after 100", stalls1("HTTP/1.1 100 Continue\r\n\r\n"), nil, 504, 0, 1, 1},
		{"resets in a body until the end", resets1("HTTP/1.1 200 OK\r\n\r\nabc"), nil, 0, 0, 1, 1},
		{"ends a body with a bad chunk", closes1(chunked1 + "zz\r\n"), nil, 0, 0, 1, 1},
		{"answers in another protocol", closes1("SSH-2.0-x\r\n\r\n"), nil, 502, 0, 1, 1},
	}
}

// unsentTries is how often a request is tried that no back end looks at (docs/limits.md).
const unsentTries = 8

// faults2 are those that only HTTP/2 has.
func faults2() []fault {
	return []fault{
		{"closes in a frame", nil, closes2(func(p *h2peer, q *h2request) { p.cut(http2.FrameHeaders, 4, q.id, "\x88") }), 502, 0, 2, 1},
		{"resets the stream", nil, always2(resetStream2(nothing, http2.ErrCodeInternal)), 502, 0, 2, 1},
		{"resets the stream after an interim head", nil, always2(resetStream2(interim2, http2.ErrCodeInternal)), 502, 0, 1, 1},
		{"resets the stream in a sized body", nil, always2(resetStream2(sized2, http2.ErrCodeInternal)), 0, 0, 1, 1},
		{"resets the stream in a streamed body", nil, always2(resetStream2(streamed2, http2.ErrCodeCancel)), 0, 0, 1, 1},
		{"resets the stream without an error in a body", nil, always2(resetStream2(streamed2, http2.ErrCodeNo)), 0, 0, 1, 1},
		{"refuses the stream", nil, always2(resetStream2(nothing, http2.ErrCodeRefusedStream)), 502, 503, unsentTries, unsentTries},
		{"goes away before the stream", nil, always2(func(p *h2peer, q *h2request) {
			p.WriteGoAway(0, http2.ErrCodeNo, nil)
		}), 502, 503, unsentTries, unsentTries},
		{"goes away with an error", nil, closes2(func(p *h2peer, q *h2request) {
			p.WriteGoAway(q.id, http2.ErrCodeInternal, nil)
		}), 502, 0, 2, 1},
		{"ends a sized body early", nil, always2(func(p *h2peer, q *h2request) { sized2(p, q); p.WriteData(q.id, true, nil) }), 0, 0, 1, 1},
		{"exceeds a sized body", nil, always2(func(p *h2peer, q *h2request) {
			sized2(p, q)
			p.WriteData(q.id, true, []byte("and more than that"))
		}), 0, 0, 1, 1},
		{"sends a body before the head", nil, always2(func(p *h2peer, q *h2request) { p.WriteData(q.id, true, []byte("x")) }), 502, 0, 1, 1},
		{"sends a head without a status", nil, always2(func(p *h2peer, q *h2request) { p.respond(q.id, true, "a: b") }), 502, 0, 1, 1},
		{"sends a field of connections", nil, always2(func(p *h2peer, q *h2request) {
			p.respond(q.id, true, ":status: 200", "connection: close")
		}), 502, 0, 1, 1},
		{"sends a head that cannot be decoded", nil, closes2(func(p *h2peer, q *h2request) {
			p.WriteHeaders(http2.HeadersFrameParam{StreamID: q.id, BlockFragment: []byte{0xff, 0xff, 0xff, 0xff, 0xff}, EndHeaders: true})
			p.hang()
		}), 502, 0, 1, 1},
		{"answers in HTTP/1.1", nil, func(p *h2peer) { p.write("HTTP/1.1 400 Bad Request\r\nConnection: close\r\n\r\n") }, 502, 503, 0, 0},
	}
}
