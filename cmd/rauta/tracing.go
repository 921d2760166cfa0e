package main

import (
	"fmt"
	"os"
	"strconv"

	"github.com/spf13/pflag"

	"rauta.io/rauta/proxy/exchange"
	"rauta.io/rauta/proxy/observe"
	"rauta.io/rauta/proxy/otlp"
	"rauta.io/rauta/proxy/trace"
)

// traceOptions are the flags about traces.
type traceOptions struct {
	set         *pflag.FlagSet
	propagate   []string
	sampling    float64
	trustedOnly bool
	endpoint    string
	service     string

	propagation *trace.Propagation // filled in by validate, nil for none
}

func (o *traceOptions) flags(f *pflag.FlagSet) {
	o.set = f
	f.StringSliceVar(&o.propagate, "trace-propagate", nil, "formats of trace contexts that are read and sent on: w3c, b3, b3multi")
	f.Float64Var(&o.sampling, "trace-sampling", 0, "percentage of the traces beginning here that are marked as sampled")
	f.StringVar(&o.endpoint, "trace-endpoint", "", "collector that spans of sampled requests are sent to by OTLP, as grpc://host:4317 or http://host:4318, with TLS grpcs:// or https://; empty for none")
	f.StringVar(&o.service, "trace-service-name", "", "service.name of the spans; empty for OTEL_SERVICE_NAME or rauta")
	f.BoolVar(&o.trustedOnly, "trace-trusted-only", false, "replace trace contexts of others than --trusted-proxies")
}

func (o *traceOptions) validate() error {
	if !o.set.Changed("trace-propagate") {
		for _, name := range []string{"trace-sampling", "trace-trusted-only", "trace-endpoint", "trace-service-name"} {
			if o.set.Changed(name) {
				return usagef("--%s: has no use without --trace-propagate", name)
			}
		}
		return nil
	}
	if !(o.sampling >= 0 && o.sampling <= 100) {
		return usagef("--trace-sampling %s: must be from 0 to 100", strconv.FormatFloat(o.sampling, 'g', -1, 64))
	}
	if o.endpoint == "" && o.service != "" {
		return usagef("--trace-service-name: has no use without --trace-endpoint")
	}
	if o.endpoint != "" {
		if _, err := otlp.ParseEndpoint(o.endpoint); err != nil {
			return usagef("--trace-endpoint: %v", err)
		}
	}
	formats, err := trace.ParseFormats(o.propagate)
	if err != nil {
		return usagef("--trace-propagate: %v", err)
	}
	if len(formats) == 0 {
		return usagef("--trace-propagate is empty: must be one or more of w3c, b3 and b3multi, or left out")
	}
	o.propagation = &trace.Propagation{Formats: formats, Share: trace.ShareOf(o.sampling), Spans: o.endpoint != ""}
	return nil
}

func (o *serveOptions) exchangeSettings() exchange.Settings {
	return exchange.Settings{
		TrustedProxies: o.trustedNets, Propagation: o.tracing.propagation, TracesOfTrusted: o.tracing.trustedOnly,
	}
}

// startTracing begins to export spans if there is a collector.
func (p *process) startTracing() error {
	o := &p.opt.tracing
	if o.endpoint == "" {
		return nil
	}
	exporter, err := otlp.New(otlp.Options{
		Endpoint: o.endpoint, Service: o.service, Version: version, Log: p.log,
		Place: otlp.Place{Node: os.Getenv(envNodeName), Namespace: os.Getenv(envPodNamespace), Pod: os.Getenv(envPodName)},
	})
	if err != nil {
		return fmt.Errorf("--trace-endpoint %s: %w", o.endpoint, err)
	}
	p.exporter = exporter
	spans := p.registry.CollectSpans()
	p.registry.Counter("rauta_trace_exported_total", func() float64 { return float64(exporter.Exported()) })
	p.registry.Counters("rauta_trace_dropped_total", func(emit func(float64, ...observe.Label)) {
		emit(float64(spans.Dropped()), observe.Label{Name: "reason", Value: "buffer_full"})
		emit(float64(exporter.Failed()), observe.Label{Name: "reason", Value: "export_failed"})
		emit(float64(exporter.Rejected()), observe.Label{Name: "reason", Value: "rejected"})
	})
	exporter.Start(spans)
	return nil
}
