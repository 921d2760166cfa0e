package main

import (
	"errors"
	"fmt"
	"log/slog"
	"math"
	"net"
	"net/netip"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"rauta.io/rauta/control/translate"
	"rauta.io/rauta/fastpath/wire"
	"rauta.io/rauta/proxy/observe"
)

// Bounds of flags.
const (
	workersMax     = 1024      // more cores than one process can use
	headBytesMin   = 1 << 10   // bytes; less than that refuses ordinary browsers
	headBytesMax   = 128 << 10 // bytes per connection that a client may make us keep before it is known who it is
	drainTimeMax   = time.Hour // beyond it a typing error is more likely than intent
	connectionsMax = math.MaxInt32
	// seriesMax is what a scrape can read within some seconds.
	seriesMax = 100_000
	// gatherMax is what clients would notice.
	gatherMax = time.Millisecond
)

// serveOptions are the flags of serve.
type serveOptions struct {
	paths       []string
	bind        string
	admin       string
	metrics     string
	probeSocket string
	workers     int
	engine      string
	trusted     []string
	accessLog   string
	errorLog    string
	logLevel    string
	logFormat   string
	drainDelay  time.Duration
	drainTime   time.Duration
	connections int
	gather      time.Duration
	headBytes   int
	requests    int
	overlap     bool
	strictNames bool
	ebpf        string
	ebpfSample  string
	translate   translate.Options
	tracing     traceOptions
	cluster     clusterOptions
	state       stateOptions
	reports     reportOptions
	// Routes and endpoints with series of their own in the metrics.
	seriesRoutes, seriesEndpoints int

	onReady func() // called once everything is being served, if not nil

	// Filled in by validate.
	trustedNets []netip.Prefix
	level       slog.Level
}

const serveLong = `Serve HTTP as the configuration says.

PATH is a file or a folder of YAML with Gateway API and Ingress objects, their Services and EndpointSlices. Changes are
followed; a file that can't be read keeps the last good state in force. Back ends on loopback addresses are allowed.

Without --config the objects are read from the API server of a kubeconfig, or of the cluster that RAUTA runs in.

Signals: SIGHUP reads files again now, SIGUSR1 opens the access log anew, SIGTERM and SIGINT finish what is
under way and exit with 0; a second one exits at once.`

func newServe() *cobra.Command {
	o := &serveOptions{}
	cmd := &cobra.Command{
		Use:   "serve [--config PATH...]",
		Short: "Serve HTTP as the configuration says",
		Long:  serveLong,
		Args:  cobra.ArbitraryArgs,
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) > 0 && len(o.paths) == 0 {
				return usagef("unexpected argument %q: give the configuration with --config PATH", args[0])
			}
			o.paths = append(o.paths, args...)
			if err := o.validate(); err != nil {
				return err
			}
			return serve(cmd.Context(), o, cmd.OutOrStdout(), cmd.ErrOrStderr())
		},
	}
	cmd.Flags().SortFlags = false
	cmd.Flags().AddFlagSet(newServeFlags(o))
	return cmd
}

// newServeFlags sets o to the defaults and returns the flags that change it.
func newServeFlags(o *serveOptions) *pflag.FlagSet {
	f := pflag.NewFlagSet("serve", pflag.ContinueOnError)
	f.SortFlags = false
	f.StringArrayVar(&o.paths, "config", nil, "file or folder of YAML; may be repeated")
	f.StringVar(&o.bind, "bind", "", "address of listeners that name none (default: all addresses)")
	f.StringVar(&o.admin, "admin", "127.0.0.1:9090", "address of /config, /explain, /listeners, /clusters, /debug/pprof, and what --metrics has; off for none")
	f.StringVar(&o.metrics, "metrics", ":9091", "address of /metrics, /healthz and /readyz; off for none")
	f.IntVar(&o.seriesRoutes, "metrics-routes", observe.SeriesDefault, "routes with metrics of their own; those beyond are counted together as other")
	f.IntVar(&o.seriesEndpoints, "metrics-endpoints", observe.SeriesDefault, "endpoints with metrics of their own; likewise")
	f.StringVar(&o.probeSocket, "probe-socket", "", "path of a Unix socket with the same pages for 'rauta probe'")
	f.IntVar(&o.workers, "workers", 0, "event loops (default: one per usable core)")
	f.StringVar(&o.engine, "engine", engineLoop, "data plane: "+strings.Join(engines(), " or "))
	f.StringSliceVar(&o.trusted, "trusted-proxies", nil, "CIDRs whose X-Forwarded-*, Forwarded and X-Request-Id are believed")
	f.StringVar(&o.accessLog, "access-log", "off", "off, stdout, or the path of a file")
	f.StringVar(&o.errorLog, "error-log", "off", "the same for a log of the requests that failed")
	f.StringVar(&o.logLevel, "log-level", "info", "debug, info, warn or error")
	f.StringVar(&o.logFormat, "log-format", "text", "text or json")
	f.DurationVar(&o.drainDelay, "drain-delay", 5*time.Second, "how long to go on accepting after SIGTERM while being unready")
	f.DurationVar(&o.drainTime, "drain-time", 25*time.Second, "how long requests may take to finish after that")
	f.IntVar(&o.connections, "max-connections", 0, "client connections at most (default: 50000 for the loop, 10000 for the reference engine, less where descriptors run out)")
	f.DurationVar(&o.gather, "gather", 50*time.Microsecond, "how long a busy event loop may let requests gather where that saves CPU time; 0 for not at all")
	f.IntVar(&o.headBytes, "max-head-bytes", wire.RequestHeadBytesMax, "largest request head, from 1024 to 131072 bytes")
	f.IntVar(&o.requests, "requests-per-connection", 0, "requests after which a client connection is closed; 0 for no limit")
	f.BoolVar(&o.strictNames, "strict-header-names", false,
		"answer 400 to field names that look like framing or forwarding fields (X_Forwarded_For), instead of dropping them")
	f.StringVar(&o.ebpf, "ebpf", ebpfAuto, "metrics from the kernel: auto (if it can be), off, or require")
	f.StringVar(&o.ebpfSample, "ebpf-sample", ebpfAuto,
		"requests of HTTP/1 that the kernel watches: one in so many, all the time (1: all of them), auto (all of them, under load for a part of the time), or off")
	f.BoolVar(&o.overlap, "overlap", false, "allow another process to listen on the same addresses, for a hand-over")
	meaningFlags(f, &o.translate)
	o.tracing.flags(f)
	o.cluster.flags(f)
	o.state.flags(f)
	o.reports.flags(f)
	return f
}

// validate checks every flag and fills in what follows from them.
func (o *serveOptions) validate() error {
	switch {
	case o.workers < 0 || o.workers > workersMax:
		return usagef("--workers %d: must be from 1 to %d, or 0 for one per core", o.workers, workersMax)
	case !slices.Contains(engines(), o.engine):
		return usagef("--engine %q: must be %s", o.engine, strings.Join(engines(), " or "))
	case !slices.Contains(ebpfModes(), o.ebpf):
		return usagef("--ebpf %q: must be %s", o.ebpf, strings.Join(ebpfModes(), ", "))
	case !validSample(o.ebpfSample):
		return usagef("--ebpf-sample %q: must be auto, off, or a number from 1 to %d", o.ebpfSample, sampleMax)
	case o.overlap && o.engine != engineLoop:
		return usagef("--overlap: only the engine %s can share addresses with another process", engineLoop)
	case o.logFormat != "text" && o.logFormat != "json":
		return usagef("--log-format %q: must be text or json", o.logFormat)
	case o.accessLog == "":
		return usagef("--access-log is empty: must be off, stdout or the path of a file")
	case o.errorLog == "":
		return usagef("--error-log is empty: must be off, stdout or the path of a file")
	case o.errorLog == o.accessLog && o.errorLog != "off":
		return usagef("--error-log %q: is the access log, which has these lines, too; give another file, or off", o.errorLog)
	case o.drainDelay < 0 || o.drainDelay > drainTimeMax:
		return usagef("--drain-delay %s: must be from 0s to %s", o.drainDelay, drainTimeMax)
	case o.drainTime < 0 || o.drainTime > drainTimeMax:
		return usagef("--drain-time %s: must be from 0s to %s", o.drainTime, drainTimeMax)
	case o.gather < 0 || o.gather > gatherMax:
		return usagef("--gather %s: must be from 0s to %s", o.gather, gatherMax)
	case o.connections < 0 || o.connections > connectionsMax:
		return usagef("--max-connections %d: must be from 1 to %d, or 0 for the default", o.connections, connectionsMax)
	case o.headBytes < headBytesMin || o.headBytes > headBytesMax:
		return usagef("--max-head-bytes %d: must be from %d to %d", o.headBytes, headBytesMin, headBytesMax)
	case o.seriesRoutes < 1 || o.seriesRoutes > seriesMax:
		return usagef("--metrics-routes %d: must be from 1 to %d", o.seriesRoutes, seriesMax)
	case o.seriesEndpoints < 1 || o.seriesEndpoints > seriesMax:
		return usagef("--metrics-endpoints %d: must be from 1 to %d", o.seriesEndpoints, seriesMax)
	case o.requests < 0:
		return usagef("--requests-per-connection %d: must not be negative", o.requests)
	}
	if o.workers == 0 {
		o.workers = runtime.GOMAXPROCS(0)
	}
	if o.bind != "" {
		if _, err := netip.ParseAddr(o.bind); err != nil {
			return usagef("--bind %q: must be an IP address without a port", o.bind)
		}
	}
	if err := o.level.UnmarshalText([]byte(o.logLevel)); err != nil || !isLevel(o.logLevel) {
		return usagef("--log-level %q: must be debug, info, warn or error", o.logLevel)
	}
	if err := o.parseTrusted(); err != nil {
		return err
	}
	if err := o.tracing.validate(); err != nil {
		return err
	}
	if err := validateMeaning(&o.translate); err != nil {
		return err
	}
	if err := o.state.validate(len(o.paths) > 0); err != nil {
		return err
	}
	if err := o.cluster.validate(len(o.paths) > 0); err != nil {
		return err
	}
	if err := o.reports.validate(len(o.paths) > 0); err != nil {
		return err
	}
	o.translate.AllowLoopback, o.translate.ClassObjects = len(o.paths) > 0, len(o.paths) == 0
	o.translate.WithoutTLS, o.translate.WithoutL4 = o.engine != engineLoop, o.engine != engineLoop
	return o.validateAddresses()
}

func isLevel(s string) bool { return s == "debug" || s == "info" || s == "warn" || s == "error" }

func (o *serveOptions) validateAddresses() error {
	for flag, address := range map[string]string{"--admin": o.admin, "--metrics": o.metrics} {
		if address == listenOff {
			continue
		}
		host, port, err := net.SplitHostPort(address)
		if err == nil && host != "" && host != "localhost" {
			_, err = netip.ParseAddr(host)
		}
		if err == nil {
			_, err = strconv.ParseUint(port, 10, 16)
		}
		if err != nil {
			return usagef("%s %q: must be ADDRESS:PORT, :PORT or off", flag, address)
		}
	}
	return nil
}

// listenOff switches the admin or metrics server off.
const listenOff = "off"

// parseTrusted accepts CIDRs and single addresses.
func (o *serveOptions) parseTrusted() error {
	for _, text := range o.trusted {
		p, err := parsePrefix(text)
		if err != nil {
			return usagef("--trusted-proxies %q: %v", text, err)
		}
		o.trustedNets = append(o.trustedNets, p)
	}
	return nil
}

// parsePrefix reads a CIDR or a single address.
func parsePrefix(text string) (netip.Prefix, error) {
	text = strings.TrimSpace(text)
	p, err := netip.ParsePrefix(text)
	if err != nil {
		addr, addrErr := netip.ParseAddr(text)
		if addrErr != nil {
			return p, errors.New("must be CIDRs such as 10.0.0.0/8")
		}
		p = netip.PrefixFrom(addr, addr.BitLen())
	}
	if p != p.Masked() {
		return p, fmt.Errorf("has bits set behind its prefix; did you mean %s?", p.Masked())
	}
	return p, nil
}
