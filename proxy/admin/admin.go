// Package admin answers operators: what is configured, what would become of a request, is it healthy, what are the
// numbers.
//
// It owns two small HTTP servers. The admin address shows the inside and is for the node itself; the metrics address
// is for scrapers and probes in the network and shows metrics and health only. It does not own any of the facts: the
// caller passes them in as functions. cmd/rauta makes one Admin.
package admin

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net"
	"net/http/pprof"
	"sync"
	"time"

	"github.com/valyala/fasthttp"
	"github.com/valyala/fasthttp/fasthttpadaptor"
	"github.com/valyala/fasthttp/pprofhandler"

	"rauta.io/rauta/proxy/observe"
)

// Limits of both servers. They answer few, small requests of people and scrapers.
const (
	// connectionsMax per server: a scraper and its retries, a probe, a few people.
	connectionsMax = 64
	headBytesMax   = 32 << 10 // explain gets the header of a request in its query
	readTimeout    = 10 * time.Second
	// writeTimeout leaves room for a CPU profile, which takes as long as it was asked to, 30 s if nothing else.
	writeTimeout = 5 * time.Minute
	idleTimeout  = 2 * time.Minute
)

// Sources are where the answers come from. All of them are called from many goroutines.
type Sources struct {
	// Config returns the current configuration, fit to be shown: without credentials.
	Config func() any
	// Explain tells what becomes of a request; each header is "name: value".
	Explain func(method, url string, headers []string) (any, error)
	// Listeners and Clusters return the sockets and the back ends.
	Listeners, Clusters func() any
	// Ready reports whether a complete configuration is served, and if not, why.
	Ready    func() (bool, string)
	Registry *observe.Registry
}

// Admin is the two servers.
type Admin struct {
	sources Sources
	admin   *fasthttp.Server
	metrics *fasthttp.Server
	gzip    sync.Pool // of gzip.Writer, for pages of metrics
}

// New returns servers that do not listen yet.
func New(sources Sources) *Admin {
	a := &Admin{sources: sources, gzip: sync.Pool{New: newGzip}}
	a.admin = newServer(a.pages(), "admin")
	a.metrics = newServer(a.numbers(), "metrics")
	return a
}

func newServer(pages map[string]page, name string) *fasthttp.Server {
	return &fasthttp.Server{
		Handler: route(pages), Name: "rauta-" + name, Concurrency: connectionsMax, ReadBufferSize: headBytesMax,
		MaxRequestBodySize: 1, ReadTimeout: readTimeout, WriteTimeout: writeTimeout, IdleTimeout: idleTimeout,
		NoDefaultContentType: true, CloseOnShutdown: true, Logger: quiet{},
	}
}

// quiet drops fasthttp's remarks about single connections: a port scan must not fill the log.
type quiet struct{}

func (quiet) Printf(string, ...any) {}

// Serve answers on all listeners until Shutdown; a nil listener is left out. What metrics shows, probe shows too.
func (a *Admin) Serve(admin, metrics, probe net.Listener) error {
	var wait sync.WaitGroup
	errs := make([]error, 3)
	for i, s := range []struct {
		server   *fasthttp.Server
		listener net.Listener
	}{{a.admin, admin}, {a.metrics, metrics}, {a.metrics, probe}} {
		if s.listener == nil {
			continue
		}
		wait.Go(func() {
			if err := s.server.Serve(s.listener); err != nil {
				errs[i] = fmt.Errorf("serve %s on %s: %w", s.server.Name, s.listener.Addr(), err)
			}
		})
	}
	wait.Wait()
	return errors.Join(errs...)
}

// Shutdown closes the listeners and waits for requests that are being answered.
func (a *Admin) Shutdown() error {
	return errors.Join(a.admin.Shutdown(), a.metrics.Shutdown())
}

// page answers one path.
type page struct {
	about  string // for the index
	answer fasthttp.RequestHandler
}

// pages of the admin address.
func (a *Admin) pages() map[string]page {
	pages := map[string]page{
		"/config":       {"the configuration that is served, without credentials", shows(a.sources.Config)},
		"/listeners":    {"the sockets", shows(a.sources.Listeners)},
		"/clusters":     {"the back ends and their endpoints", shows(a.sources.Clusters)},
		"/explain":      {"?method=GET&url=http://host/path&header=name:%20value: what becomes of a request", a.explain},
		"/debug/pprof/": {"profiles of the process, for go tool pprof", profiles},
	}
	maps.Copy(pages, a.numbers()) // so that who may see the inside needs one address only
	var index bytes.Buffer
	index.WriteString("RAUTA admin\n\n")
	for _, path := range sorted(pages) {
		fmt.Fprintf(&index, "%-16s %s\n", path, pages[path].about)
	}
	pages["/"] = page{"this page", func(ctx *fasthttp.RequestCtx) { text(ctx, fasthttp.StatusOK, index.String()) }}
	return pages
}

// numbers are the pages of the metrics address.
func (a *Admin) numbers() map[string]page {
	return map[string]page{
		"/metrics": {"metrics in the Prometheus text format; ?name[]=metric, as often as you like: only these", a.writeMetrics},
		"/healthz": {"the process is alive", func(ctx *fasthttp.RequestCtx) { text(ctx, fasthttp.StatusOK, "ok\n") }},
		"/readyz": {"a complete configuration is served", func(ctx *fasthttp.RequestCtx) {
			if ready, why := a.sources.Ready(); !ready {
				text(ctx, fasthttp.StatusServiceUnavailable, "not ready: "+why+"\n")
				return
			}
			text(ctx, fasthttp.StatusOK, "ok\n")
		}},
	}
}

var profileIndex = fasthttpadaptor.NewFastHTTPHandlerFunc(pprof.Index)

// writeMetrics writes the page while it is being read: with many routes it is tens of megabytes, which nobody should hold.
func (a *Admin) writeMetrics(ctx *fasthttp.RequestCtx) {
	ctx.SetContentType("text/plain; version=0.0.4; charset=utf-8")
	page := &metricsPage{registry: a.sources.Registry}
	for _, name := range ctx.QueryArgs().PeekMulti("name[]") { // as exporters of Prometheus have it
		page.names = append(page.names, string(name))
	}
	ctx.Response.Header.Set(fasthttp.HeaderVary, fasthttp.HeaderAcceptEncoding)
	if ctx.Request.Header.HasAcceptEncoding("gzip") {
		page.gzip = &a.gzip
		ctx.Response.Header.SetContentEncoding("gzip")
	}
	ctx.SetBodyStream(page, -1)
}

// profiles serves net/http/pprof; fasthttp's handler for it has no page at the folder itself.
func profiles(ctx *fasthttp.RequestCtx) {
	if string(ctx.Path()) == "/debug/pprof/" {
		profileIndex(ctx)
		return
	}
	pprofhandler.PprofHandler(ctx)
}

func (a *Admin) explain(ctx *fasthttp.RequestCtx) {
	args := ctx.QueryArgs()
	var headers []string
	for _, h := range args.PeekMulti("header") {
		headers = append(headers, string(h))
	}
	method, url := string(args.Peek("method")), string(args.Peek("url"))
	if method == "" {
		method = fasthttp.MethodGet
	}
	if url == "" {
		text(ctx, fasthttp.StatusBadRequest, "url is missing: /explain?method=GET&url=http://host/path\n")
		return
	}
	e, err := a.sources.Explain(method, url, headers)
	if err != nil {
		text(ctx, fasthttp.StatusBadRequest, err.Error()+"\n")
		return
	}
	writeJSON(ctx, e)
}

func shows(source func() any) fasthttp.RequestHandler {
	return func(ctx *fasthttp.RequestCtx) { writeJSON(ctx, source()) }
}

func writeJSON(ctx *fasthttp.RequestCtx, v any) {
	ctx.SetContentType("application/json")
	enc := json.NewEncoder(ctx)
	enc.SetIndent("", "  ")
	enc.SetEscapeHTML(false)
	if err := enc.Encode(v); err != nil {
		ctx.ResetBody()
		text(ctx, fasthttp.StatusInternalServerError, "encode: "+err.Error()+"\n")
	}
}

func text(ctx *fasthttp.RequestCtx, status int, body string) {
	ctx.SetStatusCode(status)
	ctx.SetContentType("text/plain; charset=utf-8")
	ctx.SetBodyString(body)
}
