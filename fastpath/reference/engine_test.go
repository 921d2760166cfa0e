package reference

import (
	"io"
	"log/slog"
	"net"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/valyala/fasthttp"

	"rauta.io/rauta/fastpath"
	"rauta.io/rauta/internal/testrig"
	"rauta.io/rauta/proxy/exchange"
	"rauta.io/rauta/proxy/message"
	"rauta.io/rauta/proxy/observe"
	"rauta.io/rauta/proxy/snapshot"
)

// listening returns a started engine without configuration, and the address that it listens on.
func listening(t *testing.T, change func(*Options)) (*Engine, netip.AddrPort) {
	t.Helper()
	addr := netip.AddrPortFrom(netip.MustParseAddr("127.0.0.1"), testrig.FreePort(t))
	registry := observe.NewRegistry(observe.Options{Workers: 1, Methods: message.MethodNames()})
	opt := Options{
		Live: snapshot.NewLive(snapshot.Options{Workers: 1, Registry: registry}), Registry: registry,
		Settings: &exchange.Settings{}, Limits: fastpath.DefaultLimits(), Workers: 1,
		Log: slog.New(slog.NewTextHandler(io.Discard, nil)),
	}
	if change != nil {
		change(&opt)
	}
	e := New(opt)
	if err := e.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(e.Stop)
	if err := e.Open(addr); err != nil {
		t.Fatal(err)
	}
	return e, addr
}

// ask sends raw on a new connection and returns everything that comes back.
func ask(t *testing.T, addr netip.AddrPort, raw string) string {
	t.Helper()
	c, err := net.Dial("tcp", addr.String())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	c.SetDeadline(time.Now().Add(20 * time.Second))
	io.WriteString(c, raw)
	answer, err := io.ReadAll(c)
	if e, ok := err.(net.Error); ok && e.Timeout() {
		t.Fatalf("the connection stays open after %q", answer)
	}
	return string(answer)
}

func TestAPanicEndsItsConnectionOnlyAndIsNotAnswered(t *testing.T) {
	e, addr := listening(t, nil)
	e.http1.Handler = e.guarded(func(*fasthttp.RequestCtx) { panic("broken") })
	for range 2 {
		if answer := ask(t, addr, getHead); answer != "" {
			t.Errorf("the client got %q", answer)
		}
	}
}

func TestConnectionsBeyondTheLimitAreClosed(t *testing.T) {
	e, addr := listening(t, func(o *Options) { o.ConnectionsMax = 1 })
	first, err := net.Dial("tcp", addr.String())
	if err != nil {
		t.Fatal(err)
	}
	defer first.Close()
	for e.Busy() == 0 {
		time.Sleep(time.Millisecond)
	}
	if answer := ask(t, addr, getHead); answer != "" {
		t.Errorf("the second connection got %q", answer)
	}
	if n := e.Busy(); n != 1 {
		t.Errorf("%d connections, want 1", n)
	}
}

func TestAnAddressInUseIsAnError(t *testing.T) {
	e, addr := listening(t, nil)
	if err := e.Open(addr); err == nil || !strings.Contains(err.Error(), addr.String()) {
		t.Errorf("error %v", err)
	}
}

func TestStopEndsWhatIsOpen(t *testing.T) {
	e, addr := listening(t, nil)
	c, err := net.Dial("tcp", addr.String())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	c.SetDeadline(time.Now().Add(20 * time.Second))
	io.WriteString(c, "GET / HTTP/1.1\r\nHo")
	for e.Busy() == 0 {
		time.Sleep(time.Millisecond)
	}
	e.Stop()
	if rest, err := io.ReadAll(c); len(rest) > 0 {
		t.Errorf("%q came, error %v", rest, err)
	}
	if n := e.Busy(); n != 0 {
		t.Errorf("%d connections are left", n)
	}
}
