//go:build linux && (amd64 || arm64)

package bpf_test

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"rauta.io/rauta/bpf"
	"rauta.io/rauta/proxy/message"
	"rauta.io/rauta/proxy/observe"
)

// client is a connection that carries one request after another.
type client struct {
	t      *testing.T
	conn   *net.TCPConn
	reader *bufio.Reader
}

func dial(t *testing.T, port uint16) *client {
	t.Helper()
	conn, err := net.Dial("tcp", fmt.Sprintf("127.0.0.1:%d", port))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	return &client{t: t, conn: conn.(*net.TCPConn), reader: bufio.NewReader(conn)}
}

func (c *client) get(path string) {
	c.t.Helper()
	fmt.Fprintf(c.conn, "GET %s HTTP/1.1\r\nHost: a.example\r\n\r\n", path)
	response, err := http.ReadResponse(c.reader, nil)
	if err == nil {
		_, err = io.Copy(io.Discard, response.Body)
	}
	if err != nil || response.StatusCode != http.StatusOK {
		c.t.Fatal(response, err)
	}
}

// backend answers every request with 200 and hands out its connections.
func backend(t *testing.T) (address string, conns chan net.Conn) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	conns = make(chan net.Conn, 1000)
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			conns <- c
			go func() {
				reader := bufio.NewReader(c)
				for {
					request, err := http.ReadRequest(reader)
					if err != nil {
						return
					}
					_, _ = io.Copy(io.Discard, request.Body)
					_, _ = io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
				}
			}()
		}
	}()
	return l.Addr().String(), conns
}

func page(registry *observe.Registry) string {
	var b strings.Builder
	registry.WritePrometheus(&b)
	return b.String()
}

// awaitMetric waits for a part of the page of metrics, and does something in between.
func awaitMetric(t *testing.T, registry *observe.Registry, part string, between func()) {
	t.Helper()
	const most = 20 * time.Second
	for end := time.Now().Add(most); !strings.Contains(page(registry), part); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("no %q in\n%s", part, page(registry))
		}
		between()
	}
}

func TestConnectionsThatAreOlderThanTheProgramsAreWatchedOnceTheseCame(t *testing.T) {
	const workers, clients = 2, 200 // more for a worker than are told of in one turn
	registry := observe.NewRegistry(observe.Options{Workers: workers, Methods: message.MethodNames()})
	kernel, tier := bpf.Open(registry)
	if kernel == nil {
		t.Skipf("the kernel takes no programs here: %s", tier.Reason)
	}
	if tier = kernel.WatchRequests(workers, 1, tier); kernel.Requests(0) == nil {
		kernel.Close()
		t.Skipf("the kernel does not watch requests here: %s", tier.Reason)
	}
	released := make(chan struct{})
	late := bpf.Later(func() (*bpf.Kernel, func()) {
		<-released
		return kernel, func() {}
	})
	t.Cleanup(late.Close)
	address, accepted := backend(t)
	port := serve(t, registry, late, workers, address)
	var all []*client
	for range clients {
		c := dial(t, port)
		c.get("/r1")
		all = append(all, c)
	}
	toBackend := len(accepted)
	close(released)
	nothing := func() {}
	last := all[clients-1]
	awaitMetric(t, registry, "\nrauta_kernel_request_seconds_count{", func() { last.get("/r2") })
	const each = 5
	for range each + 1 { // of each connection all but the first, which comes before the first that is awaited
		for _, c := range all {
			c.get("/r3")
		}
	}
	awaitMetric(t, registry, fmt.Sprintf("\nrauta_kernel_request_seconds_count{route=\"httproute/default/r3\"} %d\n", clients*each+1), nothing)
	if len(accepted) != toBackend {
		t.Fatalf("%d connections to the back end, there were %d", len(accepted), toBackend)
	}
	_ = last.conn.SetLinger(0)
	last.conn.Close()
	awaitMetric(t, registry, "\nrauta_client_tcp_resets_total{direction=\"received\"} 1\n", nothing)
	first := (<-accepted).(*net.TCPConn)
	_ = first.SetLinger(0)
	first.Close()
	series := fmt.Sprintf("{cluster=\"default/app:80\",endpoint=\"%s\",direction=\"received\"} ", address)
	awaitMetric(t, registry, "\nrauta_backend_tcp_resets_total"+series+"1\n", nothing)
	if text := page(registry); !strings.Contains(text, "\nrauta_backend_tcp_bytes_total"+series) ||
		strings.Contains(text, "\nrauta_backend_tcp_connect_seconds_count") || !strings.Contains(text, "\nrauta_ebpf_failures_total 0\n") {
		t.Errorf("the metrics are\n%s", text)
	}
}
