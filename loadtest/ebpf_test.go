package main

import (
	"bufio"
	"bytes"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
)

func TestWhatTheKernelSaysIsSummedOverRoutes(t *testing.T) {
	page := `# TYPE rauta_kernel_request_seconds histogram
rauta_kernel_request_interval{worker="0"} 7
rauta_kernel_request_seconds_bucket{route="a/b",le="0.001"} 1
rauta_kernel_request_seconds_bucket{route="a/b",le="+Inf"} 3
rauta_kernel_request_seconds_bucket{route="c/d",le="0.001"} 4
rauta_kernel_request_seconds_bucket{route="c/d",le="+Inf"} 5
rauta_kernel_request_seconds_sum{route="c/d"} 0.5
rauta_request_duration_seconds_bucket{route="c/d",le="0.001"} 99
`
	got, err := parseWatched(bufio.NewScanner(strings.NewReader(page)))
	if want := (kernelSum{Interval: 7, Buckets: map[string]float64{"0.001": 5, "+Inf": 8}}); err != nil || !reflect.DeepEqual(got, want) {
		t.Fatalf("got %+v, %v; want %+v", got, err, want)
	}
	later := kernelSum{Interval: 9, Buckets: map[string]float64{"0.001": 6, "0.002": 2, "+Inf": 10}}
	if got, want := later.since(got), (kernelSum{Interval: 9, Buckets: map[string]float64{"0.001": 1, "0.002": 2, "+Inf": 2}}); !reflect.DeepEqual(got, want) {
		t.Errorf("since then %+v, want %+v", got, want)
	}
	if _, err := parseWatched(bufio.NewScanner(strings.NewReader("rauta_kernel_request_interval{worker=\"0\"} many\n"))); err == nil {
		t.Error("a value that is no number is no error")
	}
}

// watchRounds are records in which watching costs as much as the rounds say, and everything takes twice as long in each
// further round.
func watchRounds(ratios ...float64) (records []watchRecord) {
	scale := 1.0
	for i, ratio := range ratios {
		for name, cost := range map[string]float64{variantOff: 1, variantAll: ratio, variantDefault: 1} {
			r := watchRecord{Round: string(rune('a' + i)), Variant: name, Version: "rauta v0", CPU: "cpu", Kernel: "Linux", Requests: 1000}
			r.Process, r.Machine = uint64(cost*scale*1e6), int64(cost*scale*2e6)
			r.Watched = kernelSum{Interval: 1, Buckets: map[string]float64{"0.001": 1000, "+Inf": 1000}}
			if name == variantDefault {
				r.Watched = kernelSum{Interval: 1, Buckets: map[string]float64{"0.002": 90, "+Inf": 90}}
			}
			records = append(records, r)
		}
		scale *= 2
	}
	return records
}

func TestTheReportComparesVariantsOfTheSameRound(t *testing.T) {
	report := watchReport(watchRounds(1.25, 1.5, 1.75))
	for _, want := range []string{
		"9 starts in 3 rounds, 0 requests failed; rauta v0, cpu, Linux\n",
		"| proxy | all | off | 2000 | 3 | 1.250 | 1.375 | 1.5000 [1.2500, 1.7500] | 1.625 | 1.750 | 1000 [250, 3000] |\n",
		"| machine | all | off | 4000 | 3 | 1.250 |",
		"| proxy | auto | off | 2000 | 3 | 1.000 |",
		// 90 of 1000, and evenly in buckets of twice the length.
		"| as many as possible | 90 | 0.0900 (0.0900 to 0.0900) | 2.000 (2.000 to 2.000) | 2.000 (2.000 to 2.000) | 1.000 (1.000 to 1.000) |",
	} {
		if !strings.Contains(report, want) {
			t.Errorf("the report lacks %q:\n%s", want, report)
		}
	}
	if strings.Contains(report, againSuffix) || strings.Contains(report, variantLooks) {
		t.Errorf("the report has what was not measured:\n%s", report)
	}
}

func TestAtARateNoCostIsReported(t *testing.T) {
	records := watchRounds(1.25)
	for i := range records {
		records[i].PerSecond = 500
	}
	report := watchReport(records)
	if strings.Contains(report, "| proxy |") || !strings.Contains(report, "| 500 requests/s | 90 |") {
		t.Errorf("the report is\n%s", report)
	}
}

func TestResultsAreAddedToTheirFile(t *testing.T) {
	records := watchRounds(1.25, 1.5)
	path := filepath.Join(t.TempDir(), "ebpf.jsonl")
	for i := range records {
		file, err := os.OpenFile(path, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
		if err == nil {
			err = writeRecords(file, records[i:i+1])
		}
		if err != nil {
			t.Fatal(err)
		}
		file.Close()
	}
	if got, err := readRecords(path); err != nil || !reflect.DeepEqual(got, records) {
		t.Errorf("read %+v, %v; want %+v", got, err, records)
	}
	var output bytes.Buffer
	if err := measureEBPF(t.Context(), []string{"-report", "-into", path}, &output); err != nil || output.String() != watchReport(records) {
		t.Errorf("reported %q, %v", &output, err)
	}
	if err := os.WriteFile(path, []byte("{}\nnonsense\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := readRecords(path); err == nil || !strings.Contains(err.Error(), "line 2") {
		t.Errorf("a line that is none gives %v", err)
	}
}

func TestOptionsOfWatchingAreChecked(t *testing.T) {
	for _, c := range []struct {
		arguments []string
		want      string
	}{
		{[]string{"-variants", "some"}, `unknown variant "some", have off again, auto, all, looks`},
		{[]string{"-rounds", "0"}, "-rounds must be at least 1"},
		{[]string{"-connections", "0"}, "-connections must be"},
		{[]string{"more"}, `unexpected argument "more"`},
		{[]string{"-report", "-into", "/nowhere/at/all"}, "/nowhere/at/all"},
		{[]string{"-rounds", "1", "-rauta", "/nowhere/rauta", "-into", t.TempDir() + "/x"}, "not found at /nowhere/rauta"},
	} {
		if err := measureEBPF(t.Context(), c.arguments, new(bytes.Buffer)); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%v: error %v, want %q in it", c.arguments, err, c.want)
		}
	}
	o, err := parseEBPFOptions([]string{"-variants", "all,looks"})
	if err != nil || !reflect.DeepEqual(variantNames(o.variants), []string{variantOff, variantAll, variantLooks}) {
		t.Errorf("got %v, %v", o, err)
	}
}
