package server

import (
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"sync/atomic"
	"testing"
	"time"
)

// holder is a back end that answers requests for /held only when it is told to.
type holder struct {
	*httptest.Server
	held    atomic.Int64
	release chan struct{}
}

func newHolder(t *testing.T) *holder {
	h := &holder{release: make(chan struct{})}
	h.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/held" {
			h.held.Add(1)
			<-h.release
			h.held.Add(-1)
		}
		io.WriteString(w, "hello")
	}))
	t.Cleanup(h.Close)
	return h
}

// until waits for n requests to be held.
func (h *holder) until(t *testing.T, n int64) {
	t.Helper()
	for deadline := time.Now().Add(20 * time.Second); h.held.Load() != n; time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("%d requests are under way, want %d", h.held.Load(), n)
		}
	}
}

// http2Client has a connection of its own, and is known to the data plane.
func http2Client(t *testing.T, url string) *http.Transport {
	t.Helper()
	tr := &http.Transport{Protocols: new(http.Protocols)}
	tr.Protocols.SetUnencryptedHTTP2(true)
	t.Cleanup(tr.CloseIdleConnections)
	get(t, tr, url+"/")
	return tr
}

func get(t *testing.T, tr *http.Transport, url string) {
	req, _ := http.NewRequest("GET", url, nil)
	resp, err := tr.RoundTrip(req)
	if err != nil {
		t.Error(err)
		return
	}
	io.Copy(io.Discard, resp.Body)
	resp.Body.Close()
}

// http2Conns is how many connections each worker has.
func (s *Server) http2Conns() []int {
	p := s.plane.(*loopPlane)
	n := make([]int, len(p.workers))
	p.onEach(func(w *loopWorker) error { n[w.loop.ID()] = w.http2.Conns(); return nil })
	return n
}

// TestLongLivedHTTP2ConnectionsSpreadOverTheWorkers: they stay where they are accepted, so that it is decided then. streams
// is how many the i-th connection has under way when the next one comes. No worker may get more than one connection above
// its share.
func TestLongLivedHTTP2ConnectionsSpreadOverTheWorkers(t *testing.T) {
	const connections = 8
	for name, c := range map[string]struct {
		before  int // streams that were under way on another connection, and have ended
		streams func(i int) int
	}{
		"idle":                       {0, func(int) int { return 0 }},
		"equally busy":               {0, func(int) int { return 10 }},
		"every other one":            {0, func(i int) int { return i % 2 * 50 }},
		"the first one":              {0, func(i int) int { return 50 * (1 - min(i, 1)) }},
		"busier and busier":          {0, func(i int) int { return 10 * i }},
		"after others had been busy": {90, func(int) int { return 1 }},
	} {
		for _, workers := range []int{2, 4} {
			t.Run(fmt.Sprint(name, ", ", workers, " workers"), func(t *testing.T) {
				t.Parallel() // the end of each takes a second
				h := newHolder(t)
				s, port := startServer(t, workers)
				cfg, eps := everythingTo(port, h.Listener.Addr().String())
				if err := s.Publish(cfg, eps); err != nil {
					t.Fatal(err)
				}
				url := fmt.Sprint("http://127.0.0.1:", port)
				hold := func(tr *http.Transport, n int) {
					for range n {
						go get(t, tr, url+"/held")
					}
				}
				all := connections
				if c.before > 0 {
					all++
					hold(http2Client(t, url), c.before)
					h.until(t, int64(c.before))
					close(h.release)
					h.until(t, 0)
					h.release = make(chan struct{})
				}
				total := 0
				for i := range connections {
					tr := http2Client(t, url)
					hold(tr, c.streams(i))
					total += c.streams(i)
					h.until(t, int64(total))
				}
				share := (all + workers - 1) / workers
				conns := s.http2Conns()
				for worker, n := range conns {
					if n > share+1 {
						t.Errorf("worker %d has %d connections, %d above its share: %v", worker, n, n-share, conns)
					}
				}
				close(h.release)
				h.until(t, 0)
			})
		}
	}
}
