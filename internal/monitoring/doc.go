// Package monitoring makes the files of deploy/observability that are derived: the dashboard for Grafana, from the table
// of metrics in proxy/observe, and the PrometheusRule, from the alert rules in rules.yml.
//
// It owns the layout of the dashboard. It does not own the metrics, nor the alert rules. Nothing of RAUTA itself calls it:
// its tests compare the committed files with what it makes, and `make golden` writes them.
package monitoring
