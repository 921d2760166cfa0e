package otlp

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"runtime"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/sdk/resource"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	semconv "go.opentelemetry.io/otel/semconv/v1.43.0"
	"go.opentelemetry.io/otel/trace"
	service "go.opentelemetry.io/proto/otlp/collector/trace/v1"

	"rauta.io/rauta/internal/testrig/collector"
	"rauta.io/rauta/proxy/observe"
)

func started(t *testing.T, endpoint string) (*Exporter, *observe.Shard, *observe.Spans) {
	t.Helper()
	e, err := New(Options{Endpoint: endpoint, Service: "edge", Version: "1", Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	r := observe.NewRegistry(observe.Options{})
	spans := r.CollectSpans()
	e.Start(spans)
	t.Cleanup(e.Close)
	return e, r.Shard(0), spans
}

func record() *observe.Record {
	return &observe.Record{
		TraceID: [16]byte{1}, Spans: &observe.RequestSpans{SpanID: [8]byte{2}, ParentID: [8]byte{3}}, ReceivedAt: 1_700_000_000_000_000_000,
		StreamAt: 10, SentAt: 20, FirstByteAt: 30, EndAt: 40, Status: 503, Reason: "connect_failed", Protocol: "HTTP/1.1", Attempts: 1,
		ReceivedMethod: []byte("GET"), ReceivedTarget: []byte("/a\xff?q=secret"), ReceivedHost: []byte("[2001:db8::1]:8443"),
	}
}

// wantRecord checks that what has arrived is record().
func wantRecord(t *testing.T, c *collector.Collector) {
	t.Helper()
	s := c.Wait("", 1)[0]
	if s.Resource["service.name"] != "edge" || s.Schema != semconv.SchemaURL {
		t.Errorf("resource %v, schema %s", s.Resource, s.Schema)
	}
	if !strings.HasPrefix(s.TraceID, "01") || !strings.HasPrefix(s.ID, "02") || !strings.HasPrefix(s.Parent, "03") || s.End-s.Start != 40 || !s.Failed {
		t.Errorf("span %+v", s)
	}
	if strings.Contains(fmt.Sprint(s), "secret") {
		t.Errorf("a value of the query is exported: %+v", s)
	}
}

// made returns the spans of a record by name of their kind.
func made(t *testing.T, rec *observe.Record) (request sdktrace.ReadOnlySpan, attempts []sdktrace.ReadOnlySpan) {
	t.Helper()
	all := madeBy(t, func(s *observe.Shard) { s.Finish(rec) })
	return all[0], all[1:]
}

// madeBy returns the spans of what a shard is told.
func madeBy(t *testing.T, tell func(*observe.Shard)) []sdktrace.ReadOnlySpan {
	t.Helper()
	r := observe.NewRegistry(observe.Options{})
	spans := r.CollectSpans()
	tell(r.Shard(0))
	var taken [1]observe.Span
	if spans.Take(taken[:]) != 1 {
		t.Fatal("no span")
	}
	m := newMaker(resource.Empty(), "1")
	return m.appendSpans(nil, &taken[0])
}

// wantAttributes: "" says that there must be none of the name.
func wantAttributes(t *testing.T, s sdktrace.ReadOnlySpan, want map[string]string) {
	t.Helper()
	got := map[string]string{}
	for _, a := range s.Attributes() {
		if _, twice := got[string(a.Key)]; twice {
			t.Errorf("%s: %s is there twice", s.Name(), a.Key)
		}
		got[string(a.Key)] = a.Value.String()
	}
	for key, value := range want {
		if have, ok := got[key]; have != value || ok != (value != "") {
			t.Errorf("%s: %s is %q, want %q", s.Name(), key, have, value)
		}
	}
}

func attempted(status int, reason string) *observe.Record {
	rec := record()
	rec.Status, rec.Reason, rec.Attempts = status, reason, 1
	rec.EffectivePath, rec.EffectiveQuery = []byte("/b"), []byte("q=secret&flag")
	rec.Spans.PathRule, rec.Spans.PathBelow, rec.Spans.Scheme = "/a", true, "https"
	a := rec.Spans.Begin()
	a.ID, a.BeganAt, a.StreamAt, a.EndAt, a.Address, a.Status, a.Reason = [8]byte{7}, 1, 2, 9, "10.0.0.1:8080", status, reason
	return rec
}

func TestSpansFollowTheConventionsForHTTP(t *testing.T) {
	rec := attempted(404, "")
	rec.Spans.Attempts()[0].Version = "2"
	request, attempts := made(t, rec)
	if request.Name() != "GET /a/*" || request.SpanKind() != trace.SpanKindServer || request.Status().Code != codes.Unset {
		t.Errorf("%s, kind %s, status %v", request.Name(), request.SpanKind(), request.Status())
	}
	wantAttributes(t, request, map[string]string{
		"http.route": "/a/*", "url.scheme": "https", "url.path": "/a\uFFFD", "url.query": "q=REDACTED", "error.type": "", "rpc.system": "",
		"http.request.method": "GET", "http.response.status_code": "404",
	})
	a := attempts[0]
	if a.Name() != "GET" || a.SpanKind() != trace.SpanKindClient || a.Parent().SpanID() != request.SpanContext().SpanID() || a.Parent().IsRemote() ||
		a.SpanContext().SpanID() != (trace.SpanID{7}) || a.EndTime().Sub(a.StartTime()) != 8 || a.Status().Code != codes.Error {
		t.Errorf("%+v", a)
	}
	wantAttributes(t, a, map[string]string{
		"url.full": "http://10.0.0.1:8080/b?q=REDACTED&REDACTED", "server.address": "10.0.0.1", "server.port": "8080", "error.type": "404",
		"network.protocol.version": "2", "http.request.resend_count": "", "http.response.status_code": "404",
	})
	if !request.Parent().IsRemote() || len(a.Events()) != 1 || a.Events()[0].Name != "backend connected" || a.Events()[0].Attributes[0].Value.AsString() != "backend_connect" {
		t.Errorf("parent %v, events %v", request.Parent(), a.Events())
	}
}

func TestAMirrorIsToldWithoutItsRequest(t *testing.T) {
	rec := attempted(200, "")
	rec.Spans.Mirror = true
	all := madeBy(t, func(s *observe.Shard) { s.MirrorSpan(rec) })
	if len(all) != 1 || all[0].SpanKind() != trace.SpanKindClient || all[0].Parent().SpanID() != (trace.SpanID{2}) {
		t.Fatalf("%+v", all)
	}
	wantAttributes(t, all[0], map[string]string{"rauta.mirror": "true", "url.full": "http://10.0.0.1:8080/b?q=REDACTED&REDACTED", "http.response.status_code": "200"})
	_, attempts := made(t, attempted(200, ""))
	wantAttributes(t, attempts[0], map[string]string{"rauta.mirror": ""})
}

func TestSpansFollowTheConventionsForCalls(t *testing.T) {
	rec := attempted(200, "")
	rec.Spans.GRPC, rec.GRPCStatus, rec.ReceivedTarget, rec.ReceivedMethod = true, observe.GRPCCode(5), []byte("/p.Echo/Ping"), []byte("POST")
	rec.Spans.Attempts()[0].GRPCStatus = observe.GRPCCode(5)
	again := rec.Spans.Begin()
	again.EndAt, again.Address, again.Secure, again.Reason = 9, "[2001:db8::1]:443", true, "connect_failed"
	request, attempts := made(t, rec)
	wantAttributes(t, request, map[string]string{
		"rpc.system": "grpc", "rpc.system.name": "grpc", "rpc.method": "p.Echo/Ping", "rpc.grpc.status_code": "5",
		"rpc.response.status_code": "NOT_FOUND", "error.type": "",
	})
	wantAttributes(t, attempts[0], map[string]string{"rpc.grpc.status_code": "5", "error.type": "NOT_FOUND", "rpc.method": "p.Echo/Ping"})
	wantAttributes(t, attempts[1], map[string]string{
		"rpc.grpc.status_code": "", "error.type": "connect_failed", "http.request.resend_count": "1", "http.response.status_code": "",
		"server.address": "2001:db8::1", "url.full": "https://[2001:db8::1]:443/b?q=REDACTED&REDACTED",
	})
	if request.Status().Code != codes.Unset || attempts[0].Status().Code != codes.Error {
		t.Errorf("%v, %v", request.Status(), attempts[0].Status())
	}
}

// TestNamesAreThoseOfTheConventions compares what is written here by hand.
func TestNamesAreThoseOfTheConventions(t *testing.T) {
	if schemaURL != semconv.SchemaURL {
		t.Errorf("the schema is %s", semconv.SchemaURL)
	}
	known := []attribute.Key{
		semconv.HTTPRequestMethodKey, semconv.HTTPRequestMethodOriginalKey, semconv.HTTPRequestResendCountKey, semconv.HTTPRequestBodySizeKey,
		semconv.HTTPResponseBodySizeKey, semconv.HTTPResponseStatusCodeKey, semconv.HTTPRouteKey, semconv.URLFullKey, semconv.URLPathKey,
		semconv.URLQueryKey, semconv.URLSchemeKey, semconv.ServerAddressKey, semconv.ServerPortKey, semconv.ClientAddressKey,
		semconv.NetworkPeerAddressKey, semconv.NetworkPeerPortKey, semconv.NetworkProtocolNameKey, semconv.NetworkProtocolVersionKey,
		semconv.UserAgentOriginalKey, semconv.ErrorTypeKey, semconv.RPCMethodKey, semconv.RPCResponseStatusCodeKey, semconv.RPCSystemNameKey,
		"rpc.system", "rpc.grpc.status_code", // until 1.38
	}
	rec := attempted(503, "connect_failed")
	rec.Spans.GRPC, rec.GRPCStatus, rec.ReceivedMethod, rec.UserAgent = true, observe.GRPCCode(14), []byte("BREW"), []byte("curl")
	rec.Client, rec.Spans.Peer = netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("192.0.2.2")
	rec.Spans.Attempts()[0].Version, rec.Spans.Attempts()[0].Resend = "1.1", 1
	request, attempts := made(t, rec)
	seen := map[attribute.Key]bool{}
	for _, a := range append(request.Attributes(), attempts[0].Attributes()...) {
		if seen[a.Key] = true; !strings.HasPrefix(string(a.Key), "rauta.") && !slices.Contains(known, a.Key) {
			t.Errorf("there is no attribute %s", a.Key)
		}
	}
	for _, key := range known {
		if !seen[key] {
			t.Errorf("no span has %s", key)
		}
	}
}

func listen(t *testing.T) net.Listener {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	return l
}

func TestSpansReachACollector(t *testing.T) {
	for name, endpoint := range map[string]func(*collector.Collector) string{
		"gRPC":         func(c *collector.Collector) string { return c.GRPC },
		"HTTP":         func(c *collector.Collector) string { return c.HTTP },
		"gRPC and TLS": func(c *collector.Collector) string { return c.GRPCS },
		"HTTP and TLS": func(c *collector.Collector) string { return c.HTTPS },
	} {
		t.Run(name, func(t *testing.T) {
			c := collector.Start(t)
			if strings.Contains(name, "TLS") {
				t.Setenv("OTEL_EXPORTER_OTLP_CERTIFICATE", c.CA)
			}
			t.Setenv("OTEL_EXPORTER_OTLP_HEADERS", "x-key=for%20all")
			t.Setenv("OTEL_EXPORTER_OTLP_INSECURE", "true") // the endpoint says it
			e, shard, _ := started(t, endpoint(c))
			shard.Finish(record())
			e.Close() // which sends what is left
			wantRecord(t, c)
			if e.Exported() != 1 || e.Failed() != 0 || e.Rejected() != 0 {
				t.Errorf("%d exported, %d failed, %d rejected", e.Exported(), e.Failed(), e.Rejected())
			}
			if got := c.Headers()[0].Get("X-Key"); got != "for all" {
				t.Errorf("X-Key is %q", got)
			}
		})
	}
}

func TestACollectorThatIsNotTrustedGetsNothing(t *testing.T) {
	c := collector.Start(t)
	t.Setenv("OTEL_EXPORTER_OTLP_TIMEOUT", "500")
	for _, endpoint := range []string{c.GRPCS, c.HTTPS} {
		e, shard, _ := started(t, endpoint)
		shard.Finish(record())
		e.Close()
		if e.Exported() != 0 || e.Failed() != 1 || len(c.Spans("")) != 0 {
			t.Errorf("%s: %d exported, %d failed", endpoint, e.Exported(), e.Failed())
		}
	}
}

func TestWhatACollectorRefusesOfABatchIsCounted(t *testing.T) {
	c := collector.Start(t)
	for _, endpoint := range []string{c.GRPC, c.HTTP} {
		for _, refused := range []int64{0, 2, 3, 100} { // the collector's number is not to be believed beyond the batch
			c.Answer(func(context.Context, int) *service.ExportTracePartialSuccess {
				return &service.ExportTracePartialSuccess{RejectedSpans: refused, ErrorMessage: "too (100 spans rejected) many"}
			})
			e, shard, _ := started(t, endpoint)
			for range 3 {
				shard.Finish(record())
			}
			e.Close()
			want := uint64(min(refused, 3))
			if e.Rejected() != want || e.Exported() != 3-want || e.Failed() != 0 {
				t.Errorf("%s, %d refused: %d rejected, %d exported, %d failed", endpoint, refused, e.Rejected(), e.Exported(), e.Failed())
			}
		}
	}
}

// TestBadCollectorsCostSpansOnly: nobody listens, or nobody answers, or every answer is an error.
func TestBadCollectorsCostSpansOnly(t *testing.T) {
	closed := listen(t)
	closed.Close()
	silent := listen(t) // connections are taken by the kernel, and nothing is ever read
	refusing := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusForbidden) }))
	defer refusing.Close()
	for _, endpoint := range []string{
		"grpc://" + closed.Addr().String(), "http://" + closed.Addr().String(), "grpc://" + silent.Addr().String(),
		"http://" + silent.Addr().String(), refusing.URL,
	} {
		const all = 20_000
		e, shard, spans := started(t, endpoint)
		rec := record()
		shard.Finish(rec)
		before := runtime.NumGoroutine()
		for range all - 1 {
			shard.Finish(rec)
		}
		if grown := runtime.NumGoroutine() - before; grown > 20 {
			t.Errorf("%s: %d more goroutines", endpoint, grown)
		}
		done := make(chan struct{})
		go func() { e.Close(); close(done) }()
		select {
		case <-done:
		case <-time.After(time.Minute): // far more than closeWaitMax, whatever else the machine does
			t.Fatalf("%s: Close does not return", endpoint)
		}
		waiting := uint64(spans.Take(make([]observe.Span, 2048)))
		if lost := e.Failed() + spans.Dropped() + waiting; e.Exported() != 0 || lost != all || e.Failed() == 0 {
			t.Errorf("%s: %d exported, %d failed, %d dropped, %d left; together not %d", endpoint, e.Exported(), e.Failed(), spans.Dropped(), waiting, all)
		}
	}
}

// TestACollectorThatRefusesAtOnceIsLeftAlone: the spans of a batch cost more than its requests.
func TestACollectorThatRefusesAtOnceIsLeftAlone(t *testing.T) {
	var asked atomic.Int64
	var mended atomic.Bool
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		asked.Add(1)
		if !mended.Load() {
			w.WriteHeader(http.StatusUnauthorized)
		}
	}))
	t.Cleanup(s.Close)
	e, shard, spans := started(t, s.URL)
	const batches = 4
	for range batches * batchMax { // what the ring holds
		shard.Finish(record())
	}
	deadline := time.Now().Add(20 * time.Second)
	until := func(what string, done func() bool) {
		t.Helper()
		for ; !done(); time.Sleep(time.Millisecond) {
			if time.Now().After(deadline) {
				t.Fatal(what)
			}
		}
	}
	until("nobody has asked", func() bool { return e.Failed() > 0 })
	time.Sleep(backOffMin / 4) // in which it would ask for all of them
	if n := asked.Load(); n >= batches {
		t.Errorf("it was asked %d times at once", n)
	}
	mended.Store(true)
	until("it is not asked again", func() bool { return e.Exported() > 0 })
	for range batchMax { // it is as before
		shard.Finish(record())
	}
	until("the rest has not come", func() bool { return e.Exported()+e.Failed()+spans.Dropped() == (batches+1)*batchMax })
}

func TestEndpointsAreURLs(t *testing.T) {
	for in, want := range map[string]string{
		"grpc://c": "grpc://c:4317", "grpcs://c:1": "grpcs://c:1", "http://c:4318": "http://c:4318/v1/traces", "https://c/x": "https://c/x",
	} {
		if u, err := ParseEndpoint(in); err != nil || u.String() != want {
			t.Errorf("%s is %v, %v, want %s", in, u, err, want)
		}
	}
	for _, in := range []string{"", "c:4317", "ftp://c", "http://", "grpc://c/x", "http://u:p@c", "http://c?x=1", "http://%"} {
		if u, err := ParseEndpoint(in); err == nil {
			t.Errorf("%q is taken, as %s", in, u)
		}
	}
}
