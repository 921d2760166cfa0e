package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"rauta.io/rauta/loadtest/generator"
	"rauta.io/rauta/loadtest/procfs"
	"rauta.io/rauta/loadtest/stats"
)

// TestMain lets the test binary play the child roles, as the program itself does.
func TestMain(m *testing.M) {
	if len(os.Args) > 1 {
		if role, ok := childRoles[os.Args[1]]; ok {
			exitOn(role(os.Args[2:]))
			return
		}
	}
	os.Exit(m.Run())
}

func TestAShortRunMeasuresTheBareLoopTwiceAndLeavesNothingBehind(t *testing.T) {
	if _, err := chooseCPUs(); err != nil {
		t.Skip(err)
	}
	folder := t.TempDir()
	t.Setenv("TMPDIR", t.TempDir())
	var output bytes.Buffer
	err := run(context.Background(), []string{"-short", "-scenario", "keepalive", "-restarts", "1", "-rounds", "2", "-slice", "5ms", "-connections", "4", "-out", folder}, &output)
	if err != nil {
		t.Fatalf("%v\n%s", err, &output)
	}
	text, err := os.ReadFile(filepath.Join(folder, "keepalive.json"))
	if err != nil {
		t.Fatal(err)
	}
	var result struct{ Rows []Row }
	if err := json.Unmarshal(text, &result); err != nil {
		t.Fatal(err)
	}
	first, again := result.Rows[0], result.Rows[1]
	if first.Contender != bareLoopName || again.Contender != bareLoopName+againSuffix || first.CPUNanos <= 0 || again.Ratios[bareLoopName].Median <= 0 || first.Requests == 0 {
		t.Errorf("the first rows are %+v and %+v", first, again)
	}
	table, err := os.ReadFile(filepath.Join(folder, "table.md"))
	if err != nil || !strings.Contains(output.String(), string(table)) {
		t.Errorf("the table %q, %v, is not in the output", table, err)
	}
	if tree, err := procfs.Tree(os.Getpid()); err != nil || len(tree) != 1 {
		t.Errorf("processes %v are left, %v", tree, err)
	}
	if left, err := os.ReadDir(os.Getenv("TMPDIR")); err != nil || len(left) > 0 {
		t.Errorf("files %v are left, %v", left, err)
	}
}

func TestACancelledRunStopsItsChildren(t *testing.T) {
	if _, err := chooseCPUs(); err != nil {
		t.Skip(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	// The first line that a scenario prints ends the run, while children work.
	err := run(ctx, []string{"-scenario", "keepalive", "-out", t.TempDir()}, writerFunc(func(line []byte) {
		if bytes.HasPrefix(line, []byte("running ")) {
			cancel()
		}
	}))
	if err == nil || !strings.Contains(err.Error(), context.Canceled.Error()) {
		t.Errorf("got %v", err)
	}
	if tree, err := procfs.Tree(os.Getpid()); err != nil || len(tree) != 1 {
		t.Errorf("processes %v are left, %v", tree, err)
	}
}

type writerFunc func([]byte)

func (w writerFunc) Write(text []byte) (int, error) {
	w(text)
	return len(text), nil
}

func TestRatiosArePairedByRound(t *testing.T) {
	// Both double their cost in every second round: paired, the ratio stays 0.5 in each.
	base, own := newMeasurement(entrant{label: nginxName}), newMeasurement(entrant{label: rautaName})
	for round := range 8 {
		slow := uint64(1 + round%2)
		base.add(&generator.Result{Samples: []generator.Sample{{Round: round, CPUNanos: 2000 * slow, WallNanos: 4000, Requests: 1}}}, 0)
		own.add(&generator.Result{Samples: []generator.Sample{{Round: round, CPUNanos: 1000 * slow, WallNanos: 4000, Requests: 1}}}, 0)
	}
	line := rows("keepalive", []*measurement{base, own})[1]
	if got, want := line.Ratios[nginxName], (stats.Interval{Median: 0.5, Low: 0.5, High: 0.5}); got != want {
		t.Errorf("got %+v, want %+v", got, want)
	}
	if line.CPUNanos != 1500 || line.PerSecond != 250_000 || line.Saturation != 0.375 {
		t.Errorf("got %+v", line)
	}
}

func TestTheUserShareFollowsTheTicks(t *testing.T) {
	m := newMeasurement(entrant{label: rautaName})
	m.add(&generator.Result{UserTicks: 1, SystemTicks: 3, Samples: []generator.Sample{{CPUNanos: 8000, WallNanos: 1, Requests: 1}}}, 0)
	if line := rows("x", []*measurement{m})[0]; line.UserNanos != 2000 || line.SysNanos != 6000 {
		t.Errorf("user %v, system %v; want 2000, 6000", line.UserNanos, line.SysNanos)
	}
}

func TestTheGateFailsForFailuresAndForCostAboveNginx(t *testing.T) {
	costs := func(ratio float64) Row {
		return Row{Scenario: "keepalive", Contender: rautaName, Ratios: map[string]stats.Interval{nginxName: {Median: ratio}}}
	}
	for _, c := range []struct {
		name  string
		row   Row
		short bool
		want  int
	}{
		{"cheap enough", costs(1.19), true, 0},
		{"too expensive", costs(1.21), true, 1},
		{"too expensive, but not gated", costs(1.21), false, 0},
		{"HTTP/2 cheaper than one peer, but not than the other", Row{Scenario: "h2c-h1, 10 streams", Contender: rautaName,
			Ratios: map[string]stats.Interval{nginxName: {Median: 0.4}, haproxyName: {Median: 1.1}}}, true, 1},
		{"nginx not installed", Row{Scenario: "keepalive", Contender: rautaName}, true, 0},
		{"a failed request of ours", Row{Scenario: "reload", Contender: "rauta reference", Failed: 1}, false, 1},
		{"a failed request of a peer while reloading", Row{Scenario: "reload", Contender: nginxName, Failed: 9}, false, 0},
		{"a failed request of a peer in the plain case", Row{Scenario: "keepalive", Contender: haproxyName, Failed: 1}, true, 1},
		{"ours did not start", Row{Scenario: "keepalive", Contender: rautaName, Error: "it has ended"}, true, 1},
		{"a scenario broke off", Row{Scenario: "idle", Contender: everybodyName, Error: "the generator has ended"}, false, 1},
	} {
		if got := gate([]Row{c.row}, c.short); len(got) != c.want {
			t.Errorf("%s: %q, want %d problems", c.name, got, c.want)
		}
	}
}

func TestTheSummaryHasOneLineForEachScenarioOfTheLoop(t *testing.T) {
	ratio := func(base string, median float64) map[string]stats.Interval {
		return map[string]stats.Interval{base: {Median: median, Low: median, High: median}}
	}
	got := summaryTable([]Row{
		{Scenario: "a", Contender: rautaName, CPUNanos: 2500, PerTurn: 12, Saturation: 0.9, Ratios: ratio(haproxyName, 0.5)},
		{Scenario: "a", Contender: haproxyName + againSuffix, CPUNanos: 5000, Ratios: ratio(haproxyName, 1.01)},
		{Scenario: "b", Contender: rautaName, Error: "it has ended"},
	})
	const want = "| a | 2.50 |  | 0.500 [0.500, 0.500] | 1.010 [1.010, 1.010] | 0.90 | 12.0 | 0 |\n"
	if lines := strings.SplitAfter(got, "\n"); len(lines) != 4 || lines[2] != want {
		t.Errorf("got\n%s\nwant the one line\n%s", got, want)
	}
	got = summaryTable([]Row{
		{Scenario: "a", Contender: baseName, CPUNanos: 2600},
		{Scenario: "a", Contender: baseName + againSuffix, CPUNanos: 2600, Ratios: ratio(baseName, 0.99)},
		{Scenario: "a", Contender: rautaName, CPUNanos: 2500, PerTurn: 12, Saturation: 0.9, Ratios: ratio(baseName, 0.96)},
	})
	if !strings.Contains(got, "| a | 2.50 | 0.960 [0.960, 0.960] | 0.990 [0.990, 0.990] | 0.90 | 12.0 | 0 |\n") || strings.Contains(got, nginxName) {
		t.Errorf("two builds: got\n%s", got)
	}
}

func TestTwoBuildsAreComparedWithoutThePeers(t *testing.T) {
	program := filepath.Join(t.TempDir(), "rauta")
	if err := os.WriteFile(program, []byte("#!/bin/sh\necho rauta 1.2.3\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	found, missing, err := findContenders(&options{rauta: program, base: program})
	if err != nil || len(missing) > 0 || len(found) != 2 || found[0].Name != baseName || found[1].Name != rautaName {
		t.Errorf("got %+v, missing %v, %v", found, missing, err)
	}
	if _, _, err := findContenders(&options{rauta: program, base: program + "-old"}); err == nil || !strings.Contains(err.Error(), "rauta-old") {
		t.Errorf("a base that is not there: %v", err)
	}
}

func TestTurnsAndRequestsAreSummedOverTheirLabelsOnly(t *testing.T) {
	text := "# TYPE rauta_requests_total counter\nrauta_requests_total{code=\"2xx\"} 30\nrauta_requests_total{code=\"5xx\"} 2\n" +
		"rauta_requests_total_other{a=\"b\"} 7\nrauta_loop_turns_total{worker=\"0\"} 8\n"
	counts, err := parseCounts(bufio.NewScanner(strings.NewReader(text)))
	if want := (loopCounts{requests: 32, turns: 8}); err != nil || counts != want {
		t.Errorf("got %+v, %v; want %+v", counts, err, want)
	}
	var sum loopCounts
	sum.add(loopCounts{requests: 2, turns: 3}, counts)
	if sum.perTurn() != 6 || (&loopCounts{}).perTurn() != 0 {
		t.Errorf("%v and %v for each turn, want 6 and none", sum.perTurn(), (&loopCounts{}).perTurn())
	}
}

func TestTheTableLeavesOutEmptyColumnsAndShowsFailures(t *testing.T) {
	table := markdownTable([]Row{
		{Scenario: "keepalive", Contender: bareLoopName, CPUNanos: 10_400, Requests: 7},
		{Scenario: "keepalive", Contender: nginxName, CPUNanos: 12_345, Requests: 8, Failed: 3, Failures: map[string]uint64{"b": 1, "a|": 2},
			Ratios: map[string]stats.Interval{bareLoopName: {Median: 1.187, Low: 1.1, High: 1.2}}},
	})
	want := `| scenario | contender | CPU µs/request | to bare loop [95% CI] | requests | failed | remarks |
| --- | --- | --- | --- | --- | --- | --- |
| keepalive | bare loop | 10.40 |  | 7 | 0 |  |
| keepalive | nginx | 12.35 | 1.187 [1.100, 1.200] | 8 | 3 | 2 x a/; 1 x b |
`
	if table != want {
		t.Errorf("got\n%s\nwant\n%s", table, want)
	}
	if short := markdownTable([]Row{{Contender: "a", Requests: 1, RSSBytes: 2e6}}, "requests", "failed"); short != "| contender | RSS MB |\n| --- | --- |\n| a | 2.0 |\n" {
		t.Errorf("without two columns:\n%s", short)
	}
}

func TestWhoDoesNotHoldTheRateIsComparedWithNobody(t *testing.T) {
	row := func(contender string, perSecond float64, others ...string) Row {
		ratios := make(map[string]stats.Interval)
		for _, base := range others {
			ratios[base] = stats.Interval{Median: 0.9}
		}
		return Row{Scenario: "fixed", Contender: contender, PerSecond: perSecond, Ratios: ratios}
	}
	lines := []Row{
		row(rautaName, 9_990, nginxName, haproxyName),
		row(nginxName, 9_600, haproxyName),
		row(haproxyName, 9_400, nginxName),
	}
	remarkRate(lines, 10_000, "offered")
	if _, ok := lines[0].Ratios[nginxName]; !ok || len(lines[0].Ratios) != 1 {
		t.Errorf("RAUTA is compared with %v, want nginx only: haproxy is behind", lines[0].Ratios)
	}
	if len(lines[1].Ratios)+len(lines[2].Ratios) != 0 {
		t.Errorf("haproxy, which is behind, is compared: %v, %v", lines[1].Ratios, lines[2].Ratios)
	}
	if lines[1].Remark != "10000 requests/s offered" || lines[2].Remark != "10000 requests/s offered, not held" {
		t.Errorf("remarks %q and %q", lines[1].Remark, lines[2].Remark)
	}
}

func TestOptionsAreChecked(t *testing.T) {
	for _, c := range []struct {
		arguments string
		want      string
	}{
		{"-scenario idle,nap", `unknown scenario "nap"`},
		{"-connections 0", "-connections must be"},
		{"-slice 1us", "-slice must be"},
		{"-streams 5", "-streams must be 1, 10 or 100"},
		{"extra", `unexpected argument "extra"`},
	} {
		if _, err := parseOptions(strings.Fields(c.arguments)); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: got %v, want %q", c.arguments, err, c.want)
		}
	}
	o, err := parseOptions([]string{"-short", "-rauta", "bin/rauta"})
	if err != nil || o.scenarios[0].name != "keepalive" || len(o.scenarios) >= len(scenarios) || !o.rautaGiven {
		t.Errorf("-short gives %+v, %v", o, err)
	}
	if len(o.streams) != 1 || o.streams[0].streams != 10 {
		t.Errorf("-short has %v streams", o.streams)
	}
	if o, err = parseOptions([]string{"-streams", "100"}); err != nil || len(o.streams) != 1 || o.streams[0].streams != 100 {
		t.Errorf("-streams 100 gives %v, %v", o.streams, err)
	}
	if o, err = parseOptions(nil); err != nil || len(o.streams) != len(streamCounts) || len(o.scenarios) != len(scenarios) || o.restarts < repetitionsMin || o.rautaGiven {
		t.Errorf("no flags give %+v, %v", o, err)
	}
}

func TestEveryGatedScenarioIsPartOfAShortRun(t *testing.T) {
	o, err := parseOptions([]string{"-short"})
	if err != nil {
		t.Fatal(err)
	}
	for _, limit := range cpuLimits() {
		name, _, _ := strings.Cut(limit.scenario, ",")
		if !slices.ContainsFunc(o.scenarios, func(s scenario) bool { return s.name == name }) {
			t.Errorf("a short run lacks %s", name)
		}
	}
}

func TestAProgramThatWasAskedForMustExist(t *testing.T) {
	missing := filepath.Join(t.TempDir(), "rauta")
	if _, _, err := findContenders(&options{rauta: missing, rautaGiven: true}); err == nil {
		t.Error("a missing -rauta is accepted")
	}
	found, notes, err := findContenders(&options{rauta: missing})
	if err != nil || len(found) == 0 || found[0].Name != bareLoopName || len(notes) < 2 {
		t.Errorf("found %v, notes %q, %v", found, notes, err)
	}
}

func TestRequestsAreWholeAndSpreadOverTheRoutes(t *testing.T) {
	heads := requestHeads(1000, 0, true)
	distinct := map[string]bool{}
	for _, head := range heads {
		distinct[head] = true
		if !strings.HasPrefix(head, "GET /team-") || !strings.HasSuffix(head, "\r\n\r\n") || strings.Count(head, "\r\n") != 11 {
			t.Fatalf("request %q, want a request line, Host and eight fields", head)
		}
	}
	if len(distinct) != distinctRequests {
		t.Errorf("%d distinct requests, want %d", len(distinct), distinctRequests)
	}
	if head := requestHead(3, 9, false); !strings.HasPrefix(head, "POST ") || !strings.Contains(head, "\r\nContent-Length: 9\r\n") {
		t.Errorf("upload %q", head)
	}
}

func TestH2loadsAndGhzsResultsAreReadFromTheirOutput(t *testing.T) {
	const h2load = `finished in 1.00s, 61234.00 req/s, 2.04MB/s
requests: 61234 total, 61334 started, 61234 done, 61230 succeeded, 4 failed, 1 errored, 2 timeout
status codes: 61228 2xx, 2 3xx, 3 4xx, 1 5xx
`
	if got, err := parseH2load(h2load); err != nil || got != (toolResult{requests: 61234, micros: toolSeconds * 1e6, socketErrors: 3, statusErrors: 4}) {
		t.Errorf("h2load: %+v, %v", got, err)
	}
	const ghz = `{"count": 1000, "total": 2000000000, "statusCodeDistribution": {"OK": 990, "Unavailable": 7, "Canceled": 3},
		"latencyDistribution": [{"percentage": 50, "latency": 1500000}, {"percentage": 99, "latency": 9000000}]}`
	if got, err := parseGhz(ghz); err != nil || got != (toolResult{requests: 997, micros: 2_000_000, statusErrors: 7, p50: 1500, p99: 9000}) {
		t.Errorf("ghz: %+v, %v", got, err)
	}
	for _, bad := range []string{"", "requests: x", "{"} {
		if _, err := parseH2load(bad); err == nil {
			t.Errorf("h2load: %q is accepted", bad)
		}
		if _, err := parseGhz(bad); err == nil {
			t.Errorf("ghz: %q is accepted", bad)
		}
	}
}

func TestWrksResultIsReadFromItsOutput(t *testing.T) {
	got, err := parseWrk("Running 2s test\n" + wrkMark + " 1000 2000000 1 2 500.000000 900.500000 1200.000000\n")
	if want := (toolResult{1000, 2_000_000, 1, 2, 500, 900.5, 1200}); err != nil || got != want {
		t.Errorf("got %+v, %v; want %+v", got, err, want)
	}
	for _, bad := range []string{"unable to connect", wrkMark + " 1 2 three"} {
		if _, err := parseWrk(bad); err == nil {
			t.Errorf("%q is accepted", bad)
		}
	}
}
