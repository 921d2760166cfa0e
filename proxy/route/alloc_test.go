package route

import (
	"runtime"
	"sync"
	"testing"

	"rauta.io/rauta/proxy/message"
)

// everyFeature has an entry for every way to match; all of them are asked before the last one wins.
func everyFeature(tb testing.TB) (*Table, []byte, *message.Request) {
	t := table(tb,
		on("a.example.com", exact("/a/b")),
		on("a.example.com", with(prefix("/"), "PURGE")),
		on("a.example.com", with(prefix("/"), "h~:x-b=[a-c]+")),
		on("a.example.com", with(prefix("/a"), "h:x-a=1, 3")),
		on("*.example.com", with(regexPath("/a/.*/.*z"), "GET")),
		on("*.com", with(regexPath("/a/.*"), "q~:v=[a-c ]+")),
		on("", with(prefix("/a"), "q:w=x y", "h~:x-a=[0-9], [0-9]", "q~:v=[0-9 ]+", "h:user-agent=curl")),
	)
	return t, []byte("a.example.com"), request("GET /a/b/c?w=x%20y&v=1+2", "X-A: 1", "X-A: 2", "x-b: d", "User-Agent: curl")
}

func TestALookupDoesNotAllocate(t *testing.T) {
	if raceEnabled {
		t.Skip("sync.Pool drops buffers on purpose under the race detector: runs without -race")
	}
	tab, host, req := everyFeature(t)
	hosts := BuildHosts([]string{"", "*.com", "b.example.com"})
	if n := testing.AllocsPerRun(1000, func() {
		if r, ok := tab.Lookup(host, req); !ok || r.Rule != 6 {
			t.Fatalf("found %+v %v", r, ok)
		}
		if hosts.Lookup(host) != 1 {
			t.Fatal("wrong listener")
		}
	}); n != 0 {
		t.Errorf("%v allocations for each look-up", n)
	}
}

func TestAllWorkersMayLookUpAtOnce(t *testing.T) {
	tab, host, _ := everyFeature(t)
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			_, _, req := everyFeature(t)
			for range 500 {
				if r, ok := tab.Lookup(host, req); !ok || r.Rule != 6 {
					t.Errorf("found %+v %v", r, ok)
					return
				}
			}
		})
	}
	wg.Wait()
}

func TestARouteCostsFewBytes(t *testing.T) {
	if raceEnabled {
		t.Skip("the race detector changes sizes: runs without -race")
	}
	const count, bytesMax = 10_000, 200
	for name, entry := range map[string]func(int) Entry{"a hostname for each": manyHosts, "one hostname": manyPaths} {
		entries := make([]Entry, count)
		for i := range entries {
			entries[i] = entry(i)
		}
		before := heap()
		tab, err := Build(entries)
		if err != nil {
			t.Fatal(err)
		}
		if got := (int64(heap()) - int64(before)) / count; got <= 0 || got > bytesMax {
			t.Errorf("%s: %d bytes for a route beside its entry, want at most %d", name, got, bytesMax)
		}
		runtime.KeepAlive(tab)
		runtime.KeepAlive(entries)
	}
}
