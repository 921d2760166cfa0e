package route

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"rauta.io/rauta/proxy/config"
	"rauta.io/rauta/proxy/message"
)

// explainStepsMax bounds what Explain lists of the entries that the look-up had no reason to ask.
const explainStepsMax = 1000

// Step is one entry with what became of it.
type Step struct {
	Entry Entry
	// Won is set for at most one step: the one whose rule Lookup returns.
	Won bool
	// Why it won or lost, for people.
	Why string
}

// Explain runs the look-up of Lookup and lists every entry that it asked, in order; those after the winner are what
// would have been asked next. Then come the entries that it had no reason to ask: first those whose hostname matches. Of
// these at most 1,000 are listed, and a last step with Entry.Rule -1 says how many are left out.
func (t *Table) Explain(host []byte, req *message.Request) []Step {
	tr := &tracer{t: t, winner: none, asked: make([]bool, len(t.entries)), hosts: make([]bool, len(t.virtualHosts))}
	t.lookup(host, req, tr)
	return append(tr.steps, tr.unasked()...)
}

// tracer watches one look-up.
type tracer struct {
	t      *Table
	steps  []Step
	winner int32 // entry, or none
	asked  []bool
	hosts  []bool
}

func (tr *tracer) host(h int32) { tr.hosts[h] = true }

func (tr *tracer) candidate(i int32, v verdict) {
	t := tr.t
	c := &t.candidates[i]
	step := Step{Entry: t.entries[c.entry]}
	tr.asked[c.entry] = true
	switch {
	case v.reason != matched:
		step.Why = t.why(c, v)
	case tr.winner == none:
		tr.winner = c.entry
		step.Won, step.Why = true, "matches"
	default:
		win, lose := rankOf(&t.entries[tr.winner]), rankOf(&step.Entry)
		_, lacks := win.compare(&lose)
		step.Why = "lower precedence: " + lacks
	}
	tr.steps = append(tr.steps, step)
}

// why puts a verdict into words.
func (t *Table) why(c *candidate, v verdict) string {
	m := &t.entries[c.entry].Match
	var p *predicate
	if v.reason >= noHeader && v.reason != tooMuchWork {
		p = &t.predicates[int(c.predicates)+int(v.index)]
	}
	switch v.reason {
	case deepHost:
		return fmt.Sprintf("hostname: %q of an Ingress covers one label only", t.entries[c.entry].Hostname)
	case tooMuchWork:
		return fmt.Sprintf("regexes: to ask those up to here costs more than %d instructions times bytes; the request gets 404", regexWorkMax)
	case otherMethod:
		return "method: it is not " + m.Method
	case otherPath:
		return fmt.Sprintf("path: it does not match the regex %q", m.Path.Value)
	case noHeader:
		return fmt.Sprintf("header %q: it is absent", p.name)
	case noQuery:
		return fmt.Sprintf("query parameter %q: it is absent", p.name)
	}
	what := "header"
	if v.reason == otherQuery {
		what = "query parameter"
	}
	if p.regex != none {
		return fmt.Sprintf("%s %q: it does not match the regex %q", what, p.name, p.value)
	}
	return fmt.Sprintf("%s %q: it is not %q", what, p.name, p.value)
}

// unasked lists the entries that the look-up never came to: the trees ruled out their hostname or path.
func (tr *tracer) unasked() []Step {
	t := tr.t
	type loser struct {
		entry int32
		host  bool // whether the hostname matches
		rank  rank
	}
	var losers []loser
	for h := range t.virtualHosts {
		for _, c := range t.of(&t.virtualHosts[h]) {
			if !tr.asked[c.entry] {
				losers = append(losers, loser{c.entry, tr.hosts[h], rankOf(&t.entries[c.entry])})
			}
		}
	}
	slices.SortStableFunc(losers, func(a, b loser) int {
		if a.host != b.host {
			if a.host {
				return -1
			}
			return 1
		}
		c, _ := a.rank.compare(&b.rank)
		return cmp.Or(c, strings.Compare(t.entries[a.entry].Hostname, t.entries[b.entry].Hostname), cmp.Compare(a.entry, b.entry))
	})
	left := 0
	if len(losers) > explainStepsMax {
		left = len(losers) - explainStepsMax
		losers = losers[:explainStepsMax]
	}
	var steps []Step
	for _, l := range losers {
		e := &t.entries[l.entry]
		steps = append(steps, Step{Entry: *e, Why: ruledOut(e, l.host)})
	}
	if left > 0 {
		steps = append(steps, Step{Entry: Entry{Rule: -1}, Why: fmt.Sprintf("%d more entries whose hostname or path does not match", left)})
	}
	return steps
}

func ruledOut(e *Entry, host bool) string {
	switch {
	case !host:
		return fmt.Sprintf("hostname: it is not %q", e.Hostname)
	case e.Match.Path.Kind == config.PathExact:
		return fmt.Sprintf("path: it is not %q", e.Match.Path.Value)
	case e.Match.Path.Kind == config.PathRegex, e.Match.Path.Kind == config.PathGRPC:
		return fmt.Sprintf("path: it does not match the regex %q", e.Match.Path.Value)
	}
	return fmt.Sprintf("path: it is not below the prefix %q", e.Match.Path.Value)
}
