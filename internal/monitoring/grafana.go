package monitoring

import (
	"bytes"
	"encoding/json"
)

// The types below are what the dashboard uses of Grafana's JSON model, schema version 39 (Grafana 10.3 and later).

const schemaVersion = 39

type grafanaDashboard struct {
	UID           string         `json:"uid"`
	Title         string         `json:"title"`
	Description   string         `json:"description"`
	Tags          []string       `json:"tags"`
	SchemaVersion int            `json:"schemaVersion"`
	Editable      bool           `json:"editable"`
	GraphTooltip  int            `json:"graphTooltip"`
	Refresh       string         `json:"refresh"`
	Time          map[string]any `json:"time"`
	Templating    struct {
		List []grafanaVariable `json:"list"`
	} `json:"templating"`
	Panels []*grafanaPanel `json:"panels"`
}

type grafanaVariable struct {
	Name       string      `json:"name"`
	Label      string      `json:"label"`
	Type       string      `json:"type"`
	Query      any         `json:"query"`
	Datasource *datasource `json:"datasource,omitempty"`
	Refresh    int         `json:"refresh,omitempty"`
	Sort       int         `json:"sort,omitempty"`
	Multi      bool        `json:"multi"`
	IncludeAll bool        `json:"includeAll"`
	AllValue   string      `json:"allValue,omitempty"`
}

type datasource struct {
	Type string `json:"type"`
	UID  string `json:"uid"`
}

type grafanaPanel struct {
	ID              int              `json:"id"`
	Type            string           `json:"type"`
	Title           string           `json:"title"`
	Description     string           `json:"description,omitempty"`
	GridPos         gridPos          `json:"gridPos"`
	Datasource      *datasource      `json:"datasource,omitempty"`
	FieldConfig     *fieldConfig     `json:"fieldConfig,omitempty"`
	Options         map[string]any   `json:"options,omitempty"`
	Targets         []grafanaTarget  `json:"targets,omitempty"`
	Transformations []map[string]any `json:"transformations,omitempty"`
	Collapsed       *bool            `json:"collapsed,omitempty"`
	Panels          []*grafanaPanel  `json:"panels,omitempty"`
}

type gridPos struct {
	H int `json:"h"`
	W int `json:"w"`
	X int `json:"x"`
	Y int `json:"y"`
}

type fieldConfig struct {
	Defaults  map[string]any   `json:"defaults"`
	Overrides []map[string]any `json:"overrides"`
}

type grafanaTarget struct {
	RefID        string     `json:"refId"`
	Datasource   datasource `json:"datasource"`
	Expr         string     `json:"expr"`
	LegendFormat string     `json:"legendFormat,omitempty"`
	Instant      bool       `json:"instant,omitempty"`
	Format       string     `json:"format,omitempty"`
}

// prometheus is the data source that the user chooses above the dashboard.
var prometheus = datasource{Type: "prometheus", UID: "${datasource}"}

func variables() []grafanaVariable {
	values := func(name, title, query string) grafanaVariable {
		return grafanaVariable{
			Name: name, Label: title, Type: "query", Query: map[string]string{"query": query, "refId": name}, Datasource: &prometheus,
			Refresh: 2, Sort: 1, Multi: true, IncludeAll: true, AllValue: ".*",
		}
	}
	return []grafanaVariable{
		{Name: "datasource", Label: "Data source", Type: "datasource", Query: "prometheus"},
		values("instance", "RAUTA", `label_values(rauta_build_info{job="rauta"}, instance)`),
		values("route", "Route", `label_values(rauta_requests_total{job="rauta",instance=~"$instance"}, route)`),
		values("cluster", "Back end", `label_values(rauta_backend_requests_total{job="rauta",instance=~"$instance"}, cluster)`),
	}
}

// encode writes JSON as people and diffs want it.
func encode(v any) ([]byte, error) {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	e.SetIndent("", " ")
	err := e.Encode(v)
	return b.Bytes(), err
}
