//go:build linux && (amd64 || arm64)

package bpf_test

import (
	"bufio"
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"math"
	"math/rand/v2"
	"os"
	"os/exec"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/cilium/ebpf"
	"golang.org/x/sys/unix"

	"rauta.io/rauta/bpf"
	"rauta.io/rauta/fastpath"
	"rauta.io/rauta/internal/testrig"
	"rauta.io/rauta/loadtest/generator"
	"rauta.io/rauta/loadtest/stats"
	"rauta.io/rauta/proxy/config"
	"rauta.io/rauta/proxy/message"
	"rauta.io/rauta/proxy/observe"
	"rauta.io/rauta/proxy/server"
)

// What it costs to watch requests is some percent of what a request costs, and machines differ by more than that from one
// second to the next. So this measures in one process that lasts: data planes that are watched in different ways are loaded in
// turn, for most of a second, and the program that looks at arrivals is attached in its plane's turn only. loadtest ebpf
// measures the whole program from outside, with a start for each turn, and needs far more of them.
var (
	costFor  = flag.Duration("cost", 0, "measure for so long what watching costs; 0: skip that")
	costInto = flag.String("cost-into", "", "file that the slices are added to, and that is reported")
)

// generatorRole is the argument with which this program is the clients and the back end.
const generatorRole = "generator"

func TestMain(m *testing.M) {
	if len(os.Args) > 1 && os.Args[1] == generatorRole {
		if err := generator.Run(); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	os.Exit(m.Run())
}

const (
	costConnections = 64
	costRoutes      = 64
	costBody        = 100
	// A first slice does not count: connections are made in it, and nearly all of them have a request that is watched.
	// The others together are about as long as a window with the time to the next one.
	costSlice  = 150 * time.Millisecond
	costSlices = 5
	// costBlock rounds are added up for the whole machine, whose idle time is told in steps of 10 ms.
	costBlock = 10
)

// ways are ways of being watched.
type ways int

const (
	unwatched ways = iota
	auto           // as is the default: in windows
	all            // every request
)

// plane is a data plane with one way of being watched.
type plane struct {
	name     string
	ways     ways
	kernel   *bpf.Kernel // nil: no programs
	registry *observe.Registry
	port     uint16
}

// costRecord is what one plane did in one round, in nanoseconds.
type costRecord struct {
	Round    int64  `json:"round"` // by the clock
	Plane    string `json:"plane"`
	Requests uint64 `json:"requests"`
	Proxy    uint64 `json:"proxyNanos"`   // CPU time
	Others   uint64 `json:"othersNanos"`  // CPU time of clients and back end, with what the kernel does for them
	Machine  int64  `json:"machineNanos"` // for which processors worked, whoever it was for
}

func pin(t *testing.T, pid, cpu int) {
	t.Helper()
	var set unix.CPUSet
	set.Set(cpu)
	if err := unix.SchedSetaffinity(pid, &set); err != nil {
		t.Fatal(err)
	}
}

// load is the generator, in a process of its own.
type load struct {
	t       *testing.T
	pid     int
	in      io.Writer
	out     *bufio.Reader
	backend int
}

func startLoad(t *testing.T) *load {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(self, generatorRole)
	cmd.Stderr = os.Stderr
	in, err1 := cmd.StdinPipe()
	out, err2 := cmd.StdoutPipe()
	if err1 != nil || err2 != nil {
		t.Fatal(err1, err2)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		cmd.Process.Kill()
		cmd.Wait()
	})
	l := &load{t: t, pid: cmd.Process.Pid, in: in, out: bufio.NewReaderSize(out, 1<<20)}
	pinAll(t, l.pid, 0)
	l.backend = l.reply().BackendPort
	return l
}

// pinAll pins every thread of a process.
func pinAll(t *testing.T, pid, cpu int) {
	t.Helper()
	tasks, err := os.ReadDir(fmt.Sprintf("/proc/%d/task", pid))
	if err != nil {
		t.Fatal(err)
	}
	for _, task := range tasks {
		var tid int
		fmt.Sscan(task.Name(), &tid)
		pin(t, tid, cpu)
	}
}

func (l *load) reply() *generator.Reply {
	l.t.Helper()
	line, err := l.out.ReadBytes('\n')
	if err != nil {
		l.t.Fatal(err)
	}
	var r generator.Reply
	if err := json.Unmarshal(line, &r); err != nil || r.Error != "" {
		l.t.Fatal(err, r.Error)
	}
	return &r
}

func (l *load) do(c *generator.Command) *generator.Result {
	l.t.Helper()
	text, err := json.Marshal(c)
	if err != nil {
		l.t.Fatal(err)
	}
	if _, err := l.in.Write(append(text, '\n')); err != nil {
		l.t.Fatal(err)
	}
	return l.reply().Results[0]
}

func (l *load) command(p *plane) *generator.Command {
	var heads []string
	for i := range costRoutes {
		heads = append(heads, fmt.Sprintf("GET /r%d HTTP/1.1\r\nHost: a.example\r\nUser-Agent: cost\r\nAccept: */*\r\n\r\n", i))
	}
	return &generator.Command{
		Kind: generator.Paired, Targets: []generator.Target{{Name: p.name, Port: int(p.port), PIDs: []int{os.Getpid()}}},
		Connections: costConnections, Requests: heads, BodyBytes: costBody, Rounds: costSlices, SliceNanos: int64(costSlice),
		WarmUp: true, WholeMachine: true,
	}
}

func (l *load) measure(p *plane, round int64) costRecord {
	l.t.Helper()
	stop := p.watch(l.t)
	result := l.do(l.command(p))
	if err := stop(); err != nil {
		l.t.Fatal(err)
	}
	r := costRecord{Round: round, Plane: p.name}
	for _, s := range result.Samples {
		r.Requests += s.Requests
		r.Proxy += s.CPUNanos
		r.Others += s.OwnNanos
		r.Machine += s.MachineNanos
	}
	if r.Requests == 0 || result.Failed() > 0 {
		l.t.Fatalf("%s: %d requests, failures %v", p.name, r.Requests, result.Failures)
	}
	return r
}

// watch has the plane watched until stop is called.
func (p *plane) watch(t *testing.T) (stop func() error) {
	t.Helper()
	switch p.ways {
	case auto:
		stop := p.kernel.Windows(rand.Float64())
		return func() error { stop(); return nil }
	case all:
		if err := p.kernel.Switch(true); err != nil {
			t.Fatal(err)
		}
		return func() error { return p.kernel.Switch(false) }
	}
	return func() error { return nil }
}

// startPlane starts a data plane whose programs, if it has any, are detached.
func startPlane(t *testing.T, name string, ways ways, backend int) *plane {
	t.Helper()
	p := &plane{name: name, ways: ways, registry: observe.NewRegistry(observe.Options{Workers: 1, Methods: message.MethodNames()})}
	var told observe.Kernel
	if ways != unwatched {
		kernel, tier := bpf.Open(p.registry)
		if kernel == nil {
			t.Skipf("the kernel takes no programs here: %s", tier.Reason)
		}
		t.Cleanup(kernel.Close)
		if tier = kernel.WatchRequests(1, 1, tier); kernel.Requests(0) == nil {
			t.Skipf("the kernel does not watch requests here: %s", tier.Reason)
		}
		if err := kernel.Switch(false); err != nil {
			t.Fatal(err)
		}
		p.kernel, told = kernel, kernel
	}
	p.port = serve(t, p.registry, told, 1, fmt.Sprintf("127.0.0.1:%d", backend))
	return p
}

// serve starts a data plane with routes /r0, /r1 and so on to a back end, and returns its port.
func serve(t *testing.T, registry *observe.Registry, kernel observe.Kernel, workers int, backend string) (port uint16) {
	t.Helper()
	port = testrig.FreePort(t)
	cfg := &config.Config{
		Listeners: []config.Listener{{Name: "default/gw/http", Port: port, Protocol: config.ProtocolHTTP}},
		Clusters:  []config.Cluster{{Name: "default/app:80"}},
	}
	for i := range costRoutes {
		route := fmt.Sprintf("httproute/default/r%d", i)
		cfg.Listeners[0].Attached = append(cfg.Listeners[0].Attached, config.Attachment{Route: route, Hostnames: []string{""}})
		cfg.Routes = append(cfg.Routes, &config.Route{
			Name: route, Source: config.Source{Kind: "HTTPRoute", Namespace: "default", Name: fmt.Sprint("r", i)},
			Rules: []config.Rule{{
				Name:     "0",
				Matches:  []config.Match{{Path: config.PathMatch{Kind: config.PathPrefix, Value: fmt.Sprint("/r", i)}}},
				Backends: []config.Backend{{Cluster: "default/app:80", Weight: 1}},
			}},
		})
	}
	s, err := server.New(server.Options{
		Workers: workers, Registry: registry, Kernel: kernel, Bind: "127.0.0.1", Limits: fastpath.DefaultLimits(), Gather: 50 * time.Microsecond,
		Log: slog.New(slog.NewTextHandler(io.Discard, nil)),
	})
	if err == nil {
		err = s.Start()
	}
	if err == nil {
		err = s.Publish(cfg, config.Endpoints{"default/app:80": {{Address: backend}}})
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithCancel(context.Background())
		cancel()
		s.Drain(ctx)
	})
	return port
}

func TestWhatWatchingCosts(t *testing.T) {
	if *costFor == 0 {
		t.Skip("it is a measurement: make loadtest-ebpf")
	}
	if runtime.NumCPU() < 2 {
		t.Skip("two CPU cores are needed: one for the load, one for the proxy")
	}
	began := time.Now()
	l := startLoad(t)
	planes := []*plane{
		startPlane(t, "off", unwatched, l.backend), startPlane(t, "off again", unwatched, l.backend),
		startPlane(t, "auto", auto, l.backend), startPlane(t, "all", all, l.backend),
	}
	pinAll(t, os.Getpid(), 1)
	for _, p := range planes {
		for range 3 {
			l.measure(p, 0)
		}
	}
	file, err := os.OpenFile(*costInto, os.O_CREATE|os.O_APPEND|os.O_RDWR, 0o644)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	for time.Since(began) < *costFor {
		round := time.Now().UnixNano()
		for _, i := range rand.Perm(len(planes)) {
			text, err := json.Marshal(l.measure(planes[i], round))
			if err == nil {
				_, err = file.Write(append(text, '\n'))
			}
			if err != nil {
				t.Fatal(err)
			}
		}
	}
	text, err := os.ReadFile(*costInto)
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("\n%s\n%s\n%s", costReport(t, string(text)), accuracy(t, planes), runTimes(t, l, planes))
}

// accuracy has what the planes say about requests that came at the same time, in turns.
func accuracy(t *testing.T, planes []*plane) string {
	var b strings.Builder
	b.WriteString("| watched | requests | counted | share of them | windows | p50 in us | p90 | p99 |\n" + strings.Repeat("| --- ", 8) + "|\n")
	for _, p := range planes {
		if p.kernel == nil {
			continue
		}
		var page strings.Builder
		p.registry.WritePrometheus(&page)
		buckets, requests := map[float64]float64{}, 0.0
		for line := range strings.Lines(page.String()) {
			name, rest, _ := strings.Cut(strings.TrimSpace(line), "{")
			_, number, found := strings.Cut(rest, "} ")
			value, err := strconv.ParseFloat(number, 64)
			if !found || err != nil {
				continue
			}
			switch name {
			case "rauta_requests_total":
				requests += value
			case "rauta_kernel_request_seconds_bucket":
				_, bound, _ := strings.Cut(rest, `le="`)
				bound, _, _ = strings.Cut(bound, `"`)
				upper, err := strconv.ParseFloat(bound, 64)
				if err != nil {
					t.Fatal(err)
				}
				buckets[upper] += value
			}
		}
		counted := buckets[math.Inf(1)]
		if counted == 0 {
			continue
		}
		fmt.Fprintf(&b, "| %s | %.0f | %.0f | %.4f | %.4f | %.1f | %.1f | %.1f |\n", p.name, requests, counted, counted/requests, p.kernel.Share(),
			1e6*stats.BucketQuantile(buckets, 0.5), 1e6*stats.BucketQuantile(buckets, 0.9), 1e6*stats.BucketQuantile(buckets, 0.99))
	}
	return b.String()
}

// runTimes has the kernel itself say how long the programs run. The clock that it reads for that is in it.
func runTimes(t *testing.T, l *load, planes []*plane) string {
	statistics, err := ebpf.EnableStats(uint32(unix.BPF_STATS_RUN_TIME))
	if err != nil {
		return "no statistics: " + err.Error()
	}
	defer statistics.Close()
	var b strings.Builder
	for _, p := range planes {
		if p.kernel == nil {
			continue
		}
		runsBefore, nsBefore, err1 := p.kernel.RunTimes()
		requests := uint64(0)
		for range 20 {
			requests += l.measure(p, 0).Requests // without those of the slice that does not count
		}
		runs, ns, err2 := p.kernel.RunTimes()
		if err1 != nil || err2 != nil {
			t.Fatal(err1, err2)
		}
		n := runs - runsBefore
		fmt.Fprintf(&b, "%s: the program ran %.2f times per request, %.0f ns each\n", p.name,
			float64(n)/(float64(requests)*(1+1.0/costSlices)), float64(ns-nsBefore)/float64(max(n, 1)))
	}
	return b.String()
}

// costs are what planes took of a clock, in nanoseconds per request, by plane: a value for each round, or for some of them.
type costs map[string][]float64

// costReport has the distribution over rounds of what planes take, to the first in the same round.
func costReport(t *testing.T, text string) string {
	byRound := map[int64]map[string]costRecord{}
	for line := range strings.Lines(text) {
		var r costRecord
		if err := json.Unmarshal([]byte(line), &r); err != nil {
			t.Fatal(err)
		}
		if byRound[r.Round] == nil {
			byRound[r.Round] = map[string]costRecord{}
		}
		byRound[r.Round][r.Plane] = r
	}
	names := []string{"off", "off again", "auto", "all"}
	var rounds []map[string]costRecord
	for _, round := range slices.Sorted(maps.Keys(byRound)) {
		if len(byRound[round]) == len(names) { // the last one may have been broken off
			rounds = append(rounds, byRound[round])
		}
	}
	var b strings.Builder
	b.WriteString("| CPU time of | watched | ns/request off | rounds | min | 25% | median [95% CI] | 75% | max | difference in ns [95% CI] |\n" + strings.Repeat("| --- ", 10) + "|\n")
	for _, clock := range []struct {
		name  string
		block int
		of    func(costRecord) float64
	}{
		{"proxy", 1, func(r costRecord) float64 { return float64(r.Proxy) }},
		{"proxy, clients and back end", 1, func(r costRecord) float64 { return float64(r.Proxy + r.Others) }},
		{"machine", costBlock, func(r costRecord) float64 { return float64(r.Machine) }},
	} {
		perRequest := costs{}
		for block := range slices.Chunk(rounds, clock.block) {
			for _, name := range names {
				nanos, requests := 0.0, 0.0
				for _, planes := range block {
					nanos, requests = nanos+clock.of(planes[name]), requests+float64(planes[name].Requests)
				}
				perRequest[name] = append(perRequest[name], nanos/requests)
			}
		}
		for _, name := range names[1:] {
			fmt.Fprintf(&b, "| %s | %s |%s\n", clock.name, name, perRequest.compare(name, names[0]))
		}
	}
	return b.String()
}

// compare has the distribution of ratios and differences.
func (c costs) compare(name, base string) string {
	var ratios []float64
	var ratioGroups, differenceGroups [][]float64
	for i, cost := range c[name] {
		ratios = append(ratios, cost/c[base][i])
		ratioGroups = append(ratioGroups, []float64{cost / c[base][i]})
		differenceGroups = append(differenceGroups, []float64{cost - c[base][i]})
	}
	q, ratio, difference := stats.Quartiles(ratios), stats.MedianInterval(ratioGroups, 1), stats.MedianInterval(differenceGroups, 1)
	return fmt.Sprintf(" %.0f | %d | %.3f | %.3f | %.4f [%.4f, %.4f] | %.3f | %.3f | %.0f [%.0f, %.0f] |", stats.Median(c[base]), len(ratios),
		q[0], q[1], ratio.Median, ratio.Low, ratio.High, q[3], q[4], difference.Median, difference.Low, difference.High)
}
