package otlp

import (
	"context"
	"fmt"
	"log/slog"
	"net/url"
	"sync"
	"sync/atomic"
	"time"

	"go.opentelemetry.io/otel/exporters/otlp/otlptrace"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace/otlptracegrpc"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace/otlptracehttp"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"

	"rauta.io/rauta/proxy/observe"
)

const (
	// batchMax is the number of requests whose spans go to the collector at once. With one attempt for each that is 512 spans,
	// what the OpenTelemetry SDK sends at most, too; with all that there is room for, 1,280 of 1 KiB: collectors take 4 MiB.
	batchMax = 256
	// pauseMax is how long a span waits at low traffic.
	pauseMax = time.Second
	// closeWaitMax bounds what Close waits for, whatever the collector does.
	closeWaitMax = 3 * time.Second
	// backOffMin and backOffMax bound how long a collector is left alone that has not taken a batch; each failure doubles it.
	// Making spans costs more than serving the requests (PERF.md), which is too much for a collector that refuses at once.
	backOffMin, backOffMax = time.Second, 8 * time.Second
	// warnPauseMin is the least time between two warnings: a collector may take every other batch.
	warnPauseMin = time.Minute
)

// Options configure an Exporter.
type Options struct {
	// Endpoint is where the collector is; see ParseEndpoint.
	Endpoint string
	// Service is the service.name of the spans; empty for OTEL_SERVICE_NAME, or else "rauta".
	Service string
	// Version is the service.version.
	Version string
	// Place becomes part of the resource.
	Place Place
	// Log is told when exporting begins to fail, and when it works again.
	Log *slog.Logger
}

// Exporter sends spans to a collector.
type Exporter struct {
	// immutable after Start
	client sdktrace.SpanExporter
	wait   time.Duration // bounds one batch
	maker  maker
	log    *slog.Logger
	spans  *observe.Spans

	ctx     context.Context // ends when Close has waited enough
	cancel  context.CancelFunc
	closing chan struct{}
	done    chan struct{}

	// owned by the goroutine
	taken   [batchMax]observe.Span
	backOff time.Duration // until the next batch; 0 unless the last one failed
	failing bool          // the log says that spans are lost
	warned  time.Time     // when it was last told so

	exported, failed, rejected atomic.Uint64
	closeOnce                  sync.Once
}

// ParseEndpoint reads grpc://host:4317, grpcs:// (with TLS), http://host:4318/v1/traces or https://. Without a path HTTP
// has /v1/traces, as OTLP says.
func ParseEndpoint(s string) (*url.URL, error) {
	u, err := url.Parse(s)
	if err != nil {
		return nil, fmt.Errorf("%q is no URL", s)
	}
	isHTTP := u.Scheme == "http" || u.Scheme == "https"
	switch {
	case !isHTTP && !isGRPC(u):
		return nil, fmt.Errorf("%q: must begin with grpc://, grpcs://, http:// or https://", s)
	case u.Hostname() == "":
		return nil, fmt.Errorf("%q: has no host", s)
	case u.User != nil || u.RawQuery != "" || u.Fragment != "":
		return nil, fmt.Errorf("%q: must be no more than scheme, host, port and path; secrets go into OTEL_EXPORTER_OTLP_HEADERS", u.Redacted())
	case !isHTTP && u.Path != "" && u.Path != "/":
		return nil, fmt.Errorf("%q: gRPC has no path", s)
	case !isHTTP && u.Port() == "":
		u.Host += ":4317"
	case isHTTP && (u.Path == "" || u.Path == "/"):
		u.Path = "/v1/traces"
	}
	return u, nil
}

// New returns an exporter, which connects when there is something to send. Headers, certificates, the time for a batch and
// attributes of the resource are taken from the OTEL_ variables of the environment.
func New(opt Options) (*Exporter, error) {
	u, err := ParseEndpoint(opt.Endpoint)
	if err != nil {
		return nil, err
	}
	set, err := readSettings(isSecure(u))
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithCancel(context.Background())
	e := &Exporter{log: opt.Log, wait: set.wait, ctx: ctx, cancel: cancel, closing: make(chan struct{}), done: make(chan struct{})}
	from, err := resourceOf(ctx, opt)
	if err != nil {
		cancel()
		return nil, fmt.Errorf("OTEL_RESOURCE_ATTRIBUTES: %w", err)
	}
	e.maker = newMaker(from, opt.Version)
	if e.client, err = otlptrace.New(ctx, clientOf(u, set)); err != nil {
		cancel()
		return nil, err
	}
	return e, nil
}

func clientOf(u *url.URL, set settings) otlptrace.Client {
	const first, most = 500 * time.Millisecond, 2 * time.Second
	if isGRPC(u) {
		transport := insecure.NewCredentials()
		if set.tls != nil {
			transport = credentials.NewTLS(set.tls)
		}
		return otlptracegrpc.NewClient(
			otlptracegrpc.WithEndpoint(u.Host), otlptracegrpc.WithTLSCredentials(transport), otlptracegrpc.WithTimeout(set.wait),
			otlptracegrpc.WithRetry(otlptracegrpc.RetryConfig{Enabled: true, InitialInterval: first, MaxInterval: most, MaxElapsedTime: set.wait}),
		)
	}
	return otlptracehttp.NewClient(
		otlptracehttp.WithEndpointURL(u.String()), otlptracehttp.WithTLSClientConfig(set.tls), otlptracehttp.WithTimeout(set.wait),
		otlptracehttp.WithRetry(otlptracehttp.RetryConfig{Enabled: true, InitialInterval: first, MaxInterval: most, MaxElapsedTime: set.wait}),
	)
}

func isGRPC(u *url.URL) bool { return u.Scheme == "grpc" || u.Scheme == "grpcs" }

// isSecure reports whether the collector is reached by TLS.
func isSecure(u *url.URL) bool { return u.Scheme == "grpcs" || u.Scheme == "https" }

// Start begins to export. It is called once.
func (e *Exporter) Start(spans *observe.Spans) {
	e.spans = spans
	go e.run()
}

// Exported is the number of spans that the collector has taken.
func (e *Exporter) Exported() uint64 { return e.exported.Load() }

// Failed is the number of spans in batches that the collector did not take.
func (e *Exporter) Failed() uint64 { return e.failed.Load() }

// Rejected is the number of spans that the collector has refused in batches that it took otherwise.
func (e *Exporter) Rejected() uint64 { return e.rejected.Load() }

// Close exports what is there and ends, after 3 s at the latest. It is called after Start, when the workers have stopped.
func (e *Exporter) Close() {
	e.closeOnce.Do(func() {
		stop := time.AfterFunc(closeWaitMax, e.cancel)
		defer stop.Stop()
		close(e.closing)
		select {
		case <-e.done:
		case <-e.ctx.Done():
			<-e.done // at once: each wait of the goroutine ends with the context
		}
		e.cancel()
	})
}

func (e *Exporter) run() {
	defer close(e.done)
	defer e.client.Shutdown(e.ctx)
	pause := time.NewTimer(pauseMax)
	defer pause.Stop()
	for {
		urgent := e.spans.Urgent()
		if e.backOff > 0 {
			urgent = nil // the rings fill up meanwhile, and drop what comes then
		}
		select {
		case <-pause.C:
		case <-urgent:
		case <-e.closing:
			for e.exportNext() {
			}
			return
		}
		for e.exportNext() && e.backOff == 0 {
		}
		pause.Reset(max(pauseMax, e.backOff))
	}
}

// exportNext exports a batch of what is in the rings, if there is anything, and notes for how long to wait if that fails.
func (e *Exporter) exportNext() bool {
	n := e.spans.Take(e.taken[:])
	if n == 0 {
		return false
	}
	if e.export(e.taken[:n]) {
		e.backOff = 0
	} else {
		e.backOff = min(max(2*e.backOff, backOffMin), backOffMax)
	}
	return true
}

// export reports whether the collector has taken the batch, if not all spans of it.
func (e *Exporter) export(requests []observe.Span) bool {
	batch := make([]sdktrace.ReadOnlySpan, 0, 2*len(requests))
	for i := range requests {
		batch = e.maker.appendSpans(batch, &requests[i])
	}
	ctx, cancel := context.WithTimeout(e.ctx, e.wait)
	defer cancel()
	err := e.client.ExportSpans(ctx, batch)
	if err == nil {
		e.exported.Add(uint64(len(batch)))
		if e.failing {
			e.log.Info("spans are taken by the collector again")
		}
		e.failing = false
		return true
	}
	lost, partly := rejectedOf(err, len(batch))
	if partly {
		e.rejected.Add(uint64(lost))
		e.exported.Add(uint64(len(batch) - lost))
	} else {
		e.failed.Add(uint64(lost))
	}
	if !e.failing && time.Since(e.warned) >= warnPauseMin {
		e.failing, e.warned = true, time.Now()
		e.log.Warn("spans are not taken by the collector: they are dropped and counted until they are; see --trace-endpoint", "error", err)
	}
	return partly
}
