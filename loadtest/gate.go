package main

import (
	"fmt"
	"strings"
)

// cpuRatioMax is the most that RAUTA may cost of nginx in the same run. It is generous on purpose: shared machines are
// noisy, and the gate must only ever fail for a reason.
const cpuRatioMax = 1.2

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
		ratio, paired := r.Ratios[nginxName]
		if short && paired && r.Scenario == "keepalive" && r.Contender == rautaName && ratio.Median > cpuRatioMax {
			problems = append(problems, fmt.Sprintf("%s: %s takes %.2f of nginx's CPU time per request, more than %.2f", r.Scenario, r.Contender, ratio.Median, cpuRatioMax))
		}
	}
	return problems
}
