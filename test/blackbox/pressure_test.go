package blackbox

import (
	"errors"
	"io"
	"net/http"
	"os"
	"strings"
	"sync"
	"testing"
	"time"
)

// floodBytes is more than all socket buffers between two ends and what the proxy may hold can take.
const floodBytes = 256 << 20

// flood writes until nothing is taken any more, and reports how much was taken.
func flood(w interface {
	io.Writer
	SetWriteDeadline(time.Time) error
}) (taken int, stopped bool) {
	chunk := make([]byte, 1<<20)
	for taken < floodBytes {
		w.SetWriteDeadline(time.Now().Add(300 * time.Millisecond))
		n, err := w.Write(chunk)
		taken += n
		if errors.Is(err, os.ErrDeadlineExceeded) {
			return taken, true
		}
		if err != nil {
			return taken, false
		}
	}
	return taken, false
}

func TestAClientThatDoesNotReadStopsTheBackEnd(t *testing.T) {
	onEveryEngine(t, func(t *testing.T) {
		stopped := make(chan bool, 1)
		b := newBackend(t, func(c *conn) {
			c.head()
			c.write("HTTP/1.1 200 OK\r\nContent-Length: 268435456\r\n\r\n")
			taken, ok := flood(c)
			t.Logf("%d KiB were taken", taken>>10)
			stopped <- ok
		})
		c := start(t, []string{b.addr}).dial()
		c.send(get)
		if !<-stopped {
			t.Error("the back end could send everything to a client that does not read")
		}
	})
}

func TestABackEndThatDoesNotReadStopsTheClient(t *testing.T) {
	onEveryEngine(t, func(t *testing.T) {
		done := make(chan bool)
		defer close(done)
		b := newBackend(t, func(c *conn) { c.head(); <-done })
		c := start(t, []string{b.addr}).dial()
		c.send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 268435456\r\n\r\n")
		taken, stopped := flood(c)
		t.Logf("%d KiB were taken", taken>>10)
		if !stopped {
			t.Error("the client could send everything to a back end that does not read")
		}
	})
}

func TestManyClientsAtOnceAreServed(t *testing.T) {
	onEveryEngine(t, func(t *testing.T) {
		r := start(t, []string{echo(t), echo(t)})
		var all sync.WaitGroup
		for range 40 {
			all.Go(func() {
				transport := &http.Transport{MaxIdleConnsPerHost: 1}
				defer transport.CloseIdleConnections()
				client := &http.Client{Transport: transport, Timeout: patience}
				for i := range 50 {
					body := strings.Repeat("x", i*100)
					resp, err := client.Post("http://"+r.addr, "text/plain", strings.NewReader(body))
					if err != nil {
						t.Error(err)
						return
					}
					got, err := io.ReadAll(resp.Body)
					resp.Body.Close()
					if err != nil || string(got) != body {
						t.Errorf("%d of %d bytes came back, error %v", len(got), len(body), err)
						return
					}
				}
			})
		}
		all.Wait()
	})
}
