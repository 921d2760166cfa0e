package blackbox

import (
	"errors"
	"io"
	"net"
	"net/netip"
	"strings"
	"syscall"
	"testing"
	"time"

	"rauta.io/rauta/internal/testrig"
	"rauta.io/rauta/proxy/config"
	"rauta.io/rauta/proxy/server"
)

// overTCP forwards the rig's port without looking into it. These tests are for the loop: the reference engine speaks HTTP
// only.
func overTCP(edit ...func(*config.L4Route)) option {
	return func(_ *server.Options, c *config.Config) {
		c.Listeners[0].Protocol = config.ProtocolTCP
		c.Listeners[0].Attached = []config.Attachment{{Route: "tcproute/default/all", Hostnames: []string{""}}}
		route := config.L4Route{
			Name: "tcproute/default/all", Source: config.Source{Kind: "TCPRoute", Namespace: "default", Name: "all"},
			Backends: []config.Backend{{Cluster: "default/app:80", Weight: 1}},
		}
		for _, f := range edit {
			f(&route)
		}
		c.Routes, c.L4Routes = nil, []config.L4Route{route}
	}
}

// echoing sends back what comes, and closes when the client does.
func echoing(c *conn) { io.Copy(c, c.r) }

// counts returns the value of a series, 0 if there is none.
func (r *rig) metric(series string) string {
	var text strings.Builder
	r.registry.WritePrometheus(&text)
	for line := range strings.Lines(text.String()) {
		if name, value, ok := strings.Cut(strings.TrimSpace(line), "} "); ok && name+"}" == series {
			return value
		}
	}
	return "0"
}

// settles waits until a series has a value.
func (r *rig) settles(series, value string) {
	r.t.Helper()
	got := ""
	deadline := time.Now().Add(patience)
	for got = r.metric(series); got != value; got = r.metric(series) {
		if time.Now().After(deadline) {
			r.t.Fatalf("%s is %s, want %s", series, got, value)
		}
		time.Sleep(2 * time.Millisecond)
	}
}

// quiet waits until nothing is left of any connection.
func (r *rig) quiet() {
	r.t.Helper()
	var u server.Usage
	deadline := time.Now().Add(patience)
	for u, _ = r.server.Usage(); u.Clients+u.Buffers+u.Upstream > 0; u, _ = r.server.Usage() {
		if time.Now().After(deadline) {
			r.t.Fatalf("this is left: %+v", u)
		}
		time.Sleep(2 * time.Millisecond)
	}
}

// exchange sends s and expects the same back.
func (c *client) exchange(s string) {
	c.t.Helper()
	c.send(s)
	got := make([]byte, len(s))
	if n, err := io.ReadFull(c.r, got); err != nil || string(got) != s {
		c.t.Fatalf("%d of %d bytes came back: %v", n, len(s), err)
	}
}

// wasReset reads to the end of a connection and says whether that was a reset, with nothing before it.
func wasReset(c io.Reader) bool {
	b, err := io.ReadAll(c)
	return len(b) == 0 && errors.Is(err, syscall.ECONNRESET)
}

// refused connects and says whether the connection is reset before anything comes, which may be before connect has
// returned.
func (r *rig) refused() bool {
	r.t.Helper()
	c, err := net.Dial("tcp", r.addr)
	if err != nil {
		return errors.Is(err, syscall.ECONNRESET)
	}
	defer c.Close()
	c.SetDeadline(time.Now().Add(patience))
	c.(*net.TCPConn).CloseWrite()
	return wasReset(c)
}

// abort closes with a reset.
func abort(c *net.TCPConn) {
	c.SetLinger(0)
	c.Close()
}

// loopbackPort lets the kernel choose a port.
var loopbackPort = netip.MustParseAddrPort("127.0.0.1:0")

// deadEnd is an address at which nobody listens.
func deadEnd(t *testing.T) string {
	return netip.AddrPortFrom(netip.MustParseAddr("127.0.0.1"), testrig.FreePort(t)).String()
}
