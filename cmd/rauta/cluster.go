package main

import (
	"context"
	"os"
	"sync"
	"time"

	"github.com/spf13/pflag"

	"rauta.io/rauta/control"
	"rauta.io/rauta/control/status"
	"rauta.io/rauta/control/watch"
	"rauta.io/rauta/proxy/observe"
)

// clusterOptions are the flags of serve that are about an API server.
type clusterOptions struct {
	access     watch.Access
	namespaces []string
	selector   string

	eventsPerSecond float64

	// Filled in by validate.
	reading watch.ClusterOptions
}

func (o *clusterOptions) flags(f *pflag.FlagSet) {
	o.readingFlags(f, "kubeconfig of the cluster to serve (default without --config: the cluster that RAUTA runs in)")
	f.Float32Var(&o.access.QPS, "kube-api-qps", 50, "requests per second to the API server about Leases and nodes")
	f.IntVar(&o.access.Burst, "kube-api-burst", 100, "the same in a burst")
	f.Float64Var(&o.eventsPerSecond, "event-qps", status.EventsPerSecond, "Events written in a second; others wait")
}

// readingFlags say what is read, and where; check and explain have them too.
func (o *clusterOptions) readingFlags(f *pflag.FlagSet, kubeconfig string) {
	f.StringVar(&o.access.Kubeconfig, "kubeconfig", "", kubeconfig)
	f.StringVar(&o.access.Context, "context", "", "context of the kubeconfig (default: its current one)")
	f.StringArrayVar(&o.namespaces, "watch-namespace", nil, "namespace whose objects are read; may be repeated (default: all)")
	f.StringVar(&o.selector, "watch-selector", "", "labels that namespaces must have for their objects to be read, such as team=a,stage!=test")
}

// given reports whether a flag was used that has no meaning with files.
func (o *clusterOptions) given() string {
	for flag, set := range map[string]bool{
		"--kubeconfig": o.access.Kubeconfig != "", "--context": o.access.Context != "",
		"--watch-namespace": len(o.namespaces) > 0, "--watch-selector": o.selector != "",
	} {
		if set {
			return flag
		}
	}
	return ""
}

// validate checks the flags. In a cluster there is no configuration in files.
func (o *clusterOptions) validate(files bool) error {
	if files {
		if flag := o.given(); flag != "" {
			return usagef("%s is about a cluster: use either it or --config", flag)
		}
		return nil
	}
	switch {
	case !(o.access.QPS > 0):
		return usagef("--kube-api-qps %v: must be positive", o.access.QPS)
	case !(o.eventsPerSecond > 0):
		return usagef("--event-qps %v: must be positive", o.eventsPerSecond)
	case o.access.Burst < 1:
		return usagef("--kube-api-burst %d: must be at least 1", o.access.Burst)
	}
	return o.validateReading()
}

// validateReading checks readingFlags.
func (o *clusterOptions) validateReading() error {
	if o.access.Kubeconfig == "" && o.access.Context != "" {
		return usagef("--context %q: is about a kubeconfig, give --kubeconfig FILE", o.access.Context)
	}
	for _, namespace := range o.namespaces {
		if namespace == "" {
			return usagef("--watch-namespace is empty: leave it out to read all namespaces")
		}
	}
	if o.selector != "" {
		selector, err := watch.ParseSelector(o.selector)
		if err != nil {
			return usagef("--watch-selector %q: %v", o.selector, err)
		}
		o.reading.Selector = selector
	}
	o.reading.Namespaces = o.namespaces
	o.access.UserAgent = "rauta/" + version
	if _, err := o.access.Config(); err != nil {
		return usagef("%v", err)
	}
	return nil
}

// validateCommand is validateReading for a command that has no cluster but that of a kubeconfig.
func (o *clusterOptions) validateCommand() error {
	if flag := o.given(); flag != "" && o.access.Kubeconfig == "" {
		return usagef("%s is about a cluster: give --kubeconfig FILE", flag)
	}
	if o.access.Kubeconfig == "" {
		return nil
	}
	return o.validateReading()
}

// openCluster prepares reading from the API server; it need not be there yet.
func (p *process) openCluster() error {
	access, err := p.opt.cluster.access.Config()
	if err != nil {
		return err
	}
	reading := p.opt.cluster.reading
	reading.Log = p.log
	objects, err := watch.NewCluster(access, reading)
	if err != nil {
		return err
	}
	stages := p.stages()
	p.cluster = &control.Cluster{
		Source: objects, Options: p.opt.translate, To: p.server, Log: p.log,
		Measured: func(s control.Stage, d time.Duration) { stages[s](d) },
	}
	p.keepState()
	if p.opt.reports.write {
		if p.reports, err = p.openReports(); err != nil {
			return err
		}
		p.cluster.Sink, p.cluster.Addresses = p.reports, p.reports.published
	}
	p.registerNumbers(objects)
	p.log.Info("reading from the API server", "server", access.Host, "namespaces", p.opt.cluster.namespaces, "selector", p.opt.cluster.selector)
	return nil
}

// stages are the histograms of the way of a change.
func (p *process) stages() [control.StageCount]func(time.Duration) {
	return [control.StageCount]func(time.Duration){
		control.StageLag:       p.registry.Durations("rauta_change_lag_seconds"),
		control.StageTranslate: p.registry.Durations("rauta_change_translate_seconds"),
		control.StagePublish:   p.registry.Durations("rauta_change_publish_seconds"),
		control.StageServed:    p.registry.Durations("rauta_change_served_seconds"),
		control.StageEndpoints: p.registry.Durations("rauta_change_endpoints_seconds"),
	}
}

func (p *process) registerNumbers(objects *watch.Cluster) {
	p.registry.Gauges("rauta_watch_objects", func(emit func(float64, ...observe.Label)) {
		numbers := objects.Numbers()
		for _, kind := range numbers.Kinds() {
			emit(float64(numbers.Objects[kind]), observe.Label{Name: "kind", Value: kind})
		}
	})
	p.registry.Gauges("rauta_watch_misfits", func(emit func(float64, ...observe.Label)) {
		numbers := objects.Numbers()
		for _, kind := range numbers.Kinds() {
			emit(float64(numbers.Misfits[kind]), observe.Label{Name: "kind", Value: kind})
		}
	})
	p.registry.Counter("rauta_watch_errors_total", func() float64 { return float64(objects.Numbers().Errors) })
	p.registry.Gauge("rauta_watch_behind_seconds", func() float64 { return objects.Numbers().Behind.Seconds() })
	p.registry.Gauge("rauta_watch_synced", func() float64 {
		if objects.Numbers().Synced {
			return 1
		}
		return 0
	})
}

// follow reads changes from where the configuration is until reading is done, and reports them until writing is.
func (p *process) follow(reading, writing context.Context, poke <-chan os.Signal) error {
	if p.files != nil {
		return p.files.Follow(reading, poke)
	}
	var beside sync.WaitGroup
	if p.keeper != nil {
		beside.Go(func() { p.keeper.Run(reading) })
	}
	if p.reports != nil {
		beside.Go(func() { p.reports.run(writing) })
	}
	if t := p.opt.translate; t.Zone == "" && t.Node != "" {
		zone := make(chan string)
		p.cluster.Zone = zone
		beside.Go(func() { p.askZone(reading, t.Node, zone) })
	}
	p.cluster.Run(reading)
	beside.Wait()
	return nil
}

// askZone tells the live loop the zone of a node, once it is known.
func (p *process) askZone(ctx context.Context, node string, tell chan<- string) {
	access, err := p.opt.cluster.access.Config()
	var zone string
	if err == nil {
		zone, err = watch.Zone(ctx, access, node, p.log)
	}
	if err != nil {
		if ctx.Err() == nil {
			p.log.Warn("the zone of this node is not known", "node", node, "error", err, "hint", "set --zone")
		}
		return
	}
	select {
	case <-ctx.Done():
	case tell <- zone:
	}
}

// ready says whether everything is being served, and if not, what is missing.
func (p *process) ready() (bool, string) {
	ok, why := p.server.Ready()
	if ok || p.cluster == nil {
		return ok, why
	}
	if err := p.cluster.Waiting(); err != nil {
		why = err.Error()
	}
	return ok, why
}
