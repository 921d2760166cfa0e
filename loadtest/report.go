package main

import (
	"encoding/json"
	"fmt"
	"math"
	"os"
	"slices"
	"strings"

	"rauta.io/rauta/loadtest/stats"
)

// Row is one line of the result table. A figure that was not measured is zero.
type Row struct {
	Scenario   string                    `json:"scenario"`
	Contender  string                    `json:"contender"`
	CPUNanos   float64                   `json:"cpuNanosPerRequest,omitempty"` // median of the repetitions
	UserNanos  float64                   `json:"userNanosPerRequest,omitempty"`
	SysNanos   float64                   `json:"systemNanosPerRequest,omitempty"`
	Ratios     map[string]stats.Interval `json:"ratios,omitempty"` // CPU per request, paired, to each base
	PerSecond  float64                   `json:"requestsPerSecond,omitempty"`
	Saturation float64                   `json:"saturation,omitempty"` // share of the time that the proxy's core was busy with it
	Waiting    float64                   `json:"waiting,omitempty"`    // share of the time that others had the core it wanted
	PerTurn    float64                   `json:"requestsPerLoopTurn,omitempty"`
	P50        float64                   `json:"p50Micros,omitempty"`
	P99        float64                   `json:"p99Micros,omitempty"`
	P999       float64                   `json:"p999Micros,omitempty"`
	Requests   uint64                    `json:"requests"`
	Failed     uint64                    `json:"failed"`
	Failures   map[string]uint64         `json:"failures,omitempty"` // by reason
	RSSBytes   float64                   `json:"rssBytes,omitempty"`
	PerConn    float64                   `json:"rssBytesPerConnection,omitempty"`
	ReadyMilli float64                   `json:"readyMillis,omitempty"`
	Remark     string                    `json:"remark,omitempty"`
	Error      string                    `json:"error,omitempty"` // why nothing could be measured
}

// bases are the contenders that others are compared with, in the order of the columns.
var bases = []string{bareLoopName, nginxName, haproxyName, baseName, untracedName}

const (
	bareLoopName = "bare loop"
	nginxName    = "nginx"
	haproxyName  = "haproxy"
	baseName     = "rauta base" // the other build, where there is one
	rautaName    = "rauta loop"
	// referenceName takes no part where it would only slow down the others.
	referenceName = "rauta reference"
	// everybodyName stands for all contenders of a scenario that broke off.
	everybodyName = "everybody"
	againSuffix   = " again" // the second part of the A/A pair
)

var tableColumns = []string{"scenario", "contender", "CPU µs/request", "user µs", "system µs", "to bare loop [95% CI]", "to nginx [95% CI]",
	"to haproxy [95% CI]", "to base [95% CI]", "to no tracing [95% CI]", "requests/s", "core busy", "core taken", "requests/turn", "p50 µs", "p99 µs", "p99.9 µs", "RSS MB", "B/idle conn", "ready ms", "requests", "failed", "remarks"}

// unreportedColumns are of no interest once a run has been found to be sound.
var unreportedColumns = []string{"core taken", "requests"}

// markdownTable leaves out the columns in which no row has anything, and those that are named.
func markdownTable(rows []Row, without ...string) string {
	lines := [][]string{tableColumns}
	for i := range rows {
		lines = append(lines, rows[i].cells())
	}
	var used []int
	for column := range tableColumns {
		if !slices.Contains(without, tableColumns[column]) && slices.ContainsFunc(lines[1:], func(line []string) bool { return line[column] != "" }) {
			used = append(used, column)
		}
	}
	var b strings.Builder
	for i, line := range lines {
		for _, column := range used {
			b.WriteString("| " + strings.ReplaceAll(line[column], "|", "/") + " ")
		}
		b.WriteString("|\n")
		if i == 0 {
			b.WriteString(strings.Repeat("| --- ", len(used)) + "|\n")
		}
	}
	return b.String()
}

// summaryTable has one line for each scenario: RAUTA's loop against the peers, with the band that equal programs show.
func summaryTable(rows []Row) string {
	again := map[string]string{}
	for i := range rows {
		if base, ok := strings.CutSuffix(rows[i].Contender, againSuffix); ok {
			again[rows[i].Scenario] = rows[i].ratioCell(base)
		}
	}
	var b strings.Builder
	compared := bases[1:3]
	if slices.ContainsFunc(rows, func(r Row) bool { return r.Contender == baseName }) {
		compared = bases[3:4]
	}
	b.WriteString("| scenario | CPU µs/request |")
	for _, base := range compared {
		b.WriteString(" to " + base + " [95% CI] |")
	}
	b.WriteString(" same program again | core busy | requests/turn | failed |\n" + strings.Repeat("| --- ", 6+len(compared)) + "|\n")
	for i := range rows {
		if r := &rows[i]; r.Contender == rautaName && r.CPUNanos > 0 {
			fmt.Fprintf(&b, "| %s | %s |", r.Scenario, figure(r.CPUNanos/1000, 2))
			for _, base := range compared {
				b.WriteString(" " + r.ratioCell(base) + " |")
			}
			fmt.Fprintf(&b, " %s | %s | %s | %d |\n", again[r.Scenario], figure(r.Saturation, 2), figure(r.PerTurn, 1), r.Failed)
		}
	}
	return b.String()
}

func (r *Row) cells() []string {
	cells := []string{r.Scenario, r.Contender,
		figure(r.CPUNanos/1000, 2), figure(r.UserNanos/1000, 2), figure(r.SysNanos/1000, 2)}
	for _, base := range bases {
		cells = append(cells, r.ratioCell(base))
	}
	cells = append(cells, figure(r.PerSecond, 0), figure(r.Saturation, 2), figure(r.Waiting, 2), figure(r.PerTurn, 1), figure(r.P50, 0), figure(r.P99, 0), figure(r.P999, 0),
		figure(r.RSSBytes/1e6, 1), figure(r.PerConn, 0), figure(r.ReadyMilli, 0))
	if r.Requests > 0 || r.Failed > 0 {
		cells = append(cells, fmt.Sprint(r.Requests), fmt.Sprint(r.Failed))
	} else {
		cells = append(cells, "", "")
	}
	return append(cells, r.remarks())
}

func (r *Row) ratioCell(base string) string {
	ratio, ok := r.Ratios[base]
	if !ok || r.Contender == base {
		return ""
	}
	return fmt.Sprintf("%.3f [%.3f, %.3f]", ratio.Median, ratio.Low, ratio.High)
}

func (r *Row) remarks() string {
	var parts []string
	if r.Error != "" {
		parts = append(parts, "not measured: "+strings.Join(strings.Fields(r.Error), " "))
	}
	if r.Remark != "" {
		parts = append(parts, r.Remark)
	}
	for _, reason := range sortedKeys(r.Failures) {
		parts = append(parts, fmt.Sprintf("%d x %s", r.Failures[reason], reason))
	}
	return strings.Join(parts, "; ")
}

func sortedKeys(counts map[string]uint64) []string {
	var keys []string
	for key := range counts {
		keys = append(keys, key)
	}
	slices.Sort(keys)
	return keys
}

// figure is empty for what was not measured.
func figure(value float64, decimals int) string {
	if value == 0 || math.IsNaN(value) || math.IsInf(value, 0) {
		return ""
	}
	return fmt.Sprintf("%.*f", decimals, value)
}

func writeJSON(path string, machine *Machine, rows []Row) error {
	text, err := json.MarshalIndent(struct {
		Machine *Machine `json:"machine"`
		Rows    []Row    `json:"rows"`
	}{machine, rows}, "", "  ")
	if err != nil {
		return fmt.Errorf("writing the results: %w", err)
	}
	if err := os.WriteFile(path, append(text, '\n'), 0o644); err != nil {
		return fmt.Errorf("writing the results: %w", err)
	}
	return nil
}
