package blackbox

import (
	"crypto/tls"
	"fmt"
	"hash/crc32"
	"io"
	"math/rand/v2"
	"net"
	"sync"
	"testing"
	"time"

	"rauta.io/rauta/internal/testrig"
	"rauta.io/rauta/proxy/config"
)

// stormPiece is what sides of the storm write at most at a time: some pieces are copied, long runs of them spliced.
const stormPiece = 200_000

// narrow makes the kernel take little from the other side while nobody reads.
func narrow(c net.Conn) { c.(*net.TCPConn).SetReadBuffer(128 << 10) }

// moodyEcho echoes with pauses of its own, and now and then breaks off.
func moodyEcho(c *conn) {
	random := rand.New(rand.NewPCG(uint64(c.n), 9))
	narrow(c.Conn)
	buf := make([]byte, stormPiece)
	breaksAfter := -1
	if random.IntN(5) == 0 {
		breaksAfter = random.IntN(3 << 20)
	}
	for total := 0; ; {
		n, err := c.Conn.Read(buf[:1+random.IntN(len(buf))])
		if err != nil {
			return
		}
		if total += n; breaksAfter >= 0 && total > breaksAfter {
			if tc, ok := c.Conn.(*net.TCPConn); ok {
				abort(tc)
			}
			return
		}
		if random.IntN(20) == 0 {
			time.Sleep(time.Duration(random.IntN(3)) * time.Millisecond)
		}
		if _, err := c.Conn.Write(buf[:n]); err != nil {
			return
		}
	}
}

// tunnelStormClient sends and receives at its own pace. It reports what must never happen: an orderly end that lacks bytes, or
// bytes that were not sent.
func tunnelStormClient(c net.Conn, seed uint64) error {
	defer c.Close()
	c.SetDeadline(time.Now().Add(patience))
	random := rand.New(rand.NewPCG(seed, 7))
	size := random.IntN(12 << 20)
	gone := -1 // where the client breaks off
	if random.IntN(5) == 0 {
		gone = random.IntN(size + 1)
	}
	sent, failed := make(chan uint32, 1), make(chan bool, 1)
	go func() {
		content := rand.New(rand.NewPCG(seed, 8))
		sum := crc32.NewIEEE()
		piece := make([]byte, stormPiece)
		for left := size; left > 0; {
			n := min(left, 1+content.IntN(len(piece)))
			for i := range piece[:n] {
				piece[i] = byte(i) ^ byte(left)
			}
			sum.Write(piece[:n])
			if _, err := c.Write(piece[:n]); err != nil {
				failed <- true
				return
			}
			left -= n
		}
		if half, ok := c.(interface{ CloseWrite() error }); ok {
			half.CloseWrite()
		}
		sent <- sum.Sum32()
	}()
	if random.IntN(2) == 0 {
		time.Sleep(time.Duration(random.IntN(200)) * time.Millisecond) // so that everything on the way fills up
	}
	got, sum := 0, crc32.NewIEEE()
	buf := make([]byte, stormPiece)
	for {
		n, err := c.Read(buf[:1+random.IntN(len(buf))])
		sum.Write(buf[:n])
		got += n
		switch {
		case err == io.EOF && got == size:
			if sum.Sum32() != <-sent {
				return fmt.Errorf("other bytes came back than were sent")
			}
			return nil
		case err == io.EOF:
			select {
			case <-failed: // a reset: the kernel tells only one of reader and writer
				return nil
			case <-sent:
				return fmt.Errorf("%d of %d bytes, and then an orderly end", got, size)
			}
		case err != nil:
			return nil // broken off, and it shows
		}
		if gone >= 0 && got > gone {
			if tc, ok := c.(*net.TCPConn); ok {
				abort(tc)
			}
			return nil
		}
		if random.IntN(20) == 0 {
			time.Sleep(time.Duration(random.IntN(3)) * time.Millisecond)
		}
	}
}

// alsoTCP sends everything that is forwarded to one endpoint, also from a port for TCP, whose address it returns.
func (m *mixedRig) alsoTCP(endpoint string) string {
	m.t.Helper()
	port := testrig.FreePort(m.t)
	own := *m.config
	own.L4Routes = append([]config.L4Route(nil), own.L4Routes...)
	for i := range own.L4Routes {
		own.L4Routes[i].Backends = []config.Backend{{Cluster: "d/storm:1", Weight: 1}}
	}
	own.L4Routes = append(own.L4Routes, config.L4Route{Name: "tcproute/d/storm", Backends: []config.Backend{{Cluster: "d/storm:1", Weight: 1}}})
	own.Clusters = append(append([]config.Cluster(nil), own.Clusters...), config.Cluster{Name: "d/storm:1"})
	own.Listeners = append(append([]config.Listener(nil), own.Listeners...), config.Listener{
		Name: "tcp", Port: port, Protocol: config.ProtocolTCP,
		Attached: []config.Attachment{{Route: "tcproute/d/storm", Hostnames: []string{""}}},
	})
	if err := m.server.Publish(&own, config.Endpoints{"d/storm:1": {{Address: endpoint}}}); err != nil {
		m.t.Fatal(err)
	}
	return fmt.Sprintf("127.0.0.1:%d", port)
}

// TestAStormOfTunnelsLosesNothingAndLeavesNothing: plain and decrypted ones, with sides that stall, close their half and
// break off. What looks like an orderly end is one.
func TestAStormOfTunnelsLosesNothingAndLeavesNothing(t *testing.T) {
	b := newBackend(t, moodyEcho)
	m := startMixed(t)
	plain := m.alsoTCP(b.addr)
	errs := make(chan error, 200)
	var wait sync.WaitGroup
	for i := range 60 {
		wait.Go(func() {
			var c net.Conn
			var err error
			if i%3 == 0 {
				c, err = net.Dial("tcp", m.addr)
			} else {
				c, err = net.Dial("tcp", plain)
			}
			if err != nil {
				return // reset while it was being set up
			}
			narrow(c)
			if i%3 == 0 {
				c = tls.Client(c, &tls.Config{RootCAs: m.roots, ServerName: "ends.test"})
			}
			if err := tunnelStormClient(c, uint64(i)); err != nil {
				errs <- fmt.Errorf("client %d: %w", i, err)
			}
		})
	}
	wait.Wait()
	close(errs)
	for err := range errs {
		t.Error(err)
	}
	if b.connections() < 30 {
		t.Errorf("only %d connections reached the back end", b.connections())
	}
	m.quiet()
}
