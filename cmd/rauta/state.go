package main

import (
	"time"

	"github.com/spf13/pflag"

	"rauta.io/rauta/control/store"
	"rauta.io/rauta/proxy/config"
)

// stateOptions are the flags of serve about what a restart serves while the API server is away.
type stateOptions struct{ dir, keyFile string }

func (o *stateOptions) flags(f *pflag.FlagSet) {
	f.StringVar(&o.dir, "state-dir", "", "folder for the last good configuration of a cluster, served after a restart without the API server")
	f.StringVar(&o.keyFile, "state-key-file", "", "file with the key that it is encrypted with, 32 bytes or more")
}

func (o *stateOptions) validate(files bool) error {
	switch {
	case files && o.dir != "":
		return usagef("--state-dir is about a cluster: files are there after a restart anyway")
	case o.dir == "" && o.keyFile != "":
		return usagef("--state-key-file: has no use without --state-dir")
	case o.dir != "" && o.keyFile == "":
		return usagef("--state-dir: needs --state-key-file, because a configuration has private keys in it")
	}
	return nil
}

// keepState stores what the cluster says, and serves it from there if the API server does not answer.
func (p *process) keepState() {
	if p.opt.state.dir == "" {
		return
	}
	kept := store.New(p.opt.state.dir, p.opt.state.keyFile)
	p.keeper = store.NewKeeper(kept, p.server.Served, p.log)
	p.cluster.Changed = p.keeper.Changed
	p.cluster.Stored = func() (*config.Config, config.Endpoints, error) {
		state, err := kept.Load(time.Now())
		return state.Config, state.Endpoints, err
	}
	p.registry.Gauge("rauta_state_stored_timestamp_seconds", func() float64 {
		if at := p.keeper.SavedAt(); !at.IsZero() {
			return float64(at.UnixNano()) / 1e9
		}
		return 0
	})
	p.registry.Counter("rauta_state_failures_total", func() float64 { return float64(p.keeper.Failures()) })
}
