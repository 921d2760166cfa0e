package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"strconv"
	"syscall"
	"time"

	"rauta.io/rauta/loadtest/peers"
)

const (
	// tracingSlice is long beside what a ring of spans holds, as what is exported after a slice is in nobody's cost.
	tracingSlice = time.Second
	// tracingRestartsMax and tracingRoundsMax keep the long slices to less than four minutes.
	tracingRestartsMax, tracingRoundsMax = 6, 3
	// untracedName is what the others of the scenario are compared with.
	untracedName = "no tracing"
)

// collectorPorts are those of the collectors that a run has: one takes everything at once, one takes connections and never
// answers, and nobody listens on the third.
type collectorPorts struct{ fast, silent, closed int }

// tracings are RAUTA with each way of tracing.
func tracings(p collectorPorts) []struct {
	name  string
	flags []string
} {
	sampled := func(percent string, port int) []string {
		return []string{"--trace-propagate", "w3c", "--trace-sampling", percent, "--trace-endpoint", fmt.Sprintf("http://127.0.0.1:%d", port)}
	}
	return []struct {
		name  string
		flags []string
	}{
		{untracedName, nil},
		{untracedName + againSuffix, nil},
		{"propagation only", []string{"--trace-propagate", "w3c"}},
		{"1% exported", sampled("1", p.fast)},
		{"100% exported", sampled("100", p.fast)},
		{"100%, collector refuses connections", sampled("100", p.closed)},
		{"100%, collector never answers", sampled("100", p.silent)},
	}
}

// runTracing measures what tracing costs with collectors that work and with those that do not. The kernel watches nothing.
func runTracing(ctx context.Context, l *lab) ([]Row, error) {
	ports, err := l.startCollectors()
	if err != nil {
		return nil, err
	}
	var entrants []entrant
	for _, way := range tracings(ports) {
		c, err := peers.RAUTA(l.options.rauta, "loop", append([]string{"--ebpf", "off"}, way.flags...)...)
		if err != nil {
			return nil, err
		}
		entrants = append(entrants, entrant{label: way.name, contender: c, routes: keepaliveRoutes})
	}
	command := l.pairedCommand()
	command.SliceNanos, command.Rounds = max(command.SliceNanos, int64(tracingSlice)), min(command.Rounds, tracingRoundsMax)
	all, err := l.measure(ctx, &plan{entrants: entrants, restarts: min(l.options.restarts, tracingRestartsMax), command: command})
	lines := rows("tracing", all)
	for i, m := range all {
		if spans := m.turns.exported + m.turns.dropped; spans > 0 {
			lines[i].Remark = fmt.Sprintf("%.1f%% of %.0f spans dropped", 100*m.turns.dropped/spans, spans)
		}
	}
	return lines, err
}

// startCollectors starts those that there are, on the core of the generator; they end with the lab.
func (l *lab) startCollectors() (p collectorPorts, err error) {
	ports, err := freePorts(3)
	if err != nil {
		return p, err
	}
	p = collectorPorts{fast: ports[0], silent: ports[1], closed: ports[2]}
	self, err := os.Executable()
	if err != nil {
		return p, fmt.Errorf("finding this program's own file: %w", err)
	}
	for kind, port := range map[string]int{"fast": p.fast, "silent": p.silent} {
		command := exec.Command(self, "collector", kind, portText(port))
		command.Stderr = os.Stderr
		if _, err := l.launcher.Start(l.ctx, command, l.cpus.generator, syscall.SIGKILL); err != nil {
			return p, err
		}
	}
	return p, nil
}

func portText(port int) string { return strconv.Itoa(port) }

// runCollector is a collector of OTLP over HTTP that says yes to all, without a look at it, or nothing to anybody.
func runCollector(arguments []string) error {
	if len(arguments) != 2 {
		return errors.New("collector: want fast or silent, and the port to listen on")
	}
	listener, err := net.Listen("tcp", net.JoinHostPort("127.0.0.1", arguments[1]))
	if err != nil {
		return fmt.Errorf("collector: %w", err)
	}
	return http.Serve(listener, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		io.Copy(io.Discard, r.Body)
		if arguments[0] == "silent" {
			<-r.Context().Done()
		}
		w.Header().Set("Content-Type", "application/x-protobuf") // of an empty message
	}))
}
