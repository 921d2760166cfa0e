package blackbox

import (
	"bytes"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
)

// heap is the memory in use after the garbage has been collected.
func heap() uint64 {
	runtime.GC()
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}

func (r *rig) metrics() string {
	var b bytes.Buffer
	r.registry.WritePrometheus(&b)
	return b.String()
}

// gathering is a back end that answers when all requests of a phase are under way.
func (m combination) gathering(t *testing.T, phase *atomic.Pointer[sync.WaitGroup]) *backend {
	if m.backend == 2 {
		return newH2Backend(t, func(p *h2peer) {
			var writing sync.Mutex
			p.WriteSettings()
			for q := p.request(); q != nil; q = p.request() {
				wait := phase.Load()
				wait.Done()
				go func() {
					wait.Wait()
					writing.Lock()
					defer writing.Unlock()
					p.ok(q)
				}()
			}
		})
	}
	return newBackend(t, func(c *conn) {
		for c.head() != "" {
			wait := phase.Load()
			wait.Done()
			wait.Wait()
			c.write(ok)
		}
	})
}

func TestHTTP2MemoryComesBackAfterABomb(t *testing.T) { // attack row 30
	withHTTP2Clients(t, memoryAfterABomb)
}

func memoryAfterABomb(t *testing.T, m combination) {
	const connections, streams = 10, 100
	var phase atomic.Pointer[sync.WaitGroup]
	b := m.gathering(t, &phase)
	r := m.start(t, []string{b.addr})
	load := func(references int) {
		wait := new(sync.WaitGroup)
		wait.Add(connections * streams)
		phase.Store(wait)
		var clients []*h2client
		for range connections {
			c := r.h2(http2.Setting{ID: http2.SettingInitialWindowSize, Val: 0})
			clients = append(clients, c)
			for i := range streams {
				block := bytes.Clone(c.encode(h2get()))
				if i == 0 {
					c.block.Reset()
					c.enc.WriteField(hpack.HeaderField{Name: "x-bomb", Value: strings.Repeat("v", 900)})
					block = append(block, c.block.Bytes()...)
				}
				for range references {
					block = append(block, 0x80|62) // the newest entry of the dynamic table
				}
				c.must(c.WriteHeaders(http2.HeadersFrameParam{
					StreamID: uint32(2*i + 1), BlockFragment: block, EndStream: true, EndHeaders: true,
				}))
			}
		}
		for _, c := range clients {
			for heads := 0; heads < streams; {
				f := c.next()
				if f == nil {
					t.Fatal("the connection has ended")
				}
				if _, isHead := f.(*http2.HeadersFrame); isHead {
					heads++
				}
			}
			c.Close()
		}
		until(t, "all connections are gone", func() bool { return strings.Contains(r.metrics(), "\nrauta_connections 0\n") })
	}
	load(1) // what as many streams that are no bombs leave behind
	before := heap()
	load(30)
	b.mu.Lock()
	b.requests = nil // the back end's own memory
	b.mu.Unlock()
	// What the last connections held is given back some turns after they have been counted out, and what the workers keep
	// for reuse within seconds.
	until(t, "memory to come back to what it was", func() bool { return heap() <= before+before/10 })
}
