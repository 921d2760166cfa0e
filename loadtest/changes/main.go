// Command changes measures how long a change takes in a cluster: from the moment at which the API server has accepted a
// write to the first request that is served as it says.
//
// It owns the objects that it fills a namespace with, the writes, and the back ends. It does not own the cluster, nor
// RAUTA, which has to run there already with its port 8000 free: test/cluster/changes starts both, `make loadtest-changes`
// calls it, and loadtest/README.md says what else it can be run against.
//
// Every pod address is in one prefix of which all addresses reach this process: inside test/cluster they are local. So an
// endpoint may be any of them, and an error is an error of RAUTA's.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"net/netip"
	"os"
	"os/signal"
	"syscall"
	"time"
)

// options are the command line.
type options struct {
	api       api
	tokenFile string
	caFile    string
	gateway   string
	metrics   string
	profiles  string
	folder    string
	traceTime time.Duration
	log       string
	routes    int
	services  int
	endpoints int
	certs     int
	prefix    netip.Prefix
	podPort   int
	changes   int
	churn     int
	routeRate int
	duration  time.Duration
	keep      bool
	onlyFill  bool
	onlyLoad  bool
	filled    bool
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, os.Args[1:]); err != nil && !errors.Is(err, flag.ErrHelp) {
		fmt.Fprintln(os.Stderr, "changes:", err)
		os.Exit(1)
	}
}

func parse(arguments []string) (*options, error) {
	o := &options{}
	f := flag.NewFlagSet("changes", flag.ContinueOnError)
	f.StringVar(&o.api.server, "server", "http://127.0.0.1:8001", "URL of the API server, or of kubectl proxy")
	f.StringVar(&o.tokenFile, "token", "", "file with a bearer token")
	f.StringVar(&o.caFile, "ca", "", "file with the certificate of the API server's authority")
	f.StringVar(&o.gateway, "gateway", "127.0.0.1:8000", "where RAUTA serves the Gateway's port 8000")
	f.StringVar(&o.metrics, "metrics", "", "URL of RAUTA's metrics, for goroutines and memory")
	f.StringVar(&o.profiles, "profiles", "", "URL of RAUTA's /debug/pprof/, whose profiles of allocations are stored before and after each phase")
	f.StringVar(&o.folder, "profile-folder", ".", "where to")
	f.DurationVar(&o.traceTime, "trace", 0, "how long what RAUTA does is traced in each phase, for go tool trace, into the same folder")
	f.StringVar(&o.log, "log", "", "file that RAUTA logs to, at level debug and in text, to say where the time of changes went")
	f.IntVar(&o.routes, "routes", 3000, "HTTPRoutes")
	f.IntVar(&o.services, "services", 1000, "Services, each with one EndpointSlice")
	f.IntVar(&o.endpoints, "endpoints", 3, "endpoints of each")
	f.IntVar(&o.certs, "certificates", 0, "HTTPS listeners, each with a certificate, on Gateways of 64")
	prefix := f.String("pods", "10.244.8.0/21", "addresses that reach this process")
	f.IntVar(&o.podPort, "pod-port", 18000, "their port")
	f.IntVar(&o.changes, "changes", 200, "writes of each kind that are measured in each phase")
	f.IntVar(&o.churn, "churn", 100, "EndpointSlices that change each second in the second phase")
	f.IntVar(&o.routeRate, "route-churn", 0, "HTTPRoutes that change each second in the second phase, besides")
	f.DurationVar(&o.duration, "duration", time.Minute, "how long the second phase lasts at least")
	f.BoolVar(&o.keep, "keep", false, "leave the objects in the cluster")
	f.BoolVar(&o.onlyFill, "only-fill", false, "create the objects, leave them in the cluster, and measure nothing")
	f.BoolVar(&o.onlyLoad, "only-load", false, "be the process that the one that measures starts: requests and churn, as its standard input says")
	f.BoolVar(&o.filled, "filled", false, "measure with the objects of a run with -only-fill and the same numbers")
	if err := f.Parse(arguments); err != nil {
		return nil, err
	}
	var err error
	if o.prefix, err = netip.ParsePrefix(*prefix); err != nil {
		return nil, fmt.Errorf("-pods: %w", err)
	}
	if o.routes < 1 || o.services < 1 || o.endpoints < 1 || o.changes < 1 || o.podPort < 1 {
		return nil, errors.New("-routes, -services, -endpoints, -changes and -pod-port must be at least 1")
	}
	if o.onlyFill && o.filled {
		return nil, errors.New("-only-fill and -filled exclude each other")
	}
	return o, o.api.open(o.tokenFile, o.caFile)
}

func run(ctx context.Context, arguments []string) error {
	o, err := parse(arguments)
	if err != nil {
		return err
	}
	if o.onlyLoad {
		return (&lab{options: o, port: o.podPort}).obey(ctx)
	}
	pods, err := startPods(o.podPort)
	if err != nil {
		return err
	}
	l := &lab{options: o, port: pods.port}
	if !o.filled {
		start := time.Now()
		if err := l.fill(ctx); err != nil {
			return fmt.Errorf("fill the cluster: %w", err)
		}
		fmt.Printf("%d routes, %d services, %d endpoints, %d certificates written in %s\n",
			o.routes, o.services, o.services*o.endpoints, o.certs, time.Since(start).Round(time.Millisecond))
	}
	if o.onlyFill {
		return nil
	}
	if !o.keep {
		defer l.empty(context.Background())
	}
	if err := l.await(ctx); err != nil {
		return err
	}
	return l.measure(ctx)
}
