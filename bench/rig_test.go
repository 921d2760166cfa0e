package bench

import (
	"bytes"
	"context"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"testing"
	"time"

	"rauta.io/rauta/fastpath"
	"rauta.io/rauta/internal/testrig"
	"rauta.io/rauta/proxy/config"
	"rauta.io/rauta/proxy/message"
	"rauta.io/rauta/proxy/observe"
	"rauta.io/rauta/proxy/server"
)

const response = "HTTP/1.1 200 OK\r\nServer: bench\r\nDate: Mon, 23 Nov 2026 00:00:00 GMT\r\n" +
	"Content-Type: text/plain\r\nContent-Length: 100\r\n\r\n" +
	"0123456789012345678901234567890123456789012345678901234567890123456789012345678901234567890123456789"

// A client that is part of a trace, in both formats.
const (
	tracedW3C = "traceparent: 00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01\r\ntracestate: a=b\r\n"
	tracedB3  = "b3: 0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-1\r\n"
)

const request = "GET /api/v1/things HTTP/1.1\r\nHost: app.example.com\r\nUser-Agent: bench/1.0\r\nAccept: */*\r\n\r\n"

// startBackend answers whatever ends with an empty line, without allocating per request.
func startBackend(tb testing.TB) string {
	return testrig.Listen(tb, func(c net.Conn) {
		buf := make([]byte, 16<<10)
		answer := []byte(response)
		for {
			n, err := c.Read(buf)
			if err != nil {
				return
			}
			if bytes.HasSuffix(buf[:n], []byte("\r\n\r\n")) {
				if _, err := c.Write(answer); err != nil {
					return
				}
			}
		}
	})
}

// startProxy runs one worker of the loop with routes rules, the last of which takes the request.
func startProxy(tb testing.TB, routes int, options ...func(*server.Options)) (*server.Server, string) {
	addr := netip.AddrPortFrom(netip.MustParseAddr("127.0.0.1"), testrig.FreePort(tb))
	cfg, eps := manyRoutes(addr.Port(), routes, startBackend(tb))
	opt := server.Options{
		Workers: 1, Registry: observe.NewRegistry(observe.Options{Workers: 1, Methods: message.MethodNames()}),
		Bind: "127.0.0.1", Limits: fastpath.DefaultLimits(), DrainTime: time.Second,
		Log: slog.New(slog.NewTextHandler(io.Discard, nil)),
	}
	for _, o := range options {
		o(&opt)
	}
	s, err := server.New(opt)
	if err != nil {
		tb.Fatal(err)
	}
	if err := s.Start(); err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { s.Drain(context.Background()) })
	if err := s.Publish(cfg, eps); err != nil {
		tb.Fatal(err)
	}
	return s, addr.String()
}

func manyRoutes(port uint16, routes int, backend string) (*config.Config, config.Endpoints) {
	cfg := &config.Config{
		Listeners: []config.Listener{{Name: "bench/gw/http", Port: port, Protocol: config.ProtocolHTTP}},
		Clusters:  []config.Cluster{{Name: "bench/app:80"}},
	}
	for i := range routes {
		name := "httproute/bench/r" + string(rune('a'+i%26)) + itoa(i)
		path := "/r" + itoa(i)
		if i == routes-1 {
			path = "/api"
		}
		cfg.Routes = append(cfg.Routes, &config.Route{
			Name: name, Source: config.Source{Kind: "HTTPRoute", Namespace: "bench", Name: name},
			Rules: []config.Rule{{
				Name:     "0",
				Matches:  []config.Match{{Path: config.PathMatch{Kind: config.PathPrefix, Value: path}}},
				Backends: []config.Backend{{Cluster: "bench/app:80", Weight: 1}},
			}},
		})
		cfg.Listeners[0].Attached = append(cfg.Listeners[0].Attached, config.Attachment{Route: name, Hostnames: []string{""}})
	}
	return cfg, config.Endpoints{"bench/app:80": {{Address: backend}}}
}

func itoa(i int) string {
	if i < 10 {
		return string(rune('0' + i))
	}
	return itoa(i/10) + string(rune('0'+i%10))
}

// client sends the request and reads the response over and over, without allocating.
type client struct {
	c   net.Conn
	req []byte
	buf []byte
}

func newClient(tb testing.TB, addr string) *client {
	c, err := net.Dial("tcp", addr)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { c.Close() })
	return &client{c, []byte(request), make([]byte, 16<<10)}
}

func (c *client) exchange(tb testing.TB) {
	if _, err := c.c.Write(c.req); err != nil {
		tb.Fatal(err)
	}
	have := 0
	for {
		n, err := c.c.Read(c.buf[have:])
		if err != nil {
			tb.Fatal(err)
		}
		have += n
		if i := bytes.Index(c.buf[:have], []byte("\r\n\r\n")); i >= 0 && have == i+4+100 {
			break
		}
	}
	if !bytes.HasPrefix(c.buf, []byte("HTTP/1.1 200")) {
		tb.Fatalf("answered %q", c.buf[:have])
	}
}
