package main

import (
	"strconv"

	"github.com/spf13/pflag"

	"rauta.io/rauta/proxy/exchange"
	"rauta.io/rauta/proxy/trace"
)

// traceOptions are the flags about traces.
type traceOptions struct {
	set         *pflag.FlagSet
	propagate   []string
	sampling    float64
	trustedOnly bool

	propagation *trace.Propagation // filled in by validate, nil for none
}

func (o *traceOptions) flags(f *pflag.FlagSet) {
	o.set = f
	f.StringSliceVar(&o.propagate, "trace-propagate", nil, "formats of trace contexts that are read and sent on: w3c, b3, b3multi")
	f.Float64Var(&o.sampling, "trace-sampling", 0, "percentage of the traces beginning here that are marked as sampled")
	f.BoolVar(&o.trustedOnly, "trace-trusted-only", false, "replace trace contexts of others than --trusted-proxies")
}

func (o *traceOptions) validate() error {
	if !o.set.Changed("trace-propagate") {
		for _, name := range []string{"trace-sampling", "trace-trusted-only"} {
			if o.set.Changed(name) {
				return usagef("--%s: has no use without --trace-propagate", name)
			}
		}
		return nil
	}
	if !(o.sampling >= 0 && o.sampling <= 100) {
		return usagef("--trace-sampling %s: must be from 0 to 100", strconv.FormatFloat(o.sampling, 'g', -1, 64))
	}
	formats, err := trace.ParseFormats(o.propagate)
	if err != nil {
		return usagef("--trace-propagate: %v", err)
	}
	if len(formats) == 0 {
		return usagef("--trace-propagate is empty: must be one or more of w3c, b3 and b3multi, or left out")
	}
	o.propagation = &trace.Propagation{Formats: formats, Share: uint64(o.sampling / 100 * trace.ShareMax)}
	return nil
}

func (o *serveOptions) exchangeSettings() exchange.Settings {
	return exchange.Settings{
		TrustedProxies: o.trustedNets, Propagation: o.tracing.propagation, TracesOfTrusted: o.tracing.trustedOnly,
	}
}
