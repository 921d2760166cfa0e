package blackbox

import (
	"bytes"
	"errors"
	"fmt"
	"net/http"
	"os"
	"strconv"
	"strings"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
)

// stormConn2 is an HTTP/2 connection of a stormClient, with several requests under way.
type stormConn2 struct {
	*stormClient
	fr      *http2.Framer
	block   bytes.Buffer
	enc     *hpack.Encoder
	dec     *hpack.Decoder
	streams map[uint32]*stormStream
	open    int
	window  int // what may be sent on the connection
	credit  int // what has been read and not been given back
}

// stormStream is one request.
type stormStream struct {
	q      stormRequest
	tunnel bool
	unsent string // of the body
	size   int    // of the whole body
	window int    // what may be sent
	resp   *http.Response
	body   []byte
	done   bool
}

// http2 opens a connection and makes requests on it, all at once.
func (s *stormClient) http2() {
	c := &stormConn2{stormClient: s, streams: map[uint32]*stormStream{}, window: 65535, dec: hpack.NewDecoder(4096, nil)}
	c.fr = http2.NewFramer(s.c, s.r)
	c.enc = hpack.NewEncoder(&c.block)
	s.send(http2.ClientPreface)
	// A small window makes the proxy wait for us.
	c.fr.WriteSettings(http2.Setting{ID: http2.SettingInitialWindowSize, Val: []uint32{65535, 1000, 1 << 20}[s.rand.IntN(3)]})
	for id := range uint32(1 + s.rand.IntN(12)) {
		c.begin(2*id + 1)
	}
	if s.in(8) { // and away
		s.tally.aborted.Add(1)
		s.c.SetLinger(s.rand.IntN(2) - 1)
		return
	}
	for c.open > 0 && c.step() {
	}
}

// begin opens a stream with a request, and sometimes gives it up at once.
func (c *stormConn2) begin(id uint32) {
	s := &stormStream{window: 65535}
	c.streams[id] = s
	c.open++
	s.q, s.unsent = c.request2(s)
	s.size = len(s.unsent)
	c.fr.WriteHeaders(http2.HeadersFrameParam{
		StreamID: id, BlockFragment: c.block.Bytes(), EndHeaders: true, EndStream: s.unsent == "" && !s.tunnel,
	})
	c.push(id, s)
	if c.in(15) {
		c.giveUp(id, s)
	}
}

// request2 encodes a request and returns it with its body.
func (c *stormConn2) request2(s *stormStream) (stormRequest, string) {
	c.ids++
	c.tally.requests.Add(1)
	q := stormRequest{id: fmt.Sprintf("%s-%d", c.name, c.ids), method: "GET"}
	body := ""
	fields := []string{idField, q.id}
	switch {
	case c.in(8):
		s.tunnel = true
		c.tally.tunnels.Add(1)
		body = pattern(q.id, c.rand.IntN(100<<10))
		fields = append(fields, "sec-websocket-version", "13")
	case c.in(3):
		q.method = "POST"
		body = pattern(q.id, []int{1, 100, 3000, 50 << 10}[c.rand.IntN(4)])
		fields = append(fields, sizeField, strconv.Itoa(len(body)))
		if c.in(2) {
			fields = append(fields, "content-length", strconv.Itoa(len(body)))
		}
	case c.in(6):
		q.method = "HEAD"
	}
	pseudo := []string{":method", q.method, ":scheme", "http", ":path", "/" + q.id, ":authority", "storm.test"}
	if s.tunnel {
		pseudo[1] = "CONNECT"
		pseudo = append(pseudo, ":protocol", "websocket")
	}
	if c.in(10) {
		fields = append(fields, "X-Large", strings.Repeat("h", c.rand.IntN(10<<10)))
	}
	c.block.Reset()
	for all := append(pseudo, fields...); len(all) > 0; all = all[2:] {
		c.enc.WriteField(hpack.HeaderField{Name: strings.ToLower(all[0]), Value: all[1]})
	}
	return q, body
}

// push sends what the windows allow of a body.
func (c *stormConn2) push(id uint32, s *stormStream) {
	for s.unsent != "" && !s.done {
		n := min(len(s.unsent), s.window, c.window, 1+c.rand.IntN(16<<10))
		if n <= 0 {
			return
		}
		part := s.unsent[:n]
		s.unsent = s.unsent[n:]
		s.window -= n
		c.window -= n
		c.fr.WriteData(id, s.unsent == "", []byte(part))
	}
}

func (c *stormConn2) giveUp(id uint32, s *stormStream) {
	if !s.done {
		c.tally.aborted.Add(1)
		c.fr.WriteRSTStream(id, http2.ErrCodeCancel)
		c.end(s)
	}
}

func (c *stormConn2) end(s *stormStream) {
	if !s.done {
		s.done = true
		c.open--
	}
}

// step takes a frame; false: the connection can't go on.
func (c *stormConn2) step() bool {
	f, err := c.fr.ReadFrame()
	if err != nil {
		for _, s := range c.streams {
			if !s.done {
				c.t.Errorf("%s: no end of the response (%v): tunnel %t, head %v; %d bytes came; %d of %d bytes are unsent, windows %d and %d",
					s.q.id, err, s.tunnel, s.resp, len(s.body), len(s.unsent), s.size, s.window, c.window)
			}
		}
		return false
	}
	id := f.Header().StreamID
	s := c.streams[id]
	switch f := f.(type) {
	case *http2.SettingsFrame:
		c.onSettings(f)
	case *http2.PingFrame:
		if !f.IsAck() {
			c.fr.WritePing(true, f.Data)
		}
	case *http2.GoAwayFrame:
		c.t.Errorf("%s: GOAWAY %v", c.name, f.ErrCode)
		return false
	case *http2.WindowUpdateFrame:
		if id == 0 {
			c.window += int(f.Increment)
			for id, s := range c.streams {
				c.push(id, s)
			}
		} else {
			s.window += int(f.Increment)
			c.push(id, s)
		}
	case *http2.RSTStreamFrame:
		c.finish(id, s, fmt.Errorf("the stream was reset: %v", f.ErrCode))
	case *http2.HeadersFrame:
		c.onHeaders(id, s, f)
	case *http2.DataFrame:
		c.onData(id, s, f)
	}
	return true
}

func (c *stormConn2) onSettings(f *http2.SettingsFrame) {
	if v, is := f.Value(http2.SettingInitialWindowSize); is {
		for id, s := range c.streams {
			s.window += int(v) - 65535
			c.push(id, s)
		}
	}
	if !f.IsAck() {
		c.fr.WriteSettingsAck()
	}
}

func (c *stormConn2) onHeaders(id uint32, s *stormStream, f *http2.HeadersFrame) {
	block := bytes.Clone(f.HeaderBlockFragment())
	for ended := f.HeadersEnded(); !ended; {
		next, err := c.fr.ReadFrame()
		more, is := next.(*http2.ContinuationFrame)
		if err != nil || !is {
			c.t.Errorf("%s: a header block goes on with %v, %v", s.q.id, next, err)
			return
		}
		block, ended = append(block, more.HeaderBlockFragment()...), more.HeadersEnded()
	}
	fields, err := c.dec.DecodeFull(block)
	if err != nil {
		c.t.Errorf("%s: %v", s.q.id, err)
	}
	if s.resp == nil {
		resp := &http.Response{Header: http.Header{}}
		for _, field := range fields {
			if field.Name == ":status" {
				resp.StatusCode, _ = strconv.Atoi(field.Value)
			} else {
				resp.Header.Add(field.Name, field.Value)
			}
		}
		if resp.StatusCode >= 200 {
			s.resp = resp
		}
	}
	if f.StreamEnded() {
		c.finish(id, s, nil)
	}
}

func (c *stormConn2) onData(id uint32, s *stormStream, f *http2.DataFrame) {
	n := len(f.Data())
	s.body = append(s.body, f.Data()...)
	if c.in(20) {
		time.Sleep(time.Duration(c.rand.IntN(2000)) * time.Microsecond)
	}
	if c.credit += n; c.credit > 16<<10 || f.StreamEnded() && c.credit > 0 {
		c.fr.WriteWindowUpdate(0, uint32(c.credit))
		c.credit = 0
	}
	switch {
	case f.StreamEnded():
		c.finish(id, s, nil)
	case !s.done && c.in(200):
		c.giveUp(id, s)
	case !s.done && n > 0:
		c.fr.WriteWindowUpdate(id, uint32(n))
	}
}

// finish judges the response of a stream that has ended, in order if err is nil.
func (c *stormConn2) finish(id uint32, s *stormStream, err error) {
	if s.done {
		return
	}
	c.end(s)
	switch {
	case s.resp == nil:
		c.t.Errorf("%s %s: no response: %v", s.q.method, s.q.id, err)
	case s.tunnel && s.resp.StatusCode == 200:
		c.judgeTunnel(s, err)
	default:
		c.judge(s.q, s.resp, s.body, err)
	}
	if s.unsent != "" && err == nil && !s.tunnel { // the rest of an answered request is called off
		c.fr.WriteRSTStream(id, http2.ErrCodeCancel)
	}
}

func (c *stormConn2) judgeTunnel(s *stormStream, err error) {
	got := string(s.body)
	whole := s.resp.Header.Get(wholeField) != "" && s.unsent == ""
	if errors.Is(err, os.ErrDeadlineExceeded) || got != pattern(s.q.id, len(got)) || whole && (err != nil || len(got) != s.size) {
		c.t.Errorf("tunnel %s: %d bytes, %v", s.q.id, len(got), err)
	}
}
