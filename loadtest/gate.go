package main

import (
	"fmt"
	"strings"
)

// cpuLimit is the most that RAUTA may cost of each named peer in the same run. All of them are generous on purpose: shared
// machines are noisy, and the gate must only ever fail for a reason.
type cpuLimit struct {
	scenario string
	ratioMax float64
	bases    []string
}

func cpuLimits() []cpuLimit {
	both := []string{nginxName, haproxyName}
	return []cpuLimit{
		{"keepalive", 1.2, both[:1]},
		{"h2c-h1, 10 streams", 1, both},
		{"h2c-h2c, 10 streams", 0.8, both},
		{"h2-h1, 10 streams", 1, both},
		{"grpc, 10 streams", 0.6, both},
		{"tls", 1.1, both[:1]},
		{"handshakes, full", 1.25, both[:1]},
		{"handshakes, resumed", 1.25, both[:1]},
		{"websocket", 1.4, both[:1]},
		{"websocket-h2", 1.4, both[1:]},
	}
}

// gate names what makes the run fail. A contender that was not installed is no reason.
func gate(rows []Row, short bool) []string {
	var problems []string
	for i := range rows {
		r := &rows[i]
		ours := strings.HasPrefix(r.Contender, "rauta ")
		if r.Failed > 0 && (ours || r.Scenario == "keepalive") {
			problems = append(problems, fmt.Sprintf("%s: %s had %d failed requests (%s)", r.Scenario, r.Contender, r.Failed, r.remarks()))
		}
		if r.Error != "" && (ours || r.Contender == everybodyName) {
			problems = append(problems, fmt.Sprintf("%s: %s was not measured: %s", r.Scenario, r.Contender, r.Error))
		}
		if short && r.Contender == rautaName {
			problems = append(problems, tooExpensive(r)...)
		}
	}
	return problems
}

func tooExpensive(r *Row) (problems []string) {
	for _, limit := range cpuLimits() {
		if limit.scenario != r.Scenario {
			continue
		}
		for _, base := range limit.bases {
			if ratio, paired := r.Ratios[base]; paired && ratio.Median > limit.ratioMax {
				problems = append(problems, fmt.Sprintf("%s: %s takes %.2f of %s's CPU time per request, more than %.2f",
					r.Scenario, r.Contender, ratio.Median, base, limit.ratioMax))
			}
		}
	}
	return problems
}
