//go:build linux

package dial

import (
	"errors"
	"net"
	"syscall"
	"testing"
	"time"

	"rauta.io/rauta/proxy/config"
	"rauta.io/rauta/proxy/loop"
	"rauta.io/rauta/proxy/upstream"
)

func TestTheEngineOfTheProtocolGetsTheConnection(t *testing.T) {
	r := newRig(t)
	addr := backend(t, hold)
	for protocol, engine := range map[config.BackendProtocol]string{
		"": "http1", config.BackendHTTP1: "http1", config.BackendH2: "http2",
	} {
		if o := r.dial(r.cluster(config.Cluster{Protocol: protocol}, addr)); o.engine != engine {
			t.Errorf("protocol %q: %+v, want %s", protocol, o, engine)
		}
	}
}

func TestARefusedConnectIsAFailureOfTheConnect(t *testing.T) {
	r := newRig(t)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	l.Close()
	f := r.dial(r.cluster(config.Cluster{}, l.Addr().String())).failure
	if f.Stage != upstream.StageConnect || f.Cause != upstream.CauseConnectFailed || !errors.Is(f.Err, syscall.ECONNREFUSED) {
		t.Errorf("%+v", f)
	}
}

// stuffed returns an address whose queue is full, so that a connect to it never ends.
func stuffed(t *testing.T) string {
	t.Helper()
	fd, err := syscall.Socket(syscall.AF_INET, syscall.SOCK_STREAM|syscall.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { syscall.Close(fd) })
	if err := errors.Join(syscall.Bind(fd, &syscall.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}}), syscall.Listen(fd, 0)); err != nil {
		t.Fatal(err)
	}
	sa, err := syscall.Getsockname(fd)
	if err != nil {
		t.Fatal(err)
	}
	addr := net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: sa.(*syscall.SockaddrInet4).Port}
	for range 16 { // the queue takes one or two; the others hang
		c, err := net.DialTimeout("tcp", addr.String(), 300*time.Millisecond)
		if err != nil {
			return addr.String()
		}
		t.Cleanup(func() { c.Close() })
	}
	t.Fatal("a queue for one has room for 16")
	return ""
}

func TestAConnectThatNeverEndsIsGivenUp(t *testing.T) {
	r := newRig(t)
	timeout := config.Duration(20 * time.Millisecond)
	f := r.dial(r.cluster(config.Cluster{ConnectTimeout: timeout}, stuffed(t))).failure
	if f.Stage != upstream.StageConnect || f.Cause != upstream.CauseConnectTimeout {
		t.Errorf("%+v", f)
	}
}

// TestABackEndThatSpeaksFirstIsNotUsed: its bytes would be taken for the response to the first request.
func TestABackEndThatSpeaksFirstIsNotUsed(t *testing.T) {
	for name, c := range map[string]struct {
		act   func(net.Conn)
		cause upstream.Cause
	}{
		"bytes": {func(c net.Conn) { _, _ = c.Write([]byte("HTTP/1.1 200 OK\r\n\r\n")) }, upstream.CauseProtocol},
		"end":   {func(c net.Conn) { c.Close() }, upstream.CauseEOF},
	} {
		r := newRig(t)
		done := make(chan struct{}, 1)
		addr := backend(t, func(nc net.Conn) {
			c.act(nc)
			done <- struct{}{}
			hold(nc)
		})
		// The worker is held in a callback until the back end has acted, so that both come with one event; the kernel may
		// take a moment to move what was sent from one socket to the other.
		cluster := r.cluster(config.Cluster{}, addr)
		r.loop.Post(func() {
			cluster.Set().Endpoints()[0].Pool(r.upstream).Acquire(&upstream.Waiter{Sink: &sink{r.outcomes}})
			<-done
			time.Sleep(100 * time.Millisecond)
		})
		o := <-r.outcomes
		if o.failure.Stage != upstream.StageConnect || o.failure.Cause != c.cause {
			t.Errorf("%s: %+v", name, o)
		}
	}
}

func TestSettingsThatABackEndSendsFirstReachTheEngine(t *testing.T) {
	r := newRig(t)
	r.http2.wait = true
	addr := backend(t, func(c net.Conn) { _, _ = c.Write([]byte("settings")); hold(c) })
	o := r.dial(r.cluster(config.Cluster{Protocol: config.BackendH2}, addr))
	if o.engine != "http2" || o.events&loop.Readable == 0 || o.read != "settings" {
		t.Errorf("%+v", o)
	}
}

func TestAProtocolThatNobodySpeaksFails(t *testing.T) {
	r := newRig(t)
	r.upstream.Dialer.(*Dialer).http2 = nil
	f := r.dial(r.cluster(config.Cluster{Protocol: config.BackendH2}, backend(t, hold))).failure
	if f.Stage != upstream.StageConnect || f.Cause != upstream.CauseProtocol || f.Detail != "http2_not_spoken" {
		t.Errorf("%+v", f)
	}
}
