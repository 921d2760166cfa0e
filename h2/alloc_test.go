package h2_test

import (
	"bytes"
	"context"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"regexp"
	"runtime"
	"strconv"
	"testing"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"

	"rauta.io/rauta/fastpath"
	"rauta.io/rauta/internal/testrig"
	"rauta.io/rauta/proxy/config"
	"rauta.io/rauta/proxy/message"
	"rauta.io/rauta/proxy/observe"
	"rauta.io/rauta/proxy/server"
)

const patience = 2 * time.Minute

// fixedBackEnd answers every request that has no body; it allocates per connection only.
func fixedBackEnd(t testing.TB) string {
	return testrig.Listen(t, func(c net.Conn) {
		buf := make([]byte, 4096)
		response := []byte("HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nServer: fixed\r\nContent-Length: 5\r\n\r\nhello")
		n := 0
		for {
			m, err := c.Read(buf[n:])
			if err != nil {
				return
			}
			if n += m; bytes.HasSuffix(buf[:n], []byte("\r\n\r\n")) {
				n = 0
				if _, err := c.Write(response); err != nil {
					return
				}
			}
		}
	})
}

// startProxy returns the address of a data plane with one worker in front of a back end.
func startProxy(t testing.TB, spoken config.BackendProtocol, backEnd string) (*server.Server, string) {
	addr := netip.AddrPortFrom(netip.MustParseAddr("127.0.0.1"), testrig.FreePort(t))
	s, err := server.New(server.Options{
		Workers: 1, Registry: observe.NewRegistry(observe.Options{Workers: 1, Methods: message.MethodNames()}),
		Bind: "127.0.0.1", Limits: fastpath.DefaultLimits(), Log: slog.New(slog.NewTextHandler(io.Discard, nil)),
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithCancel(context.Background())
		cancel()
		s.Drain(ctx)
	})
	cfg := &config.Config{
		Listeners: []config.Listener{{
			Name: "default/gw/http", Port: addr.Port(), Protocol: config.ProtocolHTTP,
			Attached: []config.Attachment{{Route: "httproute/default/all", Hostnames: []string{""}}},
		}},
		Routes: []*config.Route{{
			Name: "httproute/default/all", Source: config.Source{Kind: "HTTPRoute", Namespace: "default", Name: "all"},
			Rules: []config.Rule{{
				Name: "0", Matches: []config.Match{{Path: config.PathMatch{Kind: config.PathPrefix, Value: "/"}}},
				Backends: []config.Backend{{Cluster: "default/app:80", Weight: 1}},
			}},
		}},
		Clusters: []config.Cluster{{Name: "default/app:80", Protocol: spoken}},
	}
	if err := s.Publish(cfg, config.Endpoints{"default/app:80": {{Address: backEnd}}}); err != nil {
		t.Fatal(err)
	}
	return s, netip.AddrPortFrom(addr.Addr(), addr.Port()).String()
}

// load is a client that sends the same request on one stream after another and allocates nothing itself.
type load struct {
	net.Conn
	request []byte // HEADERS, whose stream is set for each
	update  []byte // WINDOW_UPDATE of the connection for one response
	out     []byte
	buf     []byte
	kept    int
	stream  uint32
}

func newLoad(t testing.TB, addr string) *load {
	c, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	c.SetDeadline(time.Now().Add(patience))
	var start, block, frame, update bytes.Buffer
	start.WriteString(http2.ClientPreface)
	http2.NewFramer(&start, nil).WriteSettings()
	enc := hpack.NewEncoder(&block)
	fields := []hpack.HeaderField{
		{Name: ":method", Value: "GET"}, {Name: ":scheme", Value: "http"}, {Name: ":path", Value: "/some/path?query=1"},
		{Name: ":authority", Value: "a.example"}, {Name: "user-agent", Value: "load/1.0"}, {Name: "accept", Value: "*/*"},
	}
	l := &load{Conn: c, buf: make([]byte, 64<<10), stream: 1}
	for i := range 2 { // the first one fills the table, the second one uses it
		block.Reset()
		for _, f := range fields {
			enc.WriteField(f)
		}
		frame.Reset()
		http2.NewFramer(&frame, nil).WriteHeaders(http2.HeadersFrameParam{
			StreamID: 1, BlockFragment: block.Bytes(), EndStream: true, EndHeaders: true,
		})
		if i == 0 {
			start.Write(frame.Bytes())
		}
	}
	l.request = bytes.Clone(frame.Bytes())
	http2.NewFramer(&update, nil).WriteWindowUpdate(0, 500)
	l.update = update.Bytes()
	if _, err := c.Write(start.Bytes()); err != nil {
		t.Fatal(err)
	}
	l.await(t, 1)
	return l
}

// run serves n requests, batch at a time.
func (l *load) run(t testing.TB, n, batch int) {
	for done := 0; done < n; done += batch {
		l.send(t, batch, done%100 == 0)
		l.await(t, batch)
	}
}

// send asks for batch responses, with room for a hundred more if update says so.
func (l *load) send(t testing.TB, batch int, update bool) {
	out := l.out[:0]
	for range batch {
		l.stream += 2
		at := len(out)
		out = append(out, l.request...)
		out[at+5], out[at+6], out[at+7], out[at+8] = byte(l.stream>>24), byte(l.stream>>16), byte(l.stream>>8), byte(l.stream)
	}
	if update {
		out = append(out, l.update...)
	}
	l.out = out
	if _, err := l.Write(out); err != nil {
		t.Fatal(err)
	}
}

// await reads until n streams have ended.
func (l *load) await(t testing.TB, n int) {
	for n > 0 {
		m, err := l.Read(l.buf[l.kept:])
		if err != nil {
			t.Fatal(err)
		}
		data := l.buf[:l.kept+m]
		for len(data) >= 9 {
			size := 9 + (int(data[0])<<16 | int(data[1])<<8 | int(data[2]))
			if len(data) < size {
				break
			}
			switch http2.FrameType(data[3]) {
			case http2.FrameData, http2.FrameHeaders:
				if data[4]&1 != 0 {
					n--
				}
			case http2.FrameRSTStream, http2.FrameGoAway:
				t.Fatalf("frame %x", data[:size])
			}
			data = data[size:]
		}
		l.kept = copy(l.buf, data)
	}
}

// eachProtocol runs a test in front of a back end of either protocol.
func eachProtocol(t *testing.T, run func(t *testing.T, s *server.Server, l *load, protocol config.BackendProtocol)) {
	for _, protocol := range []config.BackendProtocol{config.BackendHTTP1, config.BackendH2} {
		t.Run("to "+string(protocol), func(t *testing.T) {
			s, addr := startProxy(t, protocol, backEndOf(t, protocol))
			run(t, s, newLoad(t, addr), protocol)
		})
	}
}

func backEndOf(t testing.TB, protocol config.BackendProtocol) string {
	if protocol == config.BackendH2 {
		return h2BackEnd(t)
	}
	return fixedBackEnd(t)
}

func TestARequestAllocatesNothing(t *testing.T) {
	eachProtocol(t, func(t *testing.T, _ *server.Server, l *load, _ config.BackendProtocol) {
		l.run(t, 2000, 10)
		const requests = 10_000
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		l.run(t, requests, 10)
		runtime.ReadMemStats(&after)
		per := float64(after.Mallocs-before.Mallocs) / requests
		t.Logf("%.4f allocations per request", per)
		if !raceEnabled && per > 0.1 {
			t.Errorf("%.3f allocations per request, at most 0.1 are allowed", per)
		}
	})
}

// transfers reads the receives and sends of the only loop from the metrics.
func transfers(t *testing.T, s *server.Server) float64 {
	t.Helper()
	var b bytes.Buffer
	s.Registry().WritePrometheus(&b)
	m := regexp.MustCompile(`rauta_loop_transfers_total\{worker="0"\} (\S+)`).FindSubmatch(b.Bytes())
	if m == nil {
		t.Fatal("the metrics have no transfers")
	}
	n, err := strconv.ParseFloat(string(m[1]), 64)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// TestARequestReceivesAndSendsOnceOnEitherSide: and when several come at once, they share what is done for a connection
// that carries them all.
func TestARequestReceivesAndSendsOnceOnEitherSide(t *testing.T) {
	most := map[config.BackendProtocol]float64{config.BackendHTTP1: 3.1, config.BackendH2: 1} // of 20 at once
	eachProtocol(t, func(t *testing.T, s *server.Server, l *load, protocol config.BackendProtocol) {
		for _, c := range []struct {
			batch int
			most  float64
		}{{1, 4.05}, {20, most[protocol]}} {
			const requests = 4000
			l.run(t, 200, c.batch)
			before := transfers(t, s)
			l.run(t, requests, c.batch)
			per := (transfers(t, s) - before) / requests
			t.Logf("%d at once: %.3f receives and sends per request", c.batch, per)
			if per > c.most || per < 0.1 {
				t.Errorf("%d at once: %.3f receives and sends per request, at most %v are allowed", c.batch, per, c.most)
			}
		}
	})
}

func BenchmarkRequests(b *testing.B) {
	for _, protocol := range []config.BackendProtocol{config.BackendHTTP1, config.BackendH2} {
		for _, batch := range []int{1, 10, 100} {
			b.Run(string(protocol)+"/"+strconv.Itoa(batch), func(b *testing.B) {
				_, addr := startProxy(b, protocol, backEndOf(b, protocol))
				l := newLoad(b, addr)
				l.SetDeadline(time.Time{})
				b.ResetTimer()
				l.run(b, b.N, batch)
			})
		}
	}
}

// BenchmarkConnections has one stream each on many connections, which share a connection to the back end.
func BenchmarkConnections(b *testing.B) {
	for _, protocol := range []config.BackendProtocol{config.BackendHTTP1, config.BackendH2} {
		b.Run(string(protocol), func(b *testing.B) {
			_, addr := startProxy(b, protocol, backEndOf(b, protocol))
			var all [64]*load
			for i := range all {
				all[i] = newLoad(b, addr)
				all[i].SetDeadline(time.Time{})
			}
			b.ResetTimer()
			for round := 0; round*len(all) < b.N; round++ {
				for _, l := range all {
					l.send(b, 1, round%100 == 0)
				}
				for _, l := range all {
					l.await(b, 1)
				}
			}
		})
	}
}
