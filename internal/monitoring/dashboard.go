package monitoring

import (
	"fmt"
	"slices"
	"strings"

	"rauta.io/rauta/proxy/observe"
)

// What a dashboard of Grafana is wide, and what our panels are high, in its units.
const (
	gridWidth   = 24
	panelHeight = 8
	tableHeight = 10
)

// Dashboard returns the dashboard for Grafana as JSON: the panels of the layout, and below them, folded away, one for each
// metric that none of these shows, so that no metric is missing.
func Dashboard() ([]byte, error) {
	c := newCatalogue()
	d := grafanaDashboard{
		UID: "rauta", Title: "RAUTA", Tags: []string{"rauta"}, SchemaVersion: schemaVersion, GraphTooltip: 1, Refresh: "30s",
		Description: "Generated from the table of metrics (docs/metrics.md); docs/observability.md says how to read it.",
		Time:        map[string]any{"from": "now-1h", "to": "now"},
	}
	d.Templating.List = variables()
	var b board
	for _, s := range c.layout() {
		b.begin(s.title, false)
		for _, p := range s.panels {
			b.add(p)
		}
	}
	b.begin("All other metrics", true)
	for _, m := range b.missing() {
		b.add(c.plain(m))
	}
	d.Panels = b.panels
	return encode(d)
}

// board puts panels on the grid.
type board struct {
	panels []*grafanaPanel
	// folded is the row that takes the panels now, if it is a folded one.
	folded *grafanaPanel
	id     int
	x, y   int
	height int
	text   strings.Builder
}

// begin begins a row; without a title its panels just follow.
func (b *board) begin(title string, folded bool) {
	b.wrap()
	b.folded = nil
	if title == "" {
		return
	}
	row := &grafanaPanel{ID: b.next(), Type: "row", Title: title, GridPos: gridPos{H: 1, W: gridWidth, Y: b.y}, Collapsed: &folded}
	b.panels = append(b.panels, row)
	b.y++
	if folded {
		b.folded = row
	}
}

func (b *board) next() int { b.id++; return b.id }

// wrap goes to the beginning of the next line.
func (b *board) wrap() { b.x, b.y, b.height = 0, b.y+b.height, 0 }

func (b *board) add(p panel) {
	width, height := gridWidth/2, panelHeight
	if p.wide {
		width = gridWidth
	}
	if p.table {
		height = tableHeight
	}
	if b.x+width > gridWidth {
		b.wrap()
	}
	g := p.grafana()
	g.ID, g.GridPos = b.next(), gridPos{H: height, W: width, X: b.x, Y: b.y}
	b.x, b.height = b.x+width, max(b.height, height)
	for _, q := range p.queries {
		b.text.WriteString(q.expression + "\n")
	}
	if b.folded != nil {
		b.folded.Panels = append(b.folded.Panels, g)
	} else {
		b.panels = append(b.panels, g)
	}
}

// missing returns the metrics that no panel shows so far.
func (b *board) missing() []observe.Metric {
	shown := b.text.String()
	return slices.DeleteFunc(observe.Metrics(), func(m observe.Metric) bool {
		return slices.ContainsFunc([]string{"", "_bucket", "_sum", "_count"}, func(suffix string) bool {
			return strings.Contains(shown, m.Name+suffix+"{")
		})
	})
}

// plain is the panel of a metric that has no place of its own.
func (c catalogue) plain(m observe.Metric) panel {
	title := strings.ReplaceAll(strings.TrimPrefix(m.Name, "rauta_"), "_", " ")
	by := slices.DeleteFunc(slices.Clone(m.Labels), func(label string) bool { return label == "le" || label == "worker" })
	if len(by) == 0 {
		by = []string{"instance"}
	}
	unit := unitOf(m)
	if m.Type == "histogram" {
		return c.quantiles(title, m.Name)
	}
	expression := ""
	switch {
	case unit == timestampUnit:
		expression = "min by (" + strings.Join(by, ", ") + ") (" + m.Name + selector(m) + ") * 1000"
	case m.Type == "counter":
		expression = c.rate(m.Name, by...)
	default:
		expression = c.value(m.Name, by...)
	}
	if slices.Contains(by, "endpoint") || slices.Contains(by, "route") {
		expression = top(expression)
	}
	return one(title, unit, m.Name, expression, legend(by...))
}

// timestampUnit shows milliseconds since 1970 as a date.
const timestampUnit = "dateTimeAsIso"

// unitOf follows Prometheus' convention that the name of a metric ends with its unit.
func unitOf(m observe.Metric) string {
	name, counter := strings.CutSuffix(m.Name, "_total")
	switch {
	case strings.HasSuffix(name, "_timestamp_seconds"), name == "process_start_time_seconds":
		return timestampUnit
	case strings.HasSuffix(name, "_seconds"):
		return "s"
	case strings.HasSuffix(name, "_bytes") && counter:
		return "Bps"
	case strings.HasSuffix(name, "_bytes"):
		return "bytes"
	case counter:
		return "ops"
	}
	return "short"
}

func (p panel) grafana() *grafanaPanel {
	g := &grafanaPanel{Type: "timeseries", Title: p.title, Datasource: &prometheus}
	g.Description = newCatalogue()[p.about].Help
	defaults := map[string]any{"unit": p.unit, "min": 0}
	g.FieldConfig = &fieldConfig{Defaults: defaults, Overrides: []map[string]any{}}
	if p.unit == timestampUnit {
		delete(defaults, "min")
	}
	for i, q := range p.queries {
		g.Targets = append(g.Targets, grafanaTarget{
			RefID: string(rune('A' + i)), Datasource: prometheus, Expr: q.expression, LegendFormat: q.legend,
		})
	}
	if p.table {
		p.asTable(g)
		return g
	}
	g.Options = map[string]any{
		"legend":  map[string]any{"displayMode": "table", "placement": "right", "calcs": []string{"mean", "max"}},
		"tooltip": map[string]any{"mode": "multi", "sort": "desc"},
	}
	if p.stacked {
		defaults["custom"] = map[string]any{"fillOpacity": 60, "lineWidth": 0, "stacking": map[string]any{"mode": "normal", "group": "A"}}
	}
	return g
}

// asTable makes each query a column, whose name is the query's legend.
func (p panel) asTable(g *grafanaPanel) {
	g.Type = "table"
	names := map[string]string{}
	for i, q := range p.queries {
		t := &g.Targets[i]
		t.Instant, t.Format, t.LegendFormat = true, "table", ""
		names["Value #"+t.RefID] = q.legend
		g.FieldConfig.Overrides = append(g.FieldConfig.Overrides, map[string]any{
			"matcher":    map[string]any{"id": "byName", "options": q.legend},
			"properties": []map[string]any{{"id": "unit", "value": q.unit}},
		})
	}
	g.Options = map[string]any{"sortBy": []map[string]any{{"displayName": p.queries[0].legend, "desc": true}}}
	g.Transformations = []map[string]any{
		{"id": "joinByField", "options": map[string]any{"byField": p.rowLabel, "mode": "outer"}},
		{"id": "organize", "options": map[string]any{"excludeByName": excludedTimes(len(p.queries)), "renameByName": names}},
	}
}

// excludedTimes are the columns that every query brings, and that say nothing: the time of the table.
func excludedTimes(queries int) map[string]bool {
	out := map[string]bool{"Time": true}
	for i := range queries {
		out[fmt.Sprintf("Time %d", i+1)] = true
	}
	return out
}
