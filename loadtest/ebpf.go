package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"rauta.io/rauta/loadtest/generator"
	"rauta.io/rauta/loadtest/peers"
)

// variant is RAUTA with one way of being watched by the kernel.
type variant struct {
	name  string
	flags []string
	about string
}

// The variants that others are compared with.
const (
	variantOff     = "off"
	variantAll     = "all"
	variantDefault = "auto"
	variantLooks   = "looks"
)

// variants are measured against the first, which takes part twice.
var variants = []variant{
	{variantOff, []string{"--ebpf", "off"}, "no programs in the kernel"},
	{variantOff + againSuffix, []string{"--ebpf", "off"}, "the same once more"},
	{variantDefault, nil, "as RAUTA starts: all requests for as much of the time as the budget allows"},
	{variantAll, []string{"--ebpf-sample", "1"}, "every request"},
	{variantLooks, []string{"--ebpf-sample", "1024"}, "the program looks at every arrival, and hardly any request is watched"},
}

const (
	// ebpfWarmUp lets RAUTA find the interval between watched requests, which it does once a second.
	ebpfWarmUp = 1600 * time.Millisecond
	// ebpfSlice is long, because the idle time of a machine is told in steps of 10 ms.
	ebpfSlice  = 1500 * time.Millisecond
	ebpfSlices = 2
)

// ebpfOptions are the flags of the subcommand.
type ebpfOptions struct {
	*options
	rounds   int
	bound    time.Duration
	into     string
	variants []variant
	report   bool
}

func parseEBPFOptions(arguments []string) (*ebpfOptions, error) {
	o := &ebpfOptions{options: &options{bodyBytes: 100}}
	flags := flag.NewFlagSet("loadtest ebpf", flag.ContinueOnError)
	flags.StringVar(&o.rauta, "rauta", "bin/rauta", "the RAUTA program")
	flags.StringVar(&o.into, "into", "loadtest/out/ebpf.jsonl", "file that results are added to; all that it has are reported")
	flags.IntVar(&o.rounds, "rounds", 20, "rounds; in each every variant is started once, in random order and one after the other")
	flags.DurationVar(&o.bound, "for", 0, "begin no further round that would end later than this (default: no bound)")
	flags.IntVar(&o.connections, "connections", 64, "client connections")
	flags.Float64Var(&o.perSecond, "rate", 0, "requests/s, on a schedule; then only what watching tells is of interest (default: as many as possible)")
	flags.BoolVar(&o.report, "report", false, "measure nothing, only report what the file has")
	names := flags.String("variants", "", "comma-separated variants beside "+variantOff+" (default: all): "+strings.Join(variantNames(variants[1:]), ", "))
	if err := flags.Parse(arguments); err != nil {
		return nil, err
	}
	var err error
	if o.variants, err = chooseVariants(*names); err != nil {
		return nil, err
	}
	switch {
	case flags.NArg() > 0:
		return nil, fmt.Errorf("unexpected argument %q", flags.Arg(0))
	case o.rounds < 1 || o.perSecond < 0 || o.bound < 0:
		return nil, errors.New("-rounds must be at least 1, -rate and -for must not be negative")
	case o.connections < 1 || o.connections > 4096:
		return nil, errors.New("-connections must be between 1 and 4096")
	}
	return o, nil
}

func variantNames(all []variant) (names []string) {
	for _, v := range all {
		names = append(names, v.name)
	}
	return names
}

// chooseVariants returns the first variant and the named ones, or all for "".
func chooseVariants(names string) ([]variant, error) {
	if names == "" {
		return variants, nil
	}
	chosen := variants[:1:1]
	for name := range strings.SplitSeq(names, ",") {
		i := slices.IndexFunc(variants[1:], func(v variant) bool { return v.name == strings.TrimSpace(name) })
		if i < 0 {
			return nil, fmt.Errorf("unknown variant %q, have %s", name, strings.Join(variantNames(variants[1:]), ", "))
		}
		chosen = append(chosen, variants[1+i])
	}
	return chosen, nil
}

// watchRecord is what one start of one variant did, a line of the file. Times are in nanoseconds.
type watchRecord struct {
	Round     string    `json:"round"` // the time at which it began: what is compared has the same
	Version   string    `json:"version"`
	CPU       string    `json:"cpu"`
	Kernel    string    `json:"kernel"`
	Variant   string    `json:"variant"`
	PerSecond float64   `json:"offeredPerSecond,omitempty"` // 0: as many as possible
	Requests  uint64    `json:"requests"`
	Failed    uint64    `json:"failed"`
	Wall      int64     `json:"wallNanos"`
	Process   uint64    `json:"processNanos"`           // CPU time of the proxy
	Waiting   uint64    `json:"waitingNanos"`           // for which others had the proxy's core
	Machine   int64     `json:"machineNanos,omitempty"` // CPU time of everybody
	P50       float64   `json:"p50Nanos"`               // as clients see it
	P99       float64   `json:"p99Nanos"`
	Watched   kernelSum `json:"watched"`
}

// measureEBPF runs RAUTA against itself. Only one RAUTA runs at a time: programs in the kernel are run for the sockets of
// all processes, also of those that are there without them.
func measureEBPF(ctx context.Context, arguments []string, output io.Writer) error {
	o, err := parseEBPFOptions(arguments)
	if err != nil {
		return err
	}
	if !o.report {
		if err := o.measure(ctx, output); err != nil {
			return err
		}
	}
	records, err := readRecords(o.into)
	if err != nil {
		return err
	}
	_, err = io.WriteString(output, watchReport(records))
	return err
}

func (o *ebpfOptions) measure(ctx context.Context, output io.Writer) error {
	began := time.Now()
	o.folder = filepath.Dir(o.into)
	if err := os.MkdirAll(o.folder, 0o755); err != nil {
		return fmt.Errorf("making the result folder: %w", err)
	}
	file, err := os.OpenFile(o.into, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		return fmt.Errorf("opening the file of results: %w", err)
	}
	defer file.Close()
	entrants := map[string]entrant{}
	var contenders []*peers.Contender
	for _, v := range o.variants {
		c, err := peers.RAUTA(o.rauta, "loop", v.flags...)
		if err != nil {
			return err
		}
		contenders = append(contenders, c)
		entrants[v.name] = entrant{label: "rauta " + v.name, contender: c, routes: keepaliveRoutes}
	}
	l, err := openLab(ctx, o.options, contenders, output)
	if err != nil {
		return err
	}
	defer l.close()
	var longest time.Duration
	for round := range o.rounds {
		roundBegan := time.Now()
		if o.bound > 0 && time.Since(began)+longest > o.bound {
			break
		}
		records, err := o.round(ctx, l, entrants)
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if err != nil {
			return err
		}
		if err := writeRecords(file, records); err != nil {
			return err
		}
		longest = max(longest, time.Since(roundBegan))
		fmt.Fprintf(output, "round %d after %v\n", round+1, time.Since(began).Round(time.Second))
	}
	return nil
}

// round starts every variant once.
func (o *ebpfOptions) round(ctx context.Context, l *lab, entrants map[string]entrant) ([]watchRecord, error) {
	began := time.Now().UTC().Format(time.RFC3339Nano)
	var records []watchRecord
	for _, i := range rand.Perm(len(o.variants)) {
		v := o.variants[i]
		r, err := o.once(ctx, l, entrants[v.name])
		if err != nil {
			return nil, fmt.Errorf("variant %s: %w", v.name, err)
		}
		r.Round, r.Variant, r.PerSecond = began, v.name, o.perSecond
		r.Version, r.CPU, r.Kernel = entrants[v.name].contender.Version, valueIn("/proc/cpuinfo", "model name"), kernelRelease()
		records = append(records, r)
	}
	return records, nil
}

func (o *ebpfOptions) once(ctx context.Context, l *lab, who entrant) (r watchRecord, err error) {
	e, err := l.start(ctx, who)
	if err != nil {
		return r, err
	}
	defer l.stop(e)
	command := l.pairedCommand()
	command.Targets, command.WarmUp, command.WholeMachine = []generator.Target{e.target()}, false, o.perSecond == 0
	if o.perSecond > 0 {
		command.Kind, command.PerSecond = generator.Rate, o.perSecond
	}
	command.Rounds, command.SliceNanos = 1, int64(ebpfWarmUp)
	if _, err := l.generator.do(ctx, &command); err != nil {
		return r, err
	}
	before, err := e.scrapeWatched(ctx)
	if err != nil {
		return r, err
	}
	command.Rounds, command.SliceNanos = ebpfSlices, int64(ebpfSlice)
	results, err := l.generator.do(ctx, &command)
	if err != nil {
		return r, err
	}
	l.keepFailed(ctx, e, results[0])
	after, err := e.scrapeWatched(ctx)
	if err != nil {
		return r, err
	}
	if e.wantsWatching() && after.Interval == 0 {
		return r, errors.New("RAUTA could not load its programs; its metric rauta_ebpf_tier and its log say why")
	}
	r.Failed, r.Watched = results[0].Failed(), after.since(before)
	r.P50, r.P99 = float64(results[0].Latency.Quantile(0.5)), float64(results[0].Latency.Quantile(0.99))
	for _, s := range results[0].Samples {
		r.Requests += s.Requests
		r.Wall += s.WallNanos
		r.Process += s.CPUNanos
		r.Waiting += s.WaitNanos
		r.Machine += s.MachineNanos
	}
	if r.Requests == 0 {
		return r, fmt.Errorf("no request was answered: %s", describeFailures(results[0]))
	}
	return r, nil
}

func (e *entered) wantsWatching() bool { return !strings.HasPrefix(e.label, "rauta "+variantOff) }

func writeRecords(w io.Writer, records []watchRecord) error {
	var text []byte
	for _, r := range records {
		line, err := json.Marshal(r)
		if err != nil {
			return fmt.Errorf("writing the results: %w", err)
		}
		text = append(append(text, line...), '\n')
	}
	if _, err := w.Write(text); err != nil {
		return fmt.Errorf("writing the results: %w", err)
	}
	return nil
}

func readRecords(path string) (records []watchRecord, err error) {
	file, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("opening the file of results: %w", err)
	}
	defer file.Close()
	const lineBytesMax = 1 << 20
	lines := bufio.NewScanner(file)
	lines.Buffer(nil, lineBytesMax)
	for number := 1; lines.Scan(); number++ {
		var r watchRecord
		if err := json.Unmarshal(lines.Bytes(), &r); err != nil {
			return nil, fmt.Errorf("%s, line %d: %w", path, number, err)
		}
		records = append(records, r)
	}
	return records, lines.Err()
}
