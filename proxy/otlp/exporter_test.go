package otlp

import (
	"context"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"runtime"
	"strings"
	"testing"
	"time"

	collector "go.opentelemetry.io/proto/otlp/collector/trace/v1"
	tracepb "go.opentelemetry.io/proto/otlp/trace/v1"
	"google.golang.org/grpc"
	"google.golang.org/protobuf/proto"

	"rauta.io/rauta/proxy/observe"
)

// receiver is a collector that keeps what it gets.
type receiver struct {
	collector.UnimplementedTraceServiceServer
	got chan *collector.ExportTraceServiceRequest
}

func (r *receiver) Export(_ context.Context, req *collector.ExportTraceServiceRequest) (*collector.ExportTraceServiceResponse, error) {
	r.got <- req
	return &collector.ExportTraceServiceResponse{}, nil
}

func (r *receiver) ServeHTTP(w http.ResponseWriter, req *http.Request) {
	body, _ := io.ReadAll(req.Body)
	m := &collector.ExportTraceServiceRequest{}
	if err := proto.Unmarshal(body, m); err != nil || req.URL.Path != "/v1/traces" || req.Header.Get("X-Key") != "secret" {
		w.WriteHeader(http.StatusBadRequest)
		return
	}
	r.got <- m
	w.Header().Set("Content-Type", "application/x-protobuf")
}

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
		TraceID: [16]byte{1}, SpanID: [8]byte{2}, ParentSpanID: [8]byte{3}, ReceivedAt: 1_700_000_000_000_000_000,
		StreamAt: 10, SentAt: 20, FirstByteAt: 30, EndAt: 40, Status: 503, Reason: "connect_failed", Protocol: "HTTP/1.1", Attempts: 1,
		ReceivedMethod: []byte("GET"), ReceivedTarget: []byte("/a\xff?q=secret"), ReceivedHost: []byte("[2001:db8::1]:8443"),
	}
}

func attributesOf(s *tracepb.Span) map[string]string {
	m := map[string]string{}
	for _, a := range s.Attributes {
		m[a.Key] = a.Value.String()
	}
	return m
}

func check(t *testing.T, req *collector.ExportTraceServiceRequest) {
	t.Helper()
	if got := req.ResourceSpans[0].Resource.String(); !strings.Contains(got, "service.name") || !strings.Contains(got, `"edge"`) {
		t.Errorf("resource %s", got)
	}
	s := req.ResourceSpans[0].ScopeSpans[0].Spans[0]
	if s.TraceId[0] != 1 || s.SpanId[0] != 2 || s.ParentSpanId[0] != 3 || s.Kind != tracepb.Span_SPAN_KIND_SERVER || s.Name != "GET" ||
		s.EndTimeUnixNano-s.StartTimeUnixNano != 40 || s.Status.Code != tracepb.Status_STATUS_CODE_ERROR {
		t.Errorf("span %v", s)
	}
	if len(s.Events) != 3 || s.Events[2].TimeUnixNano-s.StartTimeUnixNano != 30 {
		t.Errorf("events %v", s.Events)
	}
	got := attributesOf(s)
	for key, want := range map[string]string{
		"http.request.method": `"GET"`, "url.path": `"/a�"`, "server.address": `"2001:db8::1"`, "server.port": "8443",
		"http.response.status_code": "503", "error.type": `"connect_failed"`, "network.protocol.version": `"1.1"`,
	} {
		if !strings.Contains(got[key], want) {
			t.Errorf("%s is %s, want %s", key, got[key], want)
		}
	}
	if strings.Contains(s.String(), "secret") {
		t.Errorf("the query is exported: %s", s)
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

func TestSpansReachACollectorByGRPC(t *testing.T) {
	l, r := listen(t), &receiver{got: make(chan *collector.ExportTraceServiceRequest, 4)}
	s := grpc.NewServer()
	collector.RegisterTraceServiceServer(s, r)
	go s.Serve(l)
	defer s.Stop()
	e, shard, _ := started(t, "grpc://"+l.Addr().String())
	shard.Finish(record())
	check(t, <-r.got)
	e.Close()
	if e.Exported() != 1 || e.Failed() != 0 {
		t.Errorf("%d exported, %d failed", e.Exported(), e.Failed())
	}
}

func TestSpansReachACollectorByHTTP(t *testing.T) {
	t.Setenv("OTEL_EXPORTER_OTLP_HEADERS", "x-key=secret")
	r := &receiver{got: make(chan *collector.ExportTraceServiceRequest, 4)}
	s := httptest.NewServer(r)
	defer s.Close()
	e, shard, _ := started(t, s.URL)
	shard.Finish(record())
	e.Close() // which sends what is left
	check(t, <-r.got)
	if e.Exported() != 1 || e.Failed() != 0 {
		t.Errorf("%d exported, %d failed", e.Exported(), e.Failed())
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
