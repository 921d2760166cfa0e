package blackbox

//lint:file-ignore SA1019 x/net's server serves single connections; net/http does not.

import (
	"bytes"
	"fmt"
	"io"
	"net"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"testing"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"

	"rauta.io/rauta/internal/testrig"
	"rauta.io/rauta/proxy/config"
	"rauta.io/rauta/proxy/server"
)

// overHTTP2 makes the rig speak HTTP/2 to its back ends.
func overHTTP2(_ *server.Options, c *config.Config) { c.Clusters[0].Protocol = config.BackendH2 }

// overH2 is overHTTP2 with one worker, so that connections can be counted.
func overH2(o *server.Options, c *config.Config) {
	o.Workers = 1
	overHTTP2(o, c)
}

// h2peer is a connection at a scripted HTTP/2 back end: every frame is the test's own.
type h2peer struct {
	*conn
	*http2.Framer
	block bytes.Buffer
	enc   *hpack.Encoder
	dec   *hpack.Decoder

	writing sync.Mutex // for tests that write from several goroutines
}

// h2request is a request at a scripted back end.
type h2request struct {
	id     uint32
	fields []hpack.HeaderField
	ended  bool // END_STREAM has come
}

func (q *h2request) get(name string) string {
	for _, f := range q.fields {
		if f.Name == name {
			return f.Value
		}
	}
	return ""
}

// newH2Backend is a back end that speaks HTTP/2 by prior knowledge; serve runs for every connection that has sent its
// preface, until it returns.
func newH2Backend(t *testing.T, serve func(p *h2peer)) *backend {
	return newBackend(t, func(c *conn) { speakH2(c, serve) })
}

func speakH2(c *conn, serve func(p *h2peer)) {
	p := &h2peer{conn: c, Framer: http2.NewFramer(c.Conn, c.r), dec: hpack.NewDecoder(4096, nil)}
	p.AllowIllegalWrites, p.AllowIllegalReads = true, true
	p.enc = hpack.NewEncoder(&p.block)
	if c.read(len(http2.ClientPreface)) == http2.ClientPreface {
		serve(p)
	}
}

// newH2BackendWith is newH2Backend for those that begin with settings.
func newH2BackendWith(t *testing.T, serve func(p *h2peer), settings ...http2.Setting) *backend {
	return newH2Backend(t, func(p *h2peer) {
		p.WriteSettings(settings...)
		serve(p)
	})
}

// next returns the next frame that is not about the connection's housekeeping, which it looks after; nil at the end.
func (p *h2peer) next() http2.Frame {
	for {
		f, err := p.ReadFrame()
		if err != nil {
			return nil
		}
		switch f := f.(type) {
		case *http2.SettingsFrame:
			if !f.IsAck() {
				p.locked(func() { p.WriteSettingsAck() })
			}
		case *http2.PingFrame:
			if !f.IsAck() {
				p.locked(func() { p.WritePing(true, f.Data) })
			}
		case *http2.WindowUpdateFrame:
		default:
			return f
		}
	}
}

func (p *h2peer) locked(f func()) {
	p.writing.Lock()
	defer p.writing.Unlock()
	f()
}

// request waits for the next request and notes it; nil at the end of the connection. What comes on other streams is passed
// over.
func (p *h2peer) request() *h2request {
	for {
		switch f := p.next().(type) {
		case nil:
			return nil
		case *http2.HeadersFrame:
			return p.begin(f)
		}
	}
}

// begin takes the head that begins with f.
func (p *h2peer) begin(f *http2.HeadersFrame) *h2request {
	block := bytes.Clone(f.HeaderBlockFragment())
	for ended := f.HeadersEnded(); !ended; {
		c, isMore := p.next().(*http2.ContinuationFrame)
		if !isMore {
			return nil
		}
		block, ended = append(block, c.HeaderBlockFragment()...), c.HeadersEnded()
	}
	fields, err := p.dec.DecodeFull(block)
	if err != nil {
		return nil
	}
	q := &h2request{id: f.StreamID, fields: fields, ended: f.StreamEnded()}
	var text strings.Builder
	for _, field := range fields {
		fmt.Fprintf(&text, "%s: %s\n", field.Name, field.Value)
	}
	p.b.mu.Lock()
	p.b.requests = append(p.b.requests, text.String())
	p.b.mu.Unlock()
	return q
}

// nextOf returns the next frame of a request, nil if the connection has ended.
func (p *h2peer) nextOf(q *h2request) http2.Frame {
	for {
		if f := p.next(); f == nil || f.Header().StreamID == q.id {
			return f
		}
	}
}

// body reads the rest of a request and gives the window back; whole is false if it has been reset or cut off.
func (p *h2peer) body(q *h2request) (body string, whole bool) {
	for !q.ended {
		switch f := p.nextOf(q).(type) {
		case nil, *http2.RSTStreamFrame:
			return body, false
		case *http2.DataFrame:
			body += string(f.Data())
			q.ended = f.StreamEnded()
			if n := uint32(len(f.Data())); n > 0 {
				p.WriteWindowUpdate(0, n)
				if !q.ended {
					p.WriteWindowUpdate(q.id, n)
				}
			}
		case *http2.HeadersFrame:
			q.ended = f.StreamEnded()
		}
	}
	return body, true
}

// reset waits for the RST_STREAM of a request and returns the body that came before; "whole" if that ended. False means
// that the connection has ended.
func (p *h2peer) reset(q *h2request) (body string, isThere bool) {
	for {
		switch f := p.nextOf(q).(type) {
		case nil:
			return body, false
		case *http2.RSTStreamFrame:
			return body, true
		case *http2.DataFrame:
			if body += string(f.Data()); f.StreamEnded() {
				return "whole", true
			}
		}
	}
}

// encode returns the block of "name: value" lines.
func (p *h2peer) encode(lines ...string) []byte {
	p.block.Reset()
	for _, l := range lines {
		name, value, _ := strings.Cut(l[1:], ": ")
		p.enc.WriteField(hpack.HeaderField{Name: l[:1] + name, Value: value})
	}
	return bytes.Clone(p.block.Bytes())
}

// respond sends a head, in frames of 16 KiB.
func (p *h2peer) respond(id uint32, end bool, lines ...string) {
	block := p.encode(lines...)
	n := min(len(block), 16<<10)
	p.WriteHeaders(http2.HeadersFrameParam{StreamID: id, BlockFragment: block[:n], EndStream: end, EndHeaders: n == len(block)})
	for block = block[n:]; len(block) > 0; block = block[n:] {
		n = min(len(block), 16<<10)
		p.WriteContinuation(id, n == len(block), block[:n])
	}
}

// cut sends the first bytes of a frame, whose rest never comes.
func (p *h2peer) cut(typ http2.FrameType, flags http2.Flags, id uint32, part string) {
	const more = 100
	n := len(part) + more
	p.conn.Write(append([]byte{0, byte(n >> 8), byte(n), byte(typ), byte(flags), 0, 0, 0, byte(id)}, part...))
}

// ok answers a request whose body has been read.
func (p *h2peer) ok(q *h2request) {
	p.respond(q.id, false, ":status: 200", "content-length: 2")
	p.WriteData(q.id, true, []byte("ok"))
}

// answeringH2 serves every request with ok, one after the other.
func answeringH2(p *h2peer) {
	p.WriteSettings()
	p.answerAll()
}

// linger keeps the connection open until the proxy closes it.
func (p *h2peer) linger() {
	for p.next() != nil {
	}
}

func (p *h2peer) answerAll() {
	for q := p.request(); q != nil; q = p.request() {
		if _, whole := p.body(q); whole {
			p.ok(q)
		}
	}
}

// respondInPieces sends a head with little in its first frame, which is padded.
func (p *h2peer) respondInPieces(id uint32, lines ...string) {
	block := p.encode(lines...)
	p.WriteHeaders(http2.HeadersFrameParam{StreamID: id, BlockFragment: block[:1], PadLength: 100})
	for block = block[1:]; len(block) > 4000; block = block[4000:] {
		p.WriteContinuation(id, false, block[:4000])
	}
	p.WriteContinuation(id, true, block)
}

// echoH2 is a back end of x/net that sends the body back, with a length unless the query asks for none.
func echoH2(t *testing.T) string {
	return serveH2(t, func(w http.ResponseWriter, q *http.Request) {
		body, err := io.ReadAll(q.Body)
		if err != nil {
			panic(http.ErrAbortHandler)
		}
		if q.URL.Query().Get("chunked") == "" {
			w.Header().Set("Content-Length", strconv.Itoa(len(body)))
		}
		w.Write(body)
	})
}

// serveH2 is a back end of x/net.
func serveH2(t *testing.T, handler http.HandlerFunc) string {
	t.Helper()
	return testrig.Listen(t, func(c net.Conn) { (&http2.Server{}).ServeConn(c, &http2.ServeConnOpts{Handler: handler}) })
}
