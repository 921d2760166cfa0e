// Package collector is an OpenTelemetry collector for tests: it takes spans by gRPC and HTTP, with and without TLS, keeps
// them, and answers what the test wants. Only tests import it.
package collector

import (
	"context"
	"encoding/hex"
	"encoding/pem"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	service "go.opentelemetry.io/proto/otlp/collector/trace/v1"
	commonpb "go.opentelemetry.io/proto/otlp/common/v1"
	tracepb "go.opentelemetry.io/proto/otlp/trace/v1"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/metadata"
	"google.golang.org/protobuf/proto"
)

// waitMax bounds every wait; nothing depends on how long it takes below that.
const waitMax = 30 * time.Second

// Span is one span that has arrived. Values of attributes are as text.
type Span struct {
	TraceID, ID, Parent string // hexadecimal; Parent is "" for a root
	Name                string
	Kind                tracepb.Span_SpanKind
	Start, End          uint64
	Failed              bool
	Attributes          map[string]string
	Events              []string
	Resource            map[string]string
	Schema              string // of the scope
}

// Collector listens until the test ends.
type Collector struct {
	// GRPC, GRPCS, HTTP and HTTPS are the addresses as --trace-endpoint takes them. CA is a file with the certificate of those
	// with TLS.
	GRPC, GRPCS, HTTP, HTTPS string
	CA                       string

	t    testing.TB
	tls  *httptest.Server
	lock sync.Mutex
	// answer is what is said about a batch of spans.
	answer  func(ctx context.Context, spans int) *service.ExportTracePartialSuccess
	spans   []Span
	headers []http.Header
}

// Start returns a collector that takes everything.
func Start(t testing.TB) *Collector {
	t.Helper()
	c := &Collector{t: t}
	plain := httptest.NewServer(c)
	c.tls = httptest.NewTLSServer(c)
	t.Cleanup(plain.Close)
	t.Cleanup(c.tls.Close)
	c.HTTP, c.HTTPS = plain.URL, c.tls.URL
	c.GRPC = "grpc://" + c.listen()
	c.GRPCS = "grpcs://" + c.listen(grpc.Creds(credentials.NewServerTLSFromCert(&c.tls.TLS.Certificates[0])))
	c.CA = filepath.Join(t.TempDir(), "ca.pem")
	block := &pem.Block{Type: "CERTIFICATE", Bytes: c.tls.Certificate().Raw}
	if err := os.WriteFile(c.CA, pem.EncodeToMemory(block), 0o644); err != nil {
		t.Fatal(err)
	}
	return c
}

func (c *Collector) listen(options ...grpc.ServerOption) string {
	c.t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		c.t.Fatal(err)
	}
	s := grpc.NewServer(options...)
	service.RegisterTraceServiceServer(s, calls{collector: c})
	go s.Serve(l)
	c.t.Cleanup(s.Stop)
	return l.Addr().String()
}

// Answer makes f say what becomes of each batch from now on; nil of it, or from it, is that everything is taken.
func (c *Collector) Answer(f func(ctx context.Context, spans int) *service.ExportTracePartialSuccess) {
	c.lock.Lock()
	defer c.lock.Unlock()
	c.answer = f
}

// calls is the collector's side of OTLP over gRPC.
type calls struct {
	service.UnimplementedTraceServiceServer
	collector *Collector
}

// Export implements the service.
func (s calls) Export(ctx context.Context, req *service.ExportTraceServiceRequest) (*service.ExportTraceServiceResponse, error) {
	header := http.Header{}
	if md, ok := metadata.FromIncomingContext(ctx); ok {
		for name, values := range md {
			for _, value := range values {
				header.Add(name, value)
			}
		}
	}
	return s.collector.take(ctx, header, req), nil
}

// ServeHTTP is OTLP over HTTP.
func (c *Collector) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	req := &service.ExportTraceServiceRequest{}
	if err != nil || r.URL.Path != "/v1/traces" || proto.Unmarshal(body, req) != nil {
		w.WriteHeader(http.StatusBadRequest)
		return
	}
	text, err := proto.Marshal(c.take(r.Context(), r.Header, req))
	if err != nil {
		c.t.Error(err)
	}
	w.Header().Set("Content-Type", "application/x-protobuf")
	w.Write(text)
}

func (c *Collector) take(ctx context.Context, header http.Header, req *service.ExportTraceServiceRequest) *service.ExportTraceServiceResponse {
	var spans []Span
	for _, r := range req.ResourceSpans {
		for _, scope := range r.ScopeSpans {
			for _, s := range scope.Spans {
				spans = append(spans, spanOf(s, attributesOf(r.Resource.GetAttributes()), scope.SchemaUrl))
			}
		}
	}
	c.lock.Lock()
	answer := c.answer
	c.lock.Unlock()
	resp := &service.ExportTraceServiceResponse{}
	if answer != nil {
		resp.PartialSuccess = answer(ctx, len(spans))
	}
	c.lock.Lock()
	defer c.lock.Unlock()
	c.spans, c.headers = append(c.spans, spans...), append(c.headers, header)
	return resp
}

func spanOf(s *tracepb.Span, resource map[string]string, schema string) Span {
	out := Span{
		TraceID: hex.EncodeToString(s.TraceId), ID: hex.EncodeToString(s.SpanId), Parent: hex.EncodeToString(s.ParentSpanId),
		Name: s.Name, Kind: s.Kind, Start: s.StartTimeUnixNano, End: s.EndTimeUnixNano,
		Failed: s.Status.GetCode() == tracepb.Status_STATUS_CODE_ERROR, Attributes: attributesOf(s.Attributes), Resource: resource, Schema: schema,
	}
	for _, e := range s.Events {
		out.Events = append(out.Events, e.Name)
	}
	return out
}

func attributesOf(list []*commonpb.KeyValue) map[string]string {
	out := map[string]string{}
	for _, a := range list {
		switch v := a.Value.GetValue().(type) {
		case *commonpb.AnyValue_StringValue:
			out[a.Key] = v.StringValue
		case *commonpb.AnyValue_IntValue:
			out[a.Key] = strconv.FormatInt(v.IntValue, 10)
		case *commonpb.AnyValue_BoolValue:
			out[a.Key] = strconv.FormatBool(v.BoolValue)
		case *commonpb.AnyValue_DoubleValue:
			out[a.Key] = strconv.FormatFloat(v.DoubleValue, 'g', -1, 64)
		default:
			out[a.Key] = a.Value.String()
		}
	}
	return out
}

// Spans returns what has arrived of a trace, in the order in which it began; of all traces for "".
func (c *Collector) Spans(trace string) []Span {
	c.lock.Lock()
	defer c.lock.Unlock()
	var out []Span
	for _, s := range c.spans {
		if trace == "" || s.TraceID == trace {
			out = append(out, s)
		}
	}
	slices.SortStableFunc(out, func(a, b Span) int {
		if a.Kind != b.Kind { // the request before its attempts, which may begin at the same time
			return int(a.Kind) - int(b.Kind)
		}
		return strings.Compare(strconv.FormatUint(a.Start, 10), strconv.FormatUint(b.Start, 10))
	})
	return out
}

// Headers returns the header fields of the batches that have arrived, or the metadata.
func (c *Collector) Headers() []http.Header {
	c.lock.Lock()
	defer c.lock.Unlock()
	return slices.Clone(c.headers)
}

// Wait returns the spans of a trace, or of all for "", once there are so many.
func (c *Collector) Wait(trace string, many int) []Span {
	c.t.Helper()
	for deadline := time.Now().Add(waitMax); ; time.Sleep(10 * time.Millisecond) {
		spans := c.Spans(trace)
		if len(spans) >= many {
			return spans
		}
		if time.Now().After(deadline) {
			c.t.Fatalf("%d spans of trace %q have arrived, want %d: %+v", len(spans), trace, many, spans)
		}
	}
}
