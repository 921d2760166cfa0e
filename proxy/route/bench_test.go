package route

import (
	"fmt"
	"runtime"
	"testing"

	"rauta.io/rauta/proxy/message"
)

// benchmarkSizes are the route counts of the figures in PERF.md.
func benchmarkSizes() []int { return []int{10, 1_000, 10_000, 100_000} }

// manyHosts gives every route its own hostname.
func manyHosts(i int) Entry {
	return Entry{Hostname: fmt.Sprintf("app-%d.team-%d.example.com", i, i%97), Match: prefix("/"), Rule: int32(i), Order: i}
}

// manyPaths puts all routes on one hostname.
func manyPaths(i int) Entry {
	return Entry{Hostname: "api.example.com", Match: prefix(fmt.Sprintf("/v1/team-%d/app-%d", i%97, i)), Rule: int32(i), Order: i}
}

func buildMany(tb testing.TB, n int, entry func(int) Entry) (*Table, []Entry) {
	tb.Helper()
	entries := make([]Entry, n)
	for i := range entries {
		entries[i] = entry(i)
	}
	t, err := Build(entries)
	if err != nil {
		tb.Fatal(err)
	}
	return t, entries
}

// heap returns the live bytes of the heap.
func heap() uint64 {
	var m runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}

// sample is some requests spread over the entries, so that a benchmark doesn't find one route in the cache all the time.
func sample(entries []Entry) (hosts [][]byte, requests []*message.Request) {
	const count = 1024
	for i := range count {
		e := &entries[(i*7919)%len(entries)]
		hosts = append(hosts, []byte(e.Hostname))
		path := e.Match.Path.Value
		if path == "/" {
			path = ""
		}
		requests = append(requests, request("GET "+path+"/items/17?page=2", "Host: x", "User-Agent: curl", "Accept: */*"))
	}
	return hosts, requests
}

func benchmarkLookup(b *testing.B, entry func(int) Entry) {
	for _, n := range benchmarkSizes() {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			entries := make([]Entry, n)
			for i := range entries {
				entries[i] = entry(i)
			}
			before := heap()
			t, err := Build(entries)
			if err != nil {
				b.Fatal(err)
			}
			perRoute := float64(heap()-before) / float64(n)
			hosts, requests := sample(entries)
			b.ReportAllocs()
			b.ResetTimer()
			for i := range b.N {
				k := i & (len(hosts) - 1)
				if _, ok := t.Lookup(hosts[k], requests[k]); !ok {
					b.Fatal("not found")
				}
			}
			b.ReportMetric(perRoute, "B/route")
			runtime.KeepAlive(t)
		})
	}
}

func BenchmarkLookupManyHosts(b *testing.B) { benchmarkLookup(b, manyHosts) }
func BenchmarkLookupManyPaths(b *testing.B) { benchmarkLookup(b, manyPaths) }

// BenchmarkLookupPredicates asks the last of 16 candidates on one path, 15 of which fail on a header.
func BenchmarkLookupPredicates(b *testing.B) {
	var entries []Entry
	for i := range 15 {
		entries = append(entries, on("", with(prefix("/"), "GET", fmt.Sprintf("h:x-variant=%d", i))))
	}
	t := table(b, append(entries, on("", with(prefix("/"), "q:v=a b")))...)
	req := request("GET /x?page=2&v=a+b", "Host: x", "User-Agent: curl", "Accept: */*", "X-Variant: none")
	b.ReportAllocs()
	for b.Loop() {
		if _, ok := t.Lookup([]byte("a"), req); !ok {
			b.Fatal("not found")
		}
	}
}

// BenchmarkLookupRegex asks 16 regexes, of which the last matches.
func BenchmarkLookupRegex(b *testing.B) {
	var entries []Entry
	for i := range 16 {
		entries = append(entries, on("", regexPath(fmt.Sprintf("/v%d/users/[0-9]+", 10+i))))
	}
	t := table(b, entries...)
	req := request("GET /v25/users/1234")
	b.ReportAllocs()
	for b.Loop() {
		if _, ok := t.Lookup([]byte("a"), req); !ok {
			b.Fatal("not found")
		}
	}
}

func BenchmarkBuild(b *testing.B) {
	for name, entry := range map[string]func(int) Entry{"hosts": manyHosts, "paths": manyPaths} {
		for _, n := range benchmarkSizes() {
			b.Run(fmt.Sprintf("%s/%d", name, n), func(b *testing.B) {
				b.ReportAllocs()
				for b.Loop() {
					buildMany(b, n, entry)
				}
			})
		}
	}
}
