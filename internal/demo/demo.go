// Package demo has the back ends that the quick start proxies to: small servers that say what reached them.
//
// It owns the demo servers on loopback addresses and the certificate that RAUTA serves there. It does not own RAUTA's
// own start. The hidden subcommand
// `rauta demo`, which `make run` runs, calls it.
package demo

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/coder/websocket"
)

// Backend is one demo back end.
type Backend struct {
	// Name is the Service in the quick start, Addr where its EndpointSlice says it is.
	Name, Addr string
	// GRPC back ends speak HTTP/2 without TLS, the others HTTP/1.1.
	GRPC bool
}

// Quickstart are the back ends of examples/quickstart.
func Quickstart() []Backend {
	return []Backend{
		{Name: "web", Addr: "127.0.0.1:18081"}, {Name: "api", Addr: "127.0.0.1:18082"},
		{Name: "api-canary", Addr: "127.0.0.1:18083"}, {Name: "echo", Addr: "127.0.0.1:18084", GRPC: true},
	}
}

const (
	// slowTime is how long /slow takes; longer than the timeout in the quick start.
	slowTime = 2 * time.Second
	// bodyBytesMax bounds what is read of a request body, in bytes.
	bodyBytesMax = 1 << 20
	// headTimeout bounds how long a client may take for a request head.
	headTimeout = 10 * time.Second
)

// Servers are running back ends.
type Servers struct {
	servers []*http.Server
	serving sync.WaitGroup
}

// Start starts all back ends, or none. A port that is taken is named in the error.
func Start(backends []Backend) (*Servers, error) {
	s := &Servers{}
	listeners := []net.Listener{}
	for _, b := range backends {
		l, err := net.Listen("tcp", b.Addr)
		if err != nil {
			for _, l := range listeners {
				l.Close()
			}
			if errors.Is(err, syscall.EADDRINUSE) {
				return nil, fmt.Errorf("start demo back end %s: %s is in use by another program: stop that program and try again", b.Name, b.Addr)
			}
			return nil, fmt.Errorf("start demo back end %s: %w", b.Name, err)
		}
		listeners = append(listeners, l)
	}
	for i, b := range backends {
		server := &http.Server{Handler: Handler(b.Name), ReadHeaderTimeout: headTimeout}
		if b.GRPC {
			server.Handler, server.Protocols = GRPCHandler(b.Name), &http.Protocols{}
			server.Protocols.SetUnencryptedHTTP2(true)
		}
		s.servers = append(s.servers, server)
		s.serving.Go(func() { server.Serve(listeners[i]) })
	}
	return s, nil
}

// Stop ends all back ends at once.
func (s *Servers) Stop() {
	for _, server := range s.servers {
		server.Close()
	}
	s.serving.Wait()
}

// Handler answers as the back end called name: with its name and what it received, on /slow after a while, on /ws as a
// WebSocket that sends back what it gets, and on /browser with a page that tries this from a browser.
func Handler(name string) http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) { echo(w, r, name) })
	mux.HandleFunc("/slow", func(w http.ResponseWriter, r *http.Request) {
		select {
		case <-time.After(slowTime):
			echo(w, r, name)
		case <-r.Context().Done():
		}
	})
	mux.HandleFunc("/browser", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/html; charset=utf-8")
		io.WriteString(w, browserPage)
	})
	mux.HandleFunc("/ws", func(w http.ResponseWriter, r *http.Request) {
		c, err := websocket.Accept(w, r, &websocket.AcceptOptions{InsecureSkipVerify: true}) // any origin: it only echoes
		if err != nil {
			return
		}
		defer c.CloseNow()
		echoMessages(r.Context(), c)
	})
	return mux
}

// browserPage says which protocol it came with, and what a WebSocket of the same origin sends back.
const browserPage = `<!doctype html>
<title>RAUTA quick start</title>
<p>This page came with <b id="protocol">...</b>. Over a WebSocket came back: <b id="echo">nothing yet</b>.</p>
<script>
const show = (id, text) => document.getElementById(id).textContent = text;
show("protocol", performance.getEntriesByType("navigation")[0].nextHopProtocol);
const socket = new WebSocket(location.origin.replace("http", "ws") + "/ws");
socket.onopen = () => socket.send("hello from a browser");
socket.onmessage = (event) => { show("echo", event.data); socket.close(1000); };
socket.onerror = () => show("echo", "an error");
socket.onclose = (event) => document.title = "closed with " + event.code;
</script>
`

// echo writes what was received.
func echo(w http.ResponseWriter, r *http.Request, name string) {
	n, err := io.Copy(io.Discard, http.MaxBytesReader(w, r.Body, bodyBytesMax))
	if err != nil {
		http.Error(w, "the body could not be read", http.StatusBadRequest)
		return
	}
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	w.Header().Set("X-Backend", name)
	var b strings.Builder
	fmt.Fprintf(&b, "back end: %s\nrequest:  %s %s\nhost:     %s\n", name, r.Method, r.URL.RequestURI(), r.Host)
	for _, field := range slices.Sorted(maps.Keys(r.Header)) {
		fmt.Fprintf(&b, "  %s: %s\n", field, strings.Join(r.Header[field], ", "))
	}
	if n > 0 {
		fmt.Fprintf(&b, "body:     %d bytes\n", n)
	}
	io.WriteString(w, b.String())
}

// echoMessages sends back each message until the client goes.
func echoMessages(ctx context.Context, c *websocket.Conn) {
	for {
		kind, message, err := c.Read(ctx)
		if err != nil {
			return
		}
		if err := c.Write(ctx, kind, message); err != nil {
			return
		}
	}
}
