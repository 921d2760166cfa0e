package blackbox

import (
	"fmt"
	"io"
	"strings"
	"sync"
	"testing"

	"rauta.io/rauta/bpf"
	"rauta.io/rauta/internal/testrig"
	"rauta.io/rauta/proxy/config"
	"rauta.io/rauta/proxy/server"
)

// watched has the kernel watch every request, or skips the test where it can't.
func watched(t *testing.T) option {
	return func(o *server.Options, _ *config.Config) {
		kernel := watching(t, o)
		t.Cleanup(kernel.Close)
		kernel.Start()
		o.Kernel = kernel
	}
}

// watching loads the programs that watch every request.
func watching(t *testing.T, o *server.Options) *bpf.Kernel {
	t.Helper()
	testrig.NeedsEBPF(t)
	kernel, tier := bpf.Open(o.Registry)
	if kernel == nil {
		t.Skipf("the kernel takes no programs here: %s", tier.Reason)
	}
	if tier = kernel.WatchRequests(o.Workers, 1, tier); kernel.Requests(0) == nil {
		kernel.Close()
		t.Skipf("the kernel does not watch requests here: %s", tier.Reason)
	}
	return kernel
}

// series is the value of a metric, with its labels in the order of the exposition; 0 if it is not there.
func (r *rig) series(series string) (value float64) {
	var b strings.Builder
	r.registry.WritePrometheus(&b)
	if _, rest, found := strings.Cut(b.String(), "\n"+series+" "); found {
		if _, err := fmt.Sscan(rest, &value); err != nil {
			r.t.Fatalf("%s: %v", series, err)
		}
	}
	return value
}

const (
	seenByKernel = `rauta_kernel_request_seconds_count{route="httproute/default/all"}`
	seenToWait   = `rauta_request_stage_seconds_count{route="httproute/default/all",stage="socket_wait"}`
	bytesIn      = `rauta_kernel_request_bytes_total{route="httproute/default/all",direction="received"}`
	bytesOut     = `rauta_kernel_request_bytes_total{route="httproute/default/all",direction="sent"}`
)

const watchedConns, watchedEach = 20, 50

// onConns runs f on many connections at once, and again until one worker has accepted a connection for the other. It returns
// how many connections that were.
func (r *rig) onConns(f func()) (total int) {
	r.t.Helper()
	until(r.t, "a connection that one worker has accepted for the other", func() bool {
		var conns sync.WaitGroup
		for range watchedConns {
			conns.Go(f)
		}
		conns.Wait()
		total += watchedConns
		return r.series(`rauta_loop_handed_over_total{worker="0"}`)+r.series(`rauta_loop_handed_over_total{worker="1"}`) > 0
	})
	return total
}

// gets makes requests on a connection.
func (c *client) gets(n int) {
	for range n {
		if got := c.do(get); got.StatusCode != 200 {
			c.t.Errorf("status %d", got.StatusCode)
		}
	}
}

// wantWatched waits until the kernel has counted what RAUTA has seen to wait in sockets: from least to most requests.
func (r *rig) wantWatched(least, most int) {
	r.t.Helper()
	until(r.t, "the count of the kernel", func() bool {
		n := r.series(seenByKernel)
		return n >= float64(least) && n == r.series(seenToWait)
	})
	if n := r.series(seenByKernel); n > float64(most) {
		r.t.Errorf("the kernel has counted %v requests of at most %d", n, most)
	}
}

// wantBytes: every request was counted with its bytes, and every response.
func (r *rig) wantBytes(in, out int) {
	r.t.Helper()
	if got := r.series(bytesIn); got != float64(in) {
		r.t.Errorf("requests had %v bytes, not %d", got, in)
	}
	if got := r.series(bytesOut); got != float64(out) {
		r.t.Errorf("responses had %v bytes, not %d", got, out)
	}
}

// answerBytes is how many bytes the response to get has on the wire.
func (r *rig) answerBytes() int {
	r.t.Helper()
	c := r.dial()
	c.send("GET / HTTP/1.1\r\nHost: a.example\r\nConnection: close\r\n\r\n")
	text, err := io.ReadAll(c)
	if err != nil {
		r.t.Fatal(err)
	}
	return len(text) - len("Connection: close\r\n")
}

func TestEveryRequestIsWatchedWhicheverWorkerHasTheConnection(t *testing.T) {
	b := newBackend(t, answering(ok))
	response := start(t, []string{b.addr}).answerBytes()
	r := start(t, []string{b.addr}, watched(t))
	n := watchedEach * r.onConns(func() {
		c := r.dial()
		defer c.Close()
		c.gets(watchedEach)
	})
	r.wantWatched(n, n)
	r.wantBytes(n*len(get), n*response)
}

// TestRequestsBehindAPROXYHeaderAreWatched: the kernel knows no such header. One that comes with a request is part of it, one
// that came alone is part of no request if it was read before the request came.
func TestRequestsBehindAPROXYHeaderAreWatched(t *testing.T) {
	b := newBackend(t, answering(ok))
	response := start(t, []string{b.addr}).answerBytes()
	const header = "PROXY TCP4 192.0.2.7 10.0.0.1 12345 80\r\n"
	for name, first := range map[string][]string{"together": {header + get}, "alone": {header, get}} {
		t.Run(name, func(t *testing.T) {
			r := start(t, []string{b.addr}, proxyProtocol("127.0.0.0/8"), watched(t))
			conns := r.onConns(func() {
				c := r.dial()
				defer c.Close()
				for _, part := range first {
					c.send(part)
				}
				if got := c.receive("GET"); got.StatusCode != 200 {
					t.Errorf("status %d", got.StatusCode)
				}
				c.gets(watchedEach - 1)
			})
			n := conns * watchedEach
			r.wantWatched(n, n)
			in, headers := n*len(get), conns*len(header)
			if name == "alone" {
				headers = int(r.series(bytesIn)) - in
			}
			if headers < 0 || headers > conns*len(header) || headers%len(header) != 0 {
				t.Errorf("of %d headers %d bytes are counted", conns, headers)
			}
			r.wantBytes(in+headers, n*response)
		})
	}
}

func TestRequestsOverTLSAreWatchedFromTheSecondOn(t *testing.T) {
	r := startTLS(t, newBackend(t, answering(ok)).addr, watched(t))
	conns := r.onConns(func() {
		c := r.dialTLS()
		defer c.Close()
		for range watchedEach {
			c.wants("ok")
		}
	})
	// For how long the first one lay there is not known if it came with the end of the handshake.
	r.wantWatched(conns*(watchedEach-1), conns*watchedEach)
}

func TestConnectionsThatGoOnAsHTTP2AreNotWatched(t *testing.T) {
	b := newBackend(t, answering(ok))
	response := start(t, []string{b.addr}).answerBytes()
	r := start(t, []string{b.addr}, watched(t))
	n := watchedEach * r.onConns(func() {
		c := r.h2()
		defer c.Close()
		streams := func(first uint32) {
			for id := first; id < first+2*watchedEach; id += 2 {
				c.headers(id, true, h2get())
				if got := c.response(id); got.body != "ok" {
					t.Errorf("stream %d: %q", id, got.body)
				}
			}
		}
		streams(1)
		plain := r.dial()
		defer plain.Close()
		plain.gets(watchedEach / 2)
		streams(1 + 2*watchedEach) // beside one that may have the slot that this connection had
		plain.gets(watchedEach / 2)
	})
	r.wantWatched(n, n)
	r.wantBytes(n*len(get), n*response)
	if all := r.series(`rauta_request_duration_seconds_count{route="httproute/default/all"}`); all != float64(3*n) {
		t.Errorf("%v requests are counted, not %d", all, 3*n)
	}
}

// TestNobodyWaitsForTheProgramsOfTheKernel: what loads them hangs, and everything is served; connections are watched when
// they come at last, and those that were there before from their next request but one.
func TestNobodyWaitsForTheProgramsOfTheKernel(t *testing.T) {
	b := newBackend(t, answering(ok))
	come := make(chan struct{})
	var late *bpf.Late
	r := start(t, []string{b.addr}, func(o *server.Options, _ *config.Config) {
		kernel := watching(t, o)
		late = bpf.Later(func() (*bpf.Kernel, func()) {
			<-come
			return kernel, func() {}
		})
		t.Cleanup(late.Close)
		o.Kernel = late
	})
	early := r.dial()
	defer early.Close()
	early.gets(watchedEach)
	close(come)
	until(t, "the programs", func() bool { return late.Requests(0) != nil })
	early.gets(watchedEach)
	n := watchedEach * r.onConns(func() {
		c := r.dial()
		defer c.Close()
		c.gets(watchedEach)
	})
	r.wantWatched(n, n+watchedEach-1)
	if n := r.series(`rauta_accept_queue_seconds_count`); n == 0 {
		t.Error("the sockets that listened before are not tagged")
	}
}
