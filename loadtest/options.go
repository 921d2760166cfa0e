package main

import (
	"errors"
	"flag"
	"fmt"
	"strings"
	"time"
)

// options are the flags, and the sizes that follow from -short.
type options struct {
	rauta       string
	rautaGiven  bool
	nginx       string // "": the one in the search path
	haproxy     string
	base        string  // another build of RAUTA; "": the peers
	perSecond   float64 // at fixed rates; 0: half of the slowest's most
	folder      string
	short       bool
	browser     bool
	scenarios   []scenario
	streams     []streamCount // that HTTP/2 has in flight
	connections int
	bodyBytes   int
	restarts    int // fresh starts of every contender
	rounds      int // per start
	slice       time.Duration
}

const (
	// keepaliveRoutes are configured wherever the number of routes is not what is measured.
	keepaliveRoutes = 1000
	// shortScenarios have a limit of the gate each.
	shortScenarios = "keepalive,h2c-h1,h2c-h2c,h2-h1,grpc,tls,handshakes,websocket,websocket-h2"
	// repetitionsMin is the fewest interleaved repetitions that a median of a full run rests on.
	repetitionsMin = 7
)

func parseOptions(arguments []string) (*options, error) {
	o := &options{}
	flags := flag.NewFlagSet("loadtest", flag.ContinueOnError)
	names := flags.String("scenario", "", "comma-separated scenarios to run: "+strings.Join(scenarioNames(), ", ")+" (default: all, or with -short "+shortScenarios+")")
	flags.BoolVar(&o.short, "short", false, "a few scenarios only, under three minutes, with the gate on CPU time against the peers")
	flags.StringVar(&o.rauta, "rauta", "bin/rauta", "the RAUTA program; must exist when the flag is given")
	flags.StringVar(&o.nginx, "nginx", "", "the nginx program; must exist when the flag is given (default: the one in the search path)")
	flags.StringVar(&o.haproxy, "haproxy", "", "the haproxy program, likewise")
	flags.StringVar(&o.base, "base", "", "another build of RAUTA to compare with, twice, instead of with the peers")
	flags.Float64Var(&o.perSecond, "rate", 0, "requests/s where the rate is fixed (default: half of the slowest's most)")
	flags.StringVar(&o.folder, "out", "loadtest/out", "folder for the table and the JSON files")
	flags.BoolVar(&o.browser, "browser", false, "send the eight header fields of a browser instead of two")
	streams := flags.Int("streams", 0, "streams in flight on each connection of HTTP/2: 1, 10 or 100 (default: all of them, or 10 with -short)")
	flags.IntVar(&o.connections, "connections", 64, "client connections per contender")
	flags.IntVar(&o.bodyBytes, "body", 100, "bytes of each response body")
	flags.IntVar(&o.restarts, "restarts", 0, "fresh starts of every contender (default 7, or 3 with -short)")
	flags.IntVar(&o.rounds, "rounds", 12, "rounds of slices per start")
	flags.DurationVar(&o.slice, "slice", 40*time.Millisecond, "length of a slice; 25 to 60 ms work well")
	if err := flags.Parse(arguments); err != nil {
		return nil, err
	}
	if flags.NArg() > 0 {
		return nil, fmt.Errorf("unexpected argument %q", flags.Arg(0))
	}
	flags.Visit(func(f *flag.Flag) { o.rautaGiven = o.rautaGiven || f.Name == "rauta" })
	if o.restarts == 0 {
		o.restarts = repetitionsMin
		if o.short {
			o.restarts = 3
		}
	}
	if *names == "" && o.short {
		*names = shortScenarios
	}
	var err error
	if o.streams, err = chooseStreams(*streams, o.short); err != nil {
		return nil, err
	}
	if o.scenarios, err = chooseScenarios(*names); err != nil {
		return nil, err
	}
	return o, o.validate()
}

func (o *options) validate() error {
	switch {
	case o.connections < 1 || o.connections > 4096:
		return errors.New("-connections must be between 1 and 4096")
	case o.bodyBytes < 0 || o.bodyBytes > 64<<20:
		return errors.New("-body must be between 0 and 64 MiB")
	case o.restarts < 1 || o.rounds < 1:
		return errors.New("-restarts and -rounds must be at least 1")
	case o.perSecond < 0:
		return errors.New("-rate must not be negative")
	case o.slice < time.Millisecond || o.slice > 10*time.Second:
		return errors.New("-slice must be between 1ms and 10s")
	}
	return nil
}

// chooseStreams returns the count that was asked for; for 0 all of them, or in a short run the one in the middle.
func chooseStreams(n int, short bool) ([]streamCount, error) {
	switch {
	case n == 0 && short:
		return streamCounts[1:2], nil
	case n == 0:
		return streamCounts, nil
	}
	for i, c := range streamCounts {
		if c.streams == n {
			return streamCounts[i : i+1], nil
		}
	}
	return nil, fmt.Errorf("-streams must be 1, 10 or 100, not %d", n)
}

// chooseScenarios returns the named ones in the order of the list, or all for "".
func chooseScenarios(names string) ([]scenario, error) {
	if names == "" {
		return scenarios, nil
	}
	wanted := map[string]bool{}
	for name := range strings.SplitSeq(names, ",") {
		wanted[strings.TrimSpace(name)] = true
	}
	var chosen []scenario
	for _, s := range scenarios {
		if wanted[s.name] {
			chosen = append(chosen, s)
			delete(wanted, s.name)
		}
	}
	for name := range wanted {
		return nil, fmt.Errorf("unknown scenario %q, have %s", name, strings.Join(scenarioNames(), ", "))
	}
	return chosen, nil
}
