package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"runtime"
	"syscall"

	"rauta.io/rauta/control"
	"rauta.io/rauta/control/store"
	"rauta.io/rauta/fastpath"
	"rauta.io/rauta/fastpath/wire"
	"rauta.io/rauta/proxy/admin"
	"rauta.io/rauta/proxy/loop"
	"rauta.io/rauta/proxy/message"
	"rauta.io/rauta/proxy/observe"
	"rauta.io/rauta/proxy/otlp"
	"rauta.io/rauta/proxy/server"
)

// serve runs until it is told to stop.
func serve(ctx context.Context, o *serveOptions, stdout, stderr io.Writer) error {
	signals := make(chan os.Signal, 4)
	signal.Notify(signals, syscall.SIGTERM, syscall.SIGINT, syscall.SIGHUP, syscall.SIGUSR1)
	defer signal.Stop(signals)

	p := &process{opt: o, log: newLogger(o, stderr), stderr: stderr}
	defer p.close()
	if err := p.start(stdout); err != nil {
		return err
	}
	if o.onReady != nil {
		o.onReady()
	}
	return p.wait(ctx, signals)
}

func newLogger(o *serveOptions, w io.Writer) *slog.Logger {
	opt := &slog.HandlerOptions{Level: o.level}
	if o.logFormat == "json" {
		return slog.New(slog.NewJSONHandler(w, opt))
	}
	return slog.New(slog.NewTextHandler(w, opt))
}

// process is one running serve.
type process struct {
	opt    *serveOptions
	log    *slog.Logger
	stderr io.Writer

	registry  *observe.Registry
	server    *server.Server
	kernel    kernel           // nil where the kernel is not to tell anything
	files     *control.Files   // nil without --config
	cluster   *control.Cluster // nil with it
	keeper    *store.Keeper    // nil without --state-dir
	reports   *reports         // nil without a cluster, or if it is not to be told anything
	accessLog *accessLog
	errorLog  *accessLog
	exporter  *otlp.Exporter // nil without --trace-endpoint
	admin     *admin.Admin
}

func (p *process) start(stdout io.Writer) error {
	tuning := loop.Tune(p.opt.workers)
	p.log.Info("starting", "version", version, "workers", p.opt.workers, "gomaxprocs", tuning.MaxProcs, "memory_limit", tuning.MemoryLimit)
	p.registry = observe.NewRegistry(observe.Options{
		Workers: p.opt.workers, Methods: message.MethodNames(), SharedShards: p.opt.engine != engineLoop,
		SeriesRoutesMax: p.opt.seriesRoutes, SeriesEndpointsMax: p.opt.seriesEndpoints,
	})
	p.registry.SetParseReasons(parseReasons())
	if err := p.openKernel(); err != nil {
		return err
	}
	p.registry.Info("rauta_build_info", func() []observe.Label {
		return []observe.Label{{Name: "version", Value: version}, {Name: "go", Value: runtime.Version()}}
	})
	var err error
	if p.accessLog, err = openAccessLog(p.opt.accessLog, stdout); err != nil {
		return err
	}
	p.accessLog.attach(p.registry.SetAccessLog)
	if p.errorLog, err = openAccessLog(p.opt.errorLog, stdout); err != nil {
		return err
	}
	p.errorLog.attach(p.registry.SetErrorLog)
	if err := p.startTracing(); err != nil {
		return err
	}
	if p.server, err = server.New(p.serverOptions(tuning)); err != nil {
		return err
	}
	if len(p.opt.paths) == 0 {
		if err := p.openCluster(); err != nil {
			return err
		}
	}
	if err := p.server.Start(); err != nil {
		return err
	}
	if err := p.startAdmin(); err != nil {
		return err
	}
	if p.cluster != nil {
		return nil // what there is to serve comes later
	}
	p.files = &control.Files{Paths: p.opt.paths, Options: p.opt.translate, To: p.server, Log: p.log}
	return p.load()
}

func (p *process) serverOptions(tuning loop.Tuning) server.Options {
	limits := fastpath.DefaultLimits()
	limits.Request.HeadBytes = p.opt.headBytes
	limits.RequestsPerConn = p.opt.requests
	limits.Request.StrictNames = p.opt.strictNames
	opt := server.Options{
		Workers: p.opt.workers, Registry: p.registry, Bind: p.opt.bind,
		Settings: p.opt.exchangeSettings(), Limits: limits,
		ConnectionsMax: p.opt.connections, Gather: p.opt.gather, Overlap: p.opt.overlap, Plane: planes()[p.opt.engine], MemoryLimit: tuning.ContainerLimit,
		ReadyWithoutSockets: len(p.opt.paths) == 0,
		DrainDelay:          p.opt.drainDelay, DrainTime: p.opt.drainTime, Log: p.log,
	}
	if p.kernel != nil {
		opt.Kernel = p.kernel
	}
	return opt
}

func parseReasons() []string {
	names := make([]string, wire.ReasonCount)
	for i := range names {
		names[i] = wire.Reason(i).String()
	}
	return names
}

// load reads the configuration for the first time. Whatever keeps it from being served as it stands ends the start;
// parts that were left out have been reported and do not.
func (p *process) load() error {
	err := p.files.Load()
	ready, _ := p.server.Ready()
	switch {
	case err == nil:
	case ready:
		p.log.Error("parts of the configuration are left out", "error", err)
	default:
		fmt.Fprintln(p.stderr, err)
		fmt.Fprintln(p.stderr, "rauta: the configuration can't be served; 'rauta check' says more")
		return errReported
	}
	return nil
}

// wait follows the configuration and the signals until it is time to stop.
func (p *process) wait(ctx context.Context, signals <-chan os.Signal) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	// Requests still come while this process drains, and back ends go meanwhile: reading ends with the drain.
	reading, stopReading := context.WithCancel(context.WithoutCancel(ctx))
	poke := make(chan os.Signal, 1)
	following := make(chan error, 1)
	followed := make(chan struct{})
	go func() {
		defer close(followed)
		following <- p.follow(reading, ctx, poke)
	}()
	defer func() {
		cancel()
		stopReading()
		<-followed // what is not stored yet is being stored, and Leases are given back
	}()
	for {
		select {
		case <-ctx.Done():
			return p.stop(signals)
		case err := <-following:
			if err != nil {
				return err
			}
		case s := <-signals:
			switch s {
			case syscall.SIGHUP:
				select {
				case poke <- s:
				default: // one is waiting already
				}
			case syscall.SIGUSR1:
				p.reopen()
			default:
				cancel()
				return p.stop(signals)
			}
		}
	}
}

func (p *process) reopen() {
	for _, l := range []*accessLog{p.accessLog, p.errorLog} {
		if err := l.reopen(); err != nil {
			p.log.Error("a log of requests goes on in the old file", "error", err)
		}
	}
}

// errInterrupted: the operator did not want to wait for the drain.
var errInterrupted = errors.New("stopped at once by a second signal; connections were cut off")

// stop drains. A second signal ends the wait.
func (p *process) stop(signals <-chan os.Signal) error {
	ctx, cancel := context.WithCancelCause(context.Background())
	defer cancel(nil)
	drained := make(chan struct{})
	go func() {
		defer close(drained)
		p.server.Drain(ctx)
	}()
	for {
		select {
		case <-drained:
			if err := context.Cause(ctx); err != nil {
				return err
			}
			return nil
		case s := <-signals:
			if s == syscall.SIGTERM || s == syscall.SIGINT {
				cancel(errInterrupted)
			}
		}
	}
}

func (p *process) close() {
	if p.kernel != nil {
		p.kernel.Close()
	}
	p.stopAdmin()
	if p.exporter != nil {
		p.exporter.Close()
	}
	for _, l := range []*accessLog{p.accessLog, p.errorLog} {
		if l != nil {
			l.close()
		}
	}
}
