// Command loadtest measures what a request costs: CPU time and latency of RAUTA with either engine, nginx, haproxy and
// a bare epoll loop of the project's own, side by side on the same two cores.
//
// It owns the scenarios, the result table and the gate. It does not own load generation (package generator) or the
// contenders' configurations (package peers). It is run by make loadtest, and with -short by the continuous build.
//
// Throughput on a shared machine is noise; CPU time per request, taken in randomly ordered slices of a few
// milliseconds and compared within each round, is not. One contender takes part twice, to show how far two equal
// programs lie apart.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"

	"rauta.io/rauta/loadtest/bareloop"
	"rauta.io/rauta/loadtest/generator"
	"rauta.io/rauta/loadtest/peers"
)

func main() {
	if len(os.Args) > 1 {
		if role, ok := childRoles[os.Args[1]]; ok {
			exitOn(role(os.Args[2:]))
			return
		}
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	arguments, whole := os.Args[1:], run
	if len(arguments) > 0 && arguments[0] == "ebpf" {
		arguments, whole = arguments[1:], measureEBPF
	}
	err := whole(ctx, arguments, os.Stdout)
	if errors.Is(err, flag.ErrHelp) {
		return
	}
	exitOn(err)
}

func exitOn(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, "loadtest:", err)
		os.Exit(1)
	}
}

// childRoles are what the program does when it has started itself.
var childRoles = map[string]func([]string) error{
	"generator": func([]string) error { return generator.Run() },
	"bareloop":  runBareLoop,
	"collector": runCollector,
}

func runBareLoop(arguments []string) error {
	if len(arguments) != 2 {
		return errors.New("bareloop: want the port to listen on and the port of the back end")
	}
	listen, err1 := strconv.Atoi(arguments[0])
	backend, err2 := strconv.Atoi(arguments[1])
	if err := errors.Join(err1, err2); err != nil {
		return fmt.Errorf("bareloop: %w", err)
	}
	return bareloop.Run(bareloop.Options{ListenPort: listen, BackendPort: backend})
}

// run does one whole load test. The table goes to output and to files.
func run(ctx context.Context, arguments []string, output io.Writer) error {
	options, err := parseOptions(arguments)
	if err != nil {
		return err
	}
	contenders, missing, err := findContenders(options)
	if err != nil {
		return err
	}
	for _, line := range missing {
		fmt.Fprintln(output, line)
	}
	if err := os.MkdirAll(options.folder, 0o755); err != nil {
		return fmt.Errorf("making the result folder: %w", err)
	}
	l, err := openLab(ctx, options, contenders, output)
	if err != nil {
		return err
	}
	defer l.close()
	machine := describeMachine(contenders, l.cpus, options)
	var all []Row
	var perf strings.Builder // the same by scenario, in the form of PERF.md
	for _, s := range options.scenarios {
		fmt.Fprintf(output, "running %s: %s\n", s.name, s.about)
		rows, err := s.run(l.ctx, l)
		if ctx.Err() != nil {
			return fmt.Errorf("scenario %s: stopped: %w", s.name, ctx.Err())
		}
		if err != nil {
			fmt.Fprintf(output, "scenario %s: %v\n", s.name, err)
			rows = append(rows, Row{Scenario: s.name, Contender: everybodyName, Error: err.Error()})
		}
		if err := writeJSON(filepath.Join(options.folder, s.name+".json"), machine, rows); err != nil {
			return err
		}
		all = append(all, rows...)
		fmt.Fprintf(&perf, "\n%s: %s.\n\n%s", s.name, s.about, markdownTable(rows, unreportedColumns...))
		// Written each time, so that a run that is stopped has not been for nothing.
		text := machine.markdown() + "\n" + summaryTable(all) + perf.String()
		if err := os.WriteFile(filepath.Join(options.folder, "perf.md"), []byte(text), 0o644); err != nil {
			return fmt.Errorf("keeping the tables: %w", err)
		}
	}
	table := machine.markdown() + "\n" + markdownTable(all)
	fmt.Fprintf(output, "\n%s\n", table)
	if err := os.WriteFile(filepath.Join(options.folder, "table.md"), []byte(table), 0o644); err != nil {
		return fmt.Errorf("keeping the table: %w", err)
	}
	if problems := gate(all, options.short); len(problems) > 0 {
		return errors.New("gate: " + strings.Join(problems, "; "))
	}
	return nil
}

// twoBuilds are RAUTA and the other build of it that it is compared with.
func twoBuilds(o *options) ([]*peers.Contender, error) {
	base, err1 := peers.RAUTA(o.base, "loop")
	own, err2 := peers.RAUTA(o.rauta, "loop")
	if err := errors.Join(err1, err2); err != nil {
		return nil, err
	}
	base.Name = baseName
	return []*peers.Contender{base, own}, nil
}

// findContenders returns those that are installed, and a line for each that is not. Only a program that was asked for
// by path must be there.
func findContenders(o *options) (found []*peers.Contender, missing []string, err error) {
	if o.base != "" {
		found, err := twoBuilds(o)
		return found, nil, err
	}
	self, err := os.Executable()
	if err != nil {
		return nil, nil, fmt.Errorf("finding this program's own file: %w", err)
	}
	found = append(found, peers.BareLoop(self))
	add := func(c *peers.Contender, err error) error {
		if err == nil {
			found = append(found, c)
		} else {
			missing = append(missing, err.Error())
		}
		return err
	}
	for _, engine := range []string{"loop", "reference"} {
		if err := add(peers.RAUTA(o.rauta, engine)); err != nil && o.rautaGiven {
			return nil, nil, err
		}
	}
	if err := add(peers.NGINX(o.nginx)); err != nil && o.nginx != "" {
		return nil, nil, err
	}
	if err := add(peers.HAProxy(o.haproxy)); err != nil && o.haproxy != "" {
		return nil, nil, err
	}
	return found, missing, nil
}
