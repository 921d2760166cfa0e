package blackbox

import (
	"bytes"
	"io"
	"net"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
)

// h2client is a raw HTTP/2 connection to the proxy: every frame is the test's own.
type h2client struct {
	t *testing.T
	*net.TCPConn
	*http2.Framer
	block  bytes.Buffer
	enc    *hpack.Encoder
	dec    *hpack.Decoder
	credit map[uint32]int // of the WINDOW_UPDATEs that have come
}

// h2 connects and sends preface and settings.
func (r *rig) h2(settings ...http2.Setting) *h2client {
	r.t.Helper()
	nc, err := net.Dial("tcp", r.addr)
	if err != nil {
		r.t.Fatal(err)
	}
	nc.SetDeadline(time.Now().Add(patience))
	r.t.Cleanup(func() { nc.Close() })
	return r.h2over(nc.(*net.TCPConn), nc, settings...)
}

// h2over sends preface and settings over a transport of the connection.
func (r *rig) h2over(raw *net.TCPConn, transport io.ReadWriter, settings ...http2.Setting) *h2client {
	r.t.Helper()
	c := &h2client{
		t: r.t, TCPConn: raw, Framer: http2.NewFramer(transport, transport), dec: hpack.NewDecoder(4096, nil),
		credit: map[uint32]int{},
	}
	c.AllowIllegalWrites, c.AllowIllegalReads = true, true
	c.enc = hpack.NewEncoder(&c.block)
	if _, err := io.WriteString(transport, http2.ClientPreface); err != nil {
		r.t.Fatal(err)
	}
	c.must(c.WriteSettings(settings...))
	return c
}

func (c *h2client) must(err error) {
	c.t.Helper()
	if err != nil {
		c.t.Fatal(err)
	}
}

// h2get is a head that is well-formed.
func h2get(more ...string) []string {
	return append([]string{":method: GET", ":scheme: http", ":path: /", ":authority: a.example"}, more...)
}

func h2post(more ...string) []string {
	return append([]string{":method: POST", ":scheme: http", ":path: /", ":authority: a.example"}, more...)
}

// encode returns the block of "name: value" lines.
func (c *h2client) encode(lines []string) []byte {
	c.block.Reset()
	for _, l := range lines {
		name, value, _ := strings.Cut(l[1:], ": ")
		c.enc.WriteField(hpack.HeaderField{Name: l[:1] + name, Value: value})
	}
	return c.block.Bytes()
}

// headers sends a head, in frames of 16 KiB.
func (c *h2client) headers(id uint32, end bool, lines []string) {
	c.t.Helper()
	block := c.encode(lines)
	n := min(len(block), 16<<10)
	c.must(c.WriteHeaders(http2.HeadersFrameParam{StreamID: id, BlockFragment: block[:n], EndStream: end, EndHeaders: n == len(block)}))
	for block = block[n:]; len(block) > 0; block = block[n:] {
		n = min(len(block), 16<<10)
		c.must(c.WriteContinuation(id, n == len(block), block[:n]))
	}
}

// next returns the next frame that is not about the connection's housekeeping; nil at the end of the connection.
func (c *h2client) next() http2.Frame {
	c.t.Helper()
	for {
		f, err := c.ReadFrame()
		if err != nil {
			if e, ok := err.(net.Error); ok && e.Timeout() {
				c.t.Fatal("nothing came")
			}
			return nil
		}
		switch f := f.(type) {
		case *http2.SettingsFrame:
			continue
		case *http2.WindowUpdateFrame:
			c.credit[f.StreamID] += int(f.Increment)
			continue
		case *http2.PingFrame:
			if f.IsAck() {
				continue
			}
		}
		return f
	}
}

// wantReset waits for the stream's RST_STREAM.
func (c *h2client) wantReset(id uint32, code http2.ErrCode) {
	c.t.Helper()
	for {
		switch f := c.next().(type) {
		case nil:
			c.t.Fatalf("the connection has ended; want RST_STREAM %v", code)
		case *http2.RSTStreamFrame:
			if f.StreamID == id {
				if f.ErrCode != code {
					c.t.Errorf("RST_STREAM %v, want %v", f.ErrCode, code)
				}
				return
			}
		case *http2.GoAwayFrame:
			c.t.Fatalf("GOAWAY %v, want RST_STREAM %v", f.ErrCode, code)
		case *http2.HeadersFrame:
			if f.StreamID == id {
				c.t.Fatalf("a response, want RST_STREAM %v", code)
			}
		}
	}
}

// wantGoAway waits for GOAWAY and the end of the connection.
func (c *h2client) wantGoAway(code http2.ErrCode) {
	c.t.Helper()
	for {
		f := c.next()
		if f == nil {
			c.t.Fatalf("the connection has ended without GOAWAY %v", code)
		}
		if g, ok := f.(*http2.GoAwayFrame); ok {
			if g.ErrCode != code {
				c.t.Errorf("GOAWAY %v, want %v", g.ErrCode, code)
			}
			break
		}
	}
	for c.next() != nil {
	}
}

// h2reply is a response with its body.
type h2reply struct {
	status int
	fields []hpack.HeaderField
	body   string
	reset  bool
	code   http2.ErrCode
}

func (r h2reply) get(name string) string {
	for _, f := range r.fields {
		if f.Name == name {
			return f.Value
		}
	}
	return ""
}

// response reads the stream's response. Streams must be asked for in the order in which they end.
func (c *h2client) response(id uint32) (r h2reply) {
	c.t.Helper()
	for {
		f := c.next()
		if f == nil {
			c.t.Fatalf("the connection has ended before the response on stream %d", id)
		}
		if f.Header().StreamID != id {
			if h, ok := f.(*http2.HeadersFrame); ok {
				c.dec.DecodeFull(h.HeaderBlockFragment())
			}
			continue
		}
		switch f := f.(type) {
		case *http2.RSTStreamFrame:
			r.reset, r.code = true, f.ErrCode
			return r
		case *http2.HeadersFrame:
			fields, err := c.dec.DecodeFull(f.HeaderBlockFragment())
			c.must(err)
			r.fields = fields
			r.status, _ = strconv.Atoi(r.get(":status"))
			if f.StreamEnded() {
				return r
			}
		case *http2.DataFrame:
			r.body += string(f.Data())
			if f.StreamEnded() {
				return r
			}
		}
	}
}

// responses reads the responses on n streams, in whichever order they come.
func (c *h2client) responses(n int) map[uint32]h2reply {
	c.t.Helper()
	replies := map[uint32]h2reply{}
	for over := 0; over < n; {
		f := c.next()
		if f == nil {
			c.t.Fatalf("the connection has ended after %d of %d responses", over, n)
		}
		reply := replies[f.Header().StreamID]
		ended := false
		switch f := f.(type) {
		case *http2.RSTStreamFrame:
			reply.reset, reply.code, ended = true, f.ErrCode, true
		case *http2.HeadersFrame:
			fields, err := c.dec.DecodeFull(f.HeaderBlockFragment())
			c.must(err)
			reply.fields, ended = append(reply.fields, fields...), f.StreamEnded()
			reply.status, _ = strconv.Atoi(reply.get(":status"))
		case *http2.DataFrame:
			reply.body += string(f.Data())
			ended = f.StreamEnded()
		case *http2.GoAwayFrame:
			continue
		}
		replies[f.Header().StreamID] = reply
		if ended {
			over++
		}
	}
	return replies
}

// alive checks that the connection still serves, on a new stream.
func (c *h2client) alive(id uint32) {
	c.t.Helper()
	c.headers(id, true, h2get())
	if r := c.response(id); r.status != 200 {
		c.t.Errorf("the next request was answered with %d", r.status)
	}
}
