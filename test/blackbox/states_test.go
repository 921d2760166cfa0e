package blackbox

import (
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"rauta.io/rauta/proxy/config"
	"rauta.io/rauta/proxy/message"
	"rauta.io/rauta/proxy/observe"
	"rauta.io/rauta/proxy/server"
)

func oneWorker(o *server.Options, _ *config.Config) {
	o.Workers = 1
	o.Registry = observe.NewRegistry(observe.Options{Workers: 1, Methods: message.MethodNames()})
}

// usage is what the loops' connections hold.
func (r *rig) usage() server.Usage {
	r.t.Helper()
	u, ok := r.server.Usage()
	if !ok {
		r.t.Fatal("this engine does not tell what it holds")
	}
	return u
}

// TestABackEndThatHalfClosesATunnelStillGetsAllOfIt has the back end close its half first and read late, so that further
// events of its socket repeat the end that has been read already.
func TestABackEndThatHalfClosesATunnelStillGetsAllOfIt(t *testing.T) {
	const size = 16 << 20
	got, goOn := make(chan int64, 1), make(chan bool)
	b := newBackend(t, func(c *conn) {
		c.head()
		c.write("HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n")
		c.Conn.(*net.TCPConn).CloseWrite()
		<-goOn
		n, _ := io.Copy(io.Discard, c.r)
		got <- n
	})
	r := start(t, []string{b.addr})
	c := r.dial()
	if got := c.do("GET / HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n"); got.StatusCode != 101 {
		t.Fatal(got.StatusCode)
	}
	if _, err := c.r.ReadByte(); err != io.EOF {
		t.Fatalf("the end of the back end's half: %v", err)
	}
	go func() {
		io.WriteString(c.TCPConn, strings.Repeat("x", size))
		c.CloseWrite()
	}()
	until(t, "the tunnel to fill up", func() bool { return r.usage().Buffers > 0 })
	close(goOn)
	if n := <-got; n != size {
		t.Errorf("the back end got %d bytes of %d", n, size)
	}
	until(t, "the tunnel to end", func() bool { return r.usage() == server.Usage{} })
}

// holdsBytes reports whether bytes wait for a client that does not take them: what only waits for the end of a turn is
// gone at the next look.
func (r *rig) holdsBytes() bool {
	for range 5 {
		if r.usage().Buffers == 0 {
			return false
		}
	}
	return true
}

// stuck returns a client that takes nothing of an early answer, whose end waits in the proxy, and that owes the rest of
// its request.
func stuck(t *testing.T) (*rig, *client) {
	t.Helper()
	var r *rig
	started, ended := make(chan bool), make(chan bool)
	b := newBackend(t, func(c *conn) {
		c.head()
		<-started
		c.write("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
		piece := fmt.Sprintf("%x\r\n%s\r\n", 8<<10, strings.Repeat("y", 8<<10))
		for !r.holdsBytes() {
			c.write(piece)
		}
		c.write("0\r\n\r\n")
		io.Copy(io.Discard, c.r)
		close(ended)
	})
	r = start(t, []string{b.addr}, oneWorker)
	c := r.dial()
	c.send("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n")
	close(started)
	<-ended // the proxy has the whole answer and has given up the connection to the back end
	return r, c
}

func TestNothingIsGatheredBehindABadChunkWhileAnEarlyAnswerWaits(t *testing.T) {
	const much = 64 << 20
	_, c := stuck(t)
	c.send("zz\r\n")
	c.SetWriteDeadline(time.Now().Add(time.Second))
	n, err := io.WriteString(c.TCPConn, strings.Repeat("z", much))
	if !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("%d bytes behind a bad chunk were taken, %v", n, err)
	}
}

func TestAClientThatStopsSendingAfterAnEarlyAnswerGetsAllOfIt(t *testing.T) {
	r, c := stuck(t)
	c.CloseWrite()
	if n := r.usage().Exchanges; n != 1 {
		t.Errorf("%d exchanges are under way, want the one whose answer waits", n)
	}
	if got := c.receive("POST"); got.err != nil || len(got.body) == 0 || len(got.body)%(8<<10) != 0 {
		t.Errorf("%d bytes, %v", len(got.body), got.err)
	}
	until(t, "the connection and the exchange to end", func() bool { return r.usage().Clients+r.usage().Exchanges == 0 })
}

// TestWhatABackEndSendsTooMuchIsNobodysResponse ends a response exactly where the proxy's read of 64 KiB ends, so that what
// follows is still in the socket when the next request gets the connection. Both are in one segment, or nobody could tell
// what comes late from a response: the window has to have room for all of it.
func TestWhatABackEndSendsTooMuchIsNobodysResponse(t *testing.T) {
	const head = "HTTP/1.1 200 OK\r\nContent-Length: 65000\r\nX-Pad: "
	evil := "HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil"
	first := head + strings.Repeat("p", 64<<10-65000-len(head)-4) + "\r\n\r\n" + strings.Repeat("b", 65000)
	const widensBytes = 32 << 10 // fills no read, or the next ones would be larger
	widens := "HTTP/1.1 200 OK\r\nContent-Length: " + strconv.Itoa(widensBytes) + "\r\n\r\n" + strings.Repeat("w", widensBytes)
	var window atomic.Uint32 // of the connection that had the last request
	b := newBackend(t, func(c *conn) {
		for h := c.head(); h != ""; h = c.head() {
			window.Store(sendWindow(t, c))
			switch {
			case strings.HasPrefix(h, "GET /widens"):
				c.write(widens)
			case strings.HasPrefix(h, "GET /first"):
				c.write(first + evil)
			default:
				c.write(ok)
			}
		}
	})
	r := start(t, []string{b.addr}, oneWorker, func(_ *server.Options, c *config.Config) {
		c.Clusters[0].ConnectionsMax = 1
	})
	for range 50 {
		c1, c2 := r.dial(), r.dial()
		until(t, "a window for all", func() bool {
			c1.do("GET /widens HTTP/1.1\r\nHost: a\r\n\r\n")
			return int(window.Load()) >= len(first+evil)
		})
		before := len(b.seen())
		c1.send("GET /first HTTP/1.1\r\nHost: a\r\n\r\n")
		until(t, "the first request to be under way", func() bool { return r.usage().Exchanges > 0 || len(b.seen()) > before })
		c2.send("GET /second HTTP/1.1\r\nHost: a\r\n\r\n")
		if got := c1.receive("GET"); len(got.body) != 65000 {
			t.Fatalf("%d %d bytes, %v", got.StatusCode, len(got.body), got.err)
		}
		if got := c2.receive("GET"); got.body == "evil" {
			t.Fatal("the second request was answered with what had followed the first response")
		}
		c1.Close()
		c2.Close()
	}
}

// sendWindow is how much the peer of a connection has room for.
func sendWindow(t *testing.T, c *conn) (bytes uint32) {
	raw, err := c.Conn.(*net.TCPConn).SyscallConn()
	if err != nil {
		t.Error(err)
		return 0
	}
	raw.Control(func(fd uintptr) {
		info, err := unix.GetsockoptTCPInfo(int(fd), unix.IPPROTO_TCP, unix.TCP_INFO)
		if err != nil {
			t.Error(err)
			return
		}
		bytes = info.Snd_wnd
	})
	return bytes
}
