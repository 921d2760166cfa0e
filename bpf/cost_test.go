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
	"os"
	"os/exec"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"rauta.io/rauta/bpf"
	"rauta.io/rauta/fastpath"
	"rauta.io/rauta/internal/testrig"
	"rauta.io/rauta/loadtest/generator"
	"rauta.io/rauta/proxy/config"
	"rauta.io/rauta/proxy/message"
	"rauta.io/rauta/proxy/observe"
	"rauta.io/rauta/proxy/server"
)

// What it costs to watch requests is some percent of what a request costs, and machines differ by more than that from one
// second to the next. So this measures in one process that lasts, under one load that lasts, over connections that last: only
// the windows in which requests are watched are opened and closed, in random order, hundreds of times. What a window costs is
// known much better that way than what it costs to have one for a tenth of the time; the latter is derived, and measured too.
// loadtest ebpf measures the whole program from outside, with a start for each turn, and needs far more of them.
var (
	costFor  = flag.Duration("cost", 0, "measure for so long what watching costs; 0: not at all")
	costInto = flag.String("cost-into", "", "file that the slices are added to, and that is reported")
)

// generatorRole is the argument with which this program is the clients and the back end.
const generatorRole = "generator"

// TestMain runs the tests, or what they start of this program.
func TestMain(m *testing.M) {
	var err error
	switch want := os.Getenv(bpf.TierWanted); {
	case want != "":
		err = bpf.CheckTier(want)
	case len(os.Args) > 1 && os.Args[1] == generatorRole:
		err = generator.Run()
	default:
		os.Exit(m.Run())
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

const (
	costConnections = 64
	costRoutes      = 64
	costBody        = 100
	// costWindow is as long as a window of the default.
	costWindow = 100 * time.Millisecond
	// costTurn is about as long as a window of the default and the time to the next one at saturation.
	costTurn = time.Second
	// costBlock blocks of windows are added up for the whole machine, whose idle time is told in steps of 10 ms.
	costBlock = 10
	costWarm  = 2 * time.Second
)

// ways are ways of being watched.
type ways int

const (
	unwatched ways = iota
	auto           // as is the default: in windows
)

// plane is a data plane with one way of being watched.
type plane struct {
	name     string
	kernel   *bpf.Kernel // nil: no programs
	registry *observe.Registry
	port     uint16
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

// begin has the generator do something that takes time; result waits for its end.
func (l *load) begin(c *generator.Command) (result func() []*generator.Result) {
	l.t.Helper()
	text, err := json.Marshal(c)
	if err != nil {
		l.t.Fatal(err)
	}
	if _, err := l.in.Write(append(text, '\n')); err != nil {
		l.t.Fatal(err)
	}
	return func() []*generator.Result {
		results := l.reply().Results
		for _, r := range results {
			if r.Failed() > 0 || r.Requests == 0 {
				l.t.Fatalf("%d requests, failures %v", r.Requests, r.Failures)
			}
		}
		return results
	}
}

func (l *load) command(planes ...*plane) *generator.Command {
	var heads []string
	for i := range costRoutes {
		heads = append(heads, fmt.Sprintf("GET /r%d HTTP/1.1\r\nHost: a.example\r\nUser-Agent: cost\r\nAccept: */*\r\n\r\n", i))
	}
	c := &generator.Command{Kind: generator.Paired, Connections: costConnections, Requests: heads, BodyBytes: costBody, Rounds: 1}
	for _, p := range planes {
		c.Targets = append(c.Targets, generator.Target{Name: p.name, Port: int(p.port), PIDs: []int{os.Getpid()}})
	}
	return c
}

// startPlane starts a data plane whose programs, if it has any, are detached.
func startPlane(t *testing.T, name string, ways ways, backend int) *plane {
	t.Helper()
	p := &plane{name: name, registry: observe.NewRegistry(observe.Options{Workers: 1, Methods: message.MethodNames()})}
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
