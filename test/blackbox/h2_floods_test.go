package blackbox

import (
	"bytes"
	"encoding/binary"
	"strings"
	"testing"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"

	"rauta.io/rauta/fastpath"
)

// h2flood sends what write makes until RAUTA has had enough, and wants it to say so. Fewer than 500 requests may reach the
// back end, which never answers.
func h2flood(t *testing.T, m combination, code http2.ErrCode, write func(c *h2client, i int) error) {
	t.Helper()
	b := m.silent(t)
	defer func() {
		if n := len(b.seen()); n >= 500 {
			t.Errorf("%d requests reached the back end", n)
		}
	}()
	r := m.start(t, []string{b.addr})
	c := r.h2()
	go func() {
		for i := 0; i < 100_000 && write(c, i) == nil; i++ {
		}
		c.CloseWrite()
	}()
	c.wantGoAway(code)
}

// silent is a back end that takes requests and never answers.
func (m combination) silent(t *testing.T) *backend {
	if m.backend == 2 {
		return newH2Backend(t, func(p *h2peer) {
			p.WriteSettings(http2.Setting{ID: http2.SettingMaxConcurrentStreams, Val: 1000})
			for p.request() != nil {
			}
		})
	}
	return newBackend(t, func(c *conn) {
		c.head()
		c.hang()
	})
}

// withHTTP2Clients runs f for back ends of either protocol.
func withHTTP2Clients(t *testing.T, f func(t *testing.T, m combination)) {
	for _, m := range []combination{plain(2, 1), plain(2, 2)} {
		t.Run(m.String(), func(t *testing.T) { f(t, m) })
	}
}

func h2open(c *h2client, id uint32, end bool) error {
	return c.WriteHeaders(http2.HeadersFrameParam{StreamID: id, BlockFragment: c.encode(h2get()), EndStream: end, EndHeaders: true})
}

func TestHTTP2RapidResetIsStopped(t *testing.T) { // attack row 27
	withHTTP2Clients(t, func(t *testing.T, m combination) {
		h2flood(t, m, http2.ErrCodeEnhanceYourCalm, func(c *h2client, i int) error {
			if err := h2open(c, uint32(2*i+1), true); err != nil {
				return err
			}
			return c.WriteRSTStream(uint32(2*i+1), http2.ErrCodeCancel)
		})
	})
}

func TestHTTP2MalformedRequestsAreOnlyTakenForAWhile(t *testing.T) { // attack row 24
	for name, head := range map[string][]string{
		"upper-case name": h2get("X-Upper: 1"), "connection": h2get("connection: close"), "bad te": h2get("te: gzip"),
		"no end of a body that is none": h2get("content-length: 5"),
	} {
		t.Run(name, func(t *testing.T) {
			h2flood(t, plain(2, 1), http2.ErrCodeEnhanceYourCalm, func(c *h2client, i int) error {
				return c.WriteHeaders(http2.HeadersFrameParam{
					StreamID: uint32(2*i + 1), BlockFragment: c.encode(head), EndStream: true, EndHeaders: true,
				})
			})
		})
	}
}

func TestHTTP2MadeYouResetIsStopped(t *testing.T) { // attack row 28
	for name, provoke := range map[string]func(c *h2client, id uint32) error{
		"window update of 0": func(c *h2client, id uint32) error { return c.WriteWindowUpdate(id, 0) },
		"window overflow":    func(c *h2client, id uint32) error { return c.WriteWindowUpdate(id, 1<<31-1) },
		"priority of 4 bytes": func(c *h2client, id uint32) error {
			return c.WriteRawFrame(http2.FramePriority, 0, id, make([]byte, 4))
		},
		"priority on itself":     func(c *h2client, id uint32) error { return c.WritePriority(id, http2.PriorityParam{StreamDep: id}) },
		"data after the end":     func(c *h2client, id uint32) error { return c.WriteData(id, true, []byte("x")) },
		"trailers after the end": func(c *h2client, id uint32) error { return h2open(c, id, true) },
	} {
		t.Run(name, func(t *testing.T) {
			withHTTP2Clients(t, func(t *testing.T, m combination) {
				h2flood(t, m, http2.ErrCodeEnhanceYourCalm, func(c *h2client, i int) error {
					if err := h2open(c, uint32(2*i+1), true); err != nil {
						return err
					}
					return provoke(c, uint32(2*i+1))
				})
			})
		})
	}
}

func TestHTTP2FramesWithoutEffectAreBudgeted(t *testing.T) { // attack row 31
	for name, write := range map[string]func(c *h2client, i int) error{
		"PING":     func(c *h2client, i int) error { return c.WritePing(false, [8]byte{}) },
		"PING ack": func(c *h2client, i int) error { return c.WritePing(true, [8]byte{}) },
		"SETTINGS": func(c *h2client, i int) error { return c.WriteSettings() },
		"SETTINGS ack": func(c *h2client, i int) error {
			return c.WriteSettingsAck()
		},
		"PRIORITY": func(c *h2client, i int) error { return c.WritePriority(1, http2.PriorityParam{StreamDep: 3}) },
		"unknown":  func(c *h2client, i int) error { return c.WriteRawFrame(0xfe, 0, 1, nil) },
		"empty DATA": func(c *h2client, i int) error {
			if i == 0 {
				if err := h2open(c, 1, false); err != nil {
					return err
				}
			}
			return c.WriteData(1, false, nil)
		},
		"WINDOW_UPDATE": func(c *h2client, i int) error { return c.WriteWindowUpdate(0, 1) },
		"RST_STREAM of a closed stream": func(c *h2client, i int) error {
			if i == 0 {
				if err := h2open(c, 1, true); err != nil {
					return err
				}
			}
			return c.WriteRSTStream(1, http2.ErrCodeCancel)
		},
	} {
		t.Run(name, func(t *testing.T) { h2flood(t, plain(2, 1), http2.ErrCodeEnhanceYourCalm, write) })
	}
}

func TestHTTP2ContinuationsAreBounded(t *testing.T) { // attack row 29
	for name, size := range map[string]int{"empty": 0, "large": 16 << 10} {
		t.Run(name, func(t *testing.T) {
			h2flood(t, plain(2, 1), http2.ErrCodeEnhanceYourCalm, func(c *h2client, i int) error {
				if i == 0 {
					return c.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: c.encode(h2get())})
				}
				return c.WriteContinuation(1, false, make([]byte, size))
			})
		})
	}
}

func TestHTTP2BlocksThatNeverEndAreCut(t *testing.T) {
	r := start(t, []string{echo(t)}, limits(func(l *fastpath.Limits) { l.HeadTimeout = 1e9 }))
	c := r.h2()
	c.alive(1)
	c.must(c.WriteHeaders(http2.HeadersFrameParam{StreamID: 3, BlockFragment: c.encode(h2get())}))
	c.wantGoAway(http2.ErrCodeEnhanceYourCalm)

	c = r.h2()
	c.alive(1)
	c.Write([]byte{0, 0, 100, 0}) // a part of a frame
	c.wantGoAway(http2.ErrCodeEnhanceYourCalm)
}

func TestHTTP2IndexedBombsAreAnsweredSmall(t *testing.T) { // attack row 30
	b := newBackend(t, answering(ok))
	r := start(t, []string{b.addr})
	for name, field := range map[string]string{"value": "x-bomb", "cookie": "cookie"} {
		t.Run(name, func(t *testing.T) {
			c := r.h2()
			block := bytes.Clone(c.encode(h2get()))
			c.block.Reset()
			c.enc.WriteField(hpack.HeaderField{Name: field, Value: strings.Repeat("v", 3000)})
			block = append(block, c.block.Bytes()...)
			for range 10_000 {
				block = append(block, 0x80|62) // the newest entry of the dynamic table
			}
			c.must(c.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: block, EndStream: true, EndHeaders: true}))
			if reply := c.response(1); reply.status != 431 {
				t.Errorf("%+v", reply)
			}
			c.alive(3)
		})
	}
}

func TestHTTP2HugeStringsEndTheConnection(t *testing.T) {
	r := start(t, []string{echo(t)})
	c := r.h2()
	block := append(bytes.Clone(c.encode(h2get())), 0x00, 1, 'a', 0x7f)
	block = binary.AppendUvarint(block, 1<<20)
	c.must(c.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: block, EndStream: true, EndHeaders: true}))
	c.wantGoAway(http2.ErrCodeEnhanceYourCalm)
}

func TestHTTP2StreamsWhoseClientTakesNothingAreGivenUp(t *testing.T) { // attack rows 30 and 32
	b := newBackend(t, answering("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello"))
	r := start(t, []string{b.addr}, limits(func(l *fastpath.Limits) { l.WriteIdle = 1e9 }))
	c := r.h2(http2.Setting{ID: http2.SettingInitialWindowSize, Val: 0})
	c.headers(1, true, h2get())
	for {
		f := c.next()
		if rst, isReset := f.(*http2.RSTStreamFrame); isReset {
			if rst.ErrCode != http2.ErrCodeCancel {
				t.Errorf("%v", rst)
			}
			break
		}
		if f == nil {
			t.Fatal("the connection has ended")
		}
	}
}

func TestHTTP2ClientsThatReadNoAnswersAreCut(t *testing.T) {
	r := start(t, []string{echo(t)})
	c := r.h2()
	ended := make(chan error, 1)
	go func() {
		// Errors on streams cost a RST_STREAM each, refused streams too; nothing is ever read.
		for i := 0; ; i++ {
			if err := h2open(c, uint32(2*i+1), false); err != nil {
				ended <- err
				return
			}
		}
	}()
	if err := <-ended; err == nil {
		t.Error("no end")
	}
}
