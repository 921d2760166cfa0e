// Package blackbox holds what every engine must do, seen from outside: raw bytes in, raw bytes out, against scripted
// back ends. The same tests run against the loop and the reference engine.
package blackbox

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"rauta.io/rauta/fastpath"
	"rauta.io/rauta/internal/testrig"
	"rauta.io/rauta/proxy/config"
	"rauta.io/rauta/proxy/exchange"
	"rauta.io/rauta/proxy/message"
	"rauta.io/rauta/proxy/observe"
	"rauta.io/rauta/proxy/server"
)

// patience bounds every wait of the tests; nothing is expected to take that long.
const patience = 20 * time.Second

// rig is a running data plane with one route to the back ends of a test.
type rig struct {
	t        *testing.T
	server   *server.Server
	registry *observe.Registry
	addr     string
	port     uint16
	config   *config.Config
}

type option func(*server.Options, *config.Config)

// start runs a data plane, on the engine of the subtest (see onEveryEngine), that sends everything to the endpoints.
func start(t *testing.T, endpoints []string, options ...option) *rig {
	t.Helper()
	port := testrig.FreePort(t)
	cfg := &config.Config{
		Listeners: []config.Listener{{
			Name: "default/gw/http", Port: port, Protocol: config.ProtocolHTTP,
			Attached: []config.Attachment{{Route: "httproute/default/all", Hostnames: []string{""}}},
		}},
		Routes: []*config.Route{{
			Name:   "httproute/default/all",
			Source: config.Source{Kind: "HTTPRoute", Namespace: "default", Name: "all"},
			Rules: []config.Rule{{
				Name:     "0",
				Matches:  []config.Match{{Path: config.PathMatch{Kind: config.PathPrefix, Value: "/"}}},
				Backends: []config.Backend{{Cluster: "default/app:80", Weight: 1}},
			}},
		}},
		Clusters: []config.Cluster{{Name: "default/app:80"}},
	}
	opt := server.Options{
		Workers: 2, Registry: observe.NewRegistry(observe.Options{Workers: 2, Methods: message.MethodNames()}),
		Bind: "127.0.0.1", Limits: fastpath.DefaultLimits(), DrainTime: 2 * time.Second,
		Log: slog.New(errorLog{slog.DiscardHandler, t}), Plane: planeOf(t),
	}
	for _, o := range options {
		o(&opt, cfg)
	}
	if testrig.EBPF(t) == testrig.EBPFAll && opt.Kernel == nil && opt.Plane == nil {
		watched(t)(&opt, cfg)
	}
	s, err := server.New(opt)
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Start(); err != nil {
		t.Fatal(err)
	}
	r := &rig{
		t: t, server: s, registry: opt.Registry, port: port, config: cfg,
		addr: netip.AddrPortFrom(netip.MustParseAddr("127.0.0.1"), port).String(),
	}
	r.publish(endpoints...)
	t.Cleanup(func() {
		// Nothing is under way any more: stop at once instead of waiting for what might still be queued.
		ctx, cancel := context.WithCancel(context.Background())
		cancel()
		s.Drain(ctx)
	})
	return r
}

func (r *rig) publish(endpoints ...string) {
	r.t.Helper()
	eps := config.Endpoints{}
	for _, e := range endpoints {
		eps["default/app:80"] = append(eps["default/app:80"], config.Endpoint{Address: e})
	}
	if err := r.server.Publish(r.config, eps); err != nil {
		r.t.Fatal(err)
	}
}

// timeout bounds requests from the next publish on. What was published stays as it is.
func (r *rig) timeout(request time.Duration) {
	next, route := *r.config, *r.config.Routes[0]
	route.Rules = slices.Clone(route.Rules)
	route.Rules[0].Timeouts.Request = config.Duration(request)
	next.Routes = append([]*config.Route{&route}, next.Routes[1:]...)
	r.config = &next
}

func limits(f func(*fastpath.Limits)) option {
	return func(o *server.Options, _ *config.Config) { f(&o.Limits) }
}

func settings(s exchange.Settings) option {
	return func(o *server.Options, _ *config.Config) { o.Settings = s }
}

func rule(f func(*config.Rule)) option {
	return func(_ *server.Options, c *config.Config) { f(&c.Routes[0].Rules[0]) }
}

// client is a raw connection to the proxy.
type client struct {
	t *testing.T
	*net.TCPConn
	r *bufio.Reader
}

func (r *rig) dial() *client {
	r.t.Helper()
	c, err := net.Dial("tcp", r.addr)
	if err != nil {
		r.t.Fatal(err)
	}
	c.SetDeadline(time.Now().Add(patience))
	r.t.Cleanup(func() { c.Close() })
	return &client{r.t, c.(*net.TCPConn), bufio.NewReader(c)}
}

func (c *client) send(s string) {
	c.t.Helper()
	if _, err := io.WriteString(c.TCPConn, s); err != nil {
		c.t.Fatalf("send: %v", err)
	}
}

// reply is a response with its body read.
type reply struct {
	*http.Response
	body string
	err  error // of the body
}

// receive reads one response to a request with the method.
func (c *client) receive(method string) reply {
	c.t.Helper()
	resp, err := http.ReadResponse(c.r, &http.Request{Method: method})
	if err != nil {
		c.t.Fatalf("read a response: %v", err)
	}
	if resp.StatusCode < 200 && resp.StatusCode != 101 {
		return reply{Response: resp}
	}
	if resp.StatusCode == 101 {
		return reply{Response: resp}
	}
	body, err := io.ReadAll(resp.Body)
	return reply{resp, string(body), err}
}

func (c *client) do(raw string) reply {
	c.t.Helper()
	c.send(raw)
	method, _, _ := strings.Cut(raw, " ")
	return c.receive(method)
}

// closedByPeer waits for the end of the connection; it reports whether anything came before it.
func (c *client) closedByPeer() (rest []byte, closed bool) {
	rest, err := io.ReadAll(c.r)
	var timeout net.Error
	if e, ok := err.(net.Error); ok {
		timeout = e
	}
	return rest, timeout == nil || !timeout.Timeout()
}

// backend is a scripted server: every connection runs serve.
type backend struct {
	addr string
	l    net.Listener

	mu       sync.Mutex
	conns    int
	requests []string
}

// conn is a connection at a backend.
type conn struct {
	net.Conn
	r *bufio.Reader
	b *backend
	n int // index of the connection, from 0
}

func newBackend(t *testing.T, serve func(c *conn)) *backend {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	b := &backend{addr: l.Addr().String(), l: l}
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			nc, err := l.Accept()
			if err != nil {
				return
			}
			nc.SetDeadline(time.Now().Add(patience))
			b.mu.Lock()
			c := &conn{nc, bufio.NewReader(nc), b, b.conns}
			b.conns++
			b.mu.Unlock()
			go func() {
				defer nc.Close()
				serve(c)
			}()
		}
	}()
	return b
}

// head reads a request head and returns it as it came, "" at the end of the connection.
func (c *conn) head() string {
	var head bytes.Buffer
	for {
		line, err := c.r.ReadString('\n')
		head.WriteString(line)
		if err != nil {
			return ""
		}
		if line == "\r\n" {
			c.b.mu.Lock()
			c.b.requests = append(c.b.requests, head.String())
			c.b.mu.Unlock()
			return head.String()
		}
	}
}

func (c *conn) write(s string) { io.WriteString(c, s) }

// read reads exactly n bytes.
func (c *conn) read(n int) string {
	b := make([]byte, n)
	if _, err := io.ReadFull(c.r, b); err != nil {
		return ""
	}
	return string(b)
}

func (b *backend) seen() []string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return append([]string(nil), b.requests...)
}

func (b *backend) connections() int {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.conns
}

// answering serves every request on a connection with the same response.
func answering(response string) func(*conn) {
	return func(c *conn) {
		for c.head() != "" {
			c.write(response)
		}
	}
}

// echo is an HTTP back end of net/http that sends the body back.
func echo(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			panic(http.ErrAbortHandler)
		}
		w.Header().Set("X-Method", r.Method)
		if r.URL.Query().Get("chunked") == "" {
			w.Header().Set("Content-Length", fmt.Sprint(len(body)))
		}
		w.Write(body)
	})}
	go s.Serve(l)
	t.Cleanup(func() { s.Close() })
	return l.Addr().String()
}

const ok = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"

// until polls a condition that becomes true by itself.
func until(t *testing.T, what string, f func() bool) {
	t.Helper()
	deadline := time.Now().Add(patience)
	for !f() {
		if time.Now().After(deadline) {
			t.Fatalf("waited in vain for: %s", what)
		}
		time.Sleep(2 * time.Millisecond)
	}
}
