package monitoring

import (
	"fmt"
	"slices"
	"strings"

	"rauta.io/rauta/proxy/observe"
)

// window is the time over which rates are taken; Grafana makes it fit the resolution and the interval of scrapes.
const window = "$__rate_interval"

// topCount is how many routes or endpoints a graph shows: more lines than that nobody can tell apart.
const topCount = 10

// catalogue is the table of metrics, by name.
type catalogue map[string]observe.Metric

func newCatalogue() catalogue {
	c := catalogue{}
	for _, m := range observe.Metrics() {
		c[m.Name] = m
	}
	return c
}

// metric returns a metric of one of the types. It panics where the layout names one that is not there, which a test sees.
func (c catalogue) metric(name string, types ...string) observe.Metric {
	m, ok := c[name]
	if !ok {
		panic("the dashboard shows " + name + ", which RAUTA does not have")
	}
	if !slices.Contains(types, m.Type) {
		panic(fmt.Sprintf("the dashboard takes %s, a %s, for a %s", name, m.Type, strings.Join(types, " or ")))
	}
	return m
}

// selector returns the braces that choose what the variables of the dashboard say.
func selector(m observe.Metric, more ...string) string {
	parts := []string{`job="rauta"`, `instance=~"$instance"`}
	for _, label := range []string{"route", "cluster"} {
		if slices.Contains(m.Labels, label) {
			parts = append(parts, fmt.Sprintf(`%s=~"$%s"`, label, label))
		}
	}
	return "{" + strings.Join(append(parts, more...), ",") + "}"
}

// sum adds up over all labels but those named.
func sum(inner string, by ...string) string {
	if len(by) == 0 {
		return "sum(" + inner + ")"
	}
	return "sum by (" + strings.Join(by, ", ") + ") (" + inner + ")"
}

func top(expression string) string { return fmt.Sprintf("topk(%d, %s)", topCount, expression) }

// rate is how fast a counter grows, per second.
func (c catalogue) rate(name string, by ...string) string {
	return sum("rate("+name+selector(c.metric(name, "counter"))+"["+window+"])", by...)
}

// rateOf is the same for the series that a condition chooses.
func (c catalogue) rateOf(name, condition string, by ...string) string {
	return sum("rate("+name+selector(c.metric(name, "counter"), condition)+"["+window+"])", by...)
}

// value is the sum of gauges.
func (c catalogue) value(name string, by ...string) string {
	return sum(name+selector(c.metric(name, "gauge")), by...)
}

// events is how often a histogram was added to, per second.
func (c catalogue) events(name string, by ...string) string {
	return sum("rate("+name+"_count"+selector(c.metric(name, "histogram"))+"["+window+"])", by...)
}

// time is what was added to a histogram, in seconds per second.
func (c catalogue) time(name string, by ...string) string {
	return sum("rate("+name+"_sum"+selector(c.metric(name, "histogram"))+"["+window+"])", by...)
}

// quantile estimates a quantile of a histogram from its buckets.
func (c catalogue) quantile(q float64, name string, by ...string) string {
	buckets := sum("rate("+name+"_bucket"+selector(c.metric(name, "histogram"))+"["+window+"])", slices.Concat(by, []string{"le"})...)
	return fmt.Sprintf("histogram_quantile(%g, %s)", q, buckets)
}

// legend names a series by its labels.
func legend(by ...string) string {
	return "{{" + strings.Join(by, "}} {{") + "}}"
}
