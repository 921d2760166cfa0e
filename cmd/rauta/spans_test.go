package main

import (
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/coder/websocket"
	service "go.opentelemetry.io/proto/otlp/collector/trace/v1"
	tracepb "go.opentelemetry.io/proto/otlp/trace/v1"
	"golang.org/x/net/http2"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"rauta.io/rauta/internal/testrig"
	"rauta.io/rauta/internal/testrig/collector"
)

// traced is what clients and back ends of a traced RAUTA do and see.
type traced struct {
	*instance
	collector *collector.Collector
	calls     uint16 // port for gRPC
	lock      sync.Mutex
	seen      map[string][]http.Header // what back ends got, by path
	traces    int
}

// startTraced starts RAUTA with a route for each of the protocols and failures.
func startTraced(t *testing.T, flags ...string) *traced {
	t.Helper()
	x := &traced{collector: collector.Start(t), seen: map[string][]http.Header{}}
	app := httptest.NewServer(http.HandlerFunc(x.serve))
	t.Cleanup(app.Close)
	calls, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	server := grpc.NewServer()
	grpc_health_v1.RegisterHealthServer(server, health{x: x})
	go server.Serve(calls)
	t.Cleanup(server.Stop)
	flags = append([]string{"--trace-propagate", "w3c,b3", "--trace-endpoint", x.collector.GRPC, "--trace-service-name", "edge"}, flags...)
	x.instance = start(t, app.Listener.Addr().String(), flags...)
	x.calls = testrig.FreePort(t)
	_, port, _ := net.SplitHostPort(calls.Addr().String())
	x.write(configuration(x.port, app.Listener.Addr().String(), "traced") + fmt.Sprintf(tracedRoutes, x.calls, port))
	x.until("the routes", func() bool { return x.state() == "traced" })
	return x
}

const tracedRoutes = `---
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: special}
spec:
  parentRefs: [{name: gw}]
  rules:
  - matches: [{path: {value: /slow}}]
    timeouts: {request: 300ms}
    backendRefs: [{name: app, port: 80}]
  - matches: [{path: {value: /mirrored}}]
    filters: [{type: RequestMirror, requestMirror: {backendRef: {name: app, port: 80}}}]
    backendRefs: [{name: app, port: 80}]
  - matches: [{path: {value: /flaky}}]
    retry: {codes: [503], attempts: 2, backoff: 1ms}
    backendRefs: [{name: app, port: 80}]
---
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: sampled, annotations: {rauta.io/trace-sampling: "100"}}
spec:
  parentRefs: [{name: gw}]
  rules:
  - matches: [{path: {type: Exact, value: /sampled}}]
    backendRefs: [{name: app, port: 80}]
---
apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata: {name: calls}
spec:
  gatewayClassName: rauta
  listeners: [{name: calls, port: %d, protocol: HTTP}]
---
apiVersion: gateway.networking.k8s.io/v1
kind: GRPCRoute
metadata: {name: calls}
spec:
  parentRefs: [{name: calls}]
  rules:
  - matches: [{method: {service: grpc.health.v1.Health}}]
    backendRefs: [{name: calls, port: 80}]
---
apiVersion: v1
kind: Service
metadata: {name: calls}
spec: {ports: [{port: 80}]}
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: calls-1, labels: {kubernetes.io/service-name: calls}}
addressType: IPv4
ports: [{port: %s}]
endpoints: [{addresses: [127.0.0.1]}]
`

// note keeps what a back end got.
func (x *traced) note(path string, h http.Header) (times int) {
	x.lock.Lock()
	defer x.lock.Unlock()
	x.seen[path] = append(x.seen[path], h)
	return len(x.seen[path])
}

// got returns what the back end got for a path.
func (x *traced) got(path string) []http.Header {
	x.lock.Lock()
	defer x.lock.Unlock()
	return x.seen[path]
}

func (x *traced) serve(w http.ResponseWriter, r *http.Request) {
	times := x.note(r.URL.Path, r.Header.Clone())
	switch {
	case r.URL.Path == "/broken":
		panic(http.ErrAbortHandler)
	case r.URL.Path == "/slow":
		<-r.Context().Done()
	case strings.HasPrefix(r.URL.Path, "/flaky") && times == 1:
		w.WriteHeader(http.StatusServiceUnavailable)
	case r.URL.Path == "/socket":
		c, err := websocket.Accept(w, r, nil)
		if err != nil {
			return
		}
		defer c.CloseNow()
		for {
			kind, text, err := c.Read(r.Context())
			if err != nil || c.Write(r.Context(), kind, text) != nil {
				return
			}
		}
	}
}

// health is a back end that speaks gRPC.
type health struct {
	grpc_health_v1.UnimplementedHealthServer
	x *traced
}

func (h health) Check(ctx context.Context, req *grpc_health_v1.HealthCheckRequest) (*grpc_health_v1.HealthCheckResponse, error) {
	header := http.Header{}
	md, _ := metadata.FromIncomingContext(ctx)
	for name, values := range md {
		header[http.CanonicalHeaderKey(name)] = values
	}
	h.x.note("/grpc.health.v1.Health/Check", header)
	if req.Service != "" {
		return nil, status.Error(codes.NotFound, "no such service")
	}
	return &grpc_health_v1.HealthCheckResponse{}, nil
}

const clientSpan = "b7ad6b7169203331"

// trace returns the id of a trace that no other request has.
func (x *traced) trace() string {
	x.traces++
	return fmt.Sprintf("%032x", 0xabc000+x.traces)
}

// contextOf are the fields of a client that is part of a trace.
func contextOf(trace, flags string) http.Header {
	return http.Header{"Traceparent": {"00-" + trace + "-" + clientSpan + "-" + flags}, "Tracestate": {"vendor=opaque,other=1"}}
}

// do makes a request and returns its status.
func (x *traced) do(client *http.Client, path string, h http.Header) int {
	x.t.Helper()
	req, err := http.NewRequest(http.MethodGet, x.url(path), nil)
	if err != nil {
		x.t.Fatal(err)
	}
	for name, values := range h {
		req.Header[name] = values
	}
	resp, err := client.Do(req)
	if err != nil {
		x.t.Fatal(err)
	}
	defer resp.Body.Close()
	io.Copy(io.Discard, resp.Body)
	return resp.StatusCode
}

// wantChain checks that the spans are the request's, a child of the client's, and its attempts below, whose ids the back end got
// in both formats; it returns them.
func (x *traced) wantChain(trace, path string, attempts int) []collector.Span {
	x.t.Helper()
	spans := x.collector.Wait(trace, 1+attempts)
	if len(spans) != 1+attempts {
		x.t.Fatalf("%d spans, want %d: %+v", len(spans), 1+attempts, spans)
	}
	request := spans[0]
	if request.Kind != tracepb.Span_SPAN_KIND_SERVER || request.Parent != clientSpan {
		x.t.Errorf("the request is of kind %s below %q", request.Kind, request.Parent)
	}
	got := x.got(path)
	if len(got) != attempts {
		x.t.Fatalf("the back end got %d requests, want %d", len(got), attempts)
	}
	for i, a := range spans[1:] {
		if a.Kind != tracepb.Span_SPAN_KIND_CLIENT || a.Parent != request.ID {
			x.t.Errorf("attempt %d is of kind %s below %s, want %s", i, a.Kind, a.Parent, request.ID)
		}
		if a.Start < request.Start || a.End > request.End || a.End < a.Start {
			x.t.Errorf("attempt %d is from %d to %d, the request from %d to %d", i, a.Start, a.End, request.Start, request.End)
		}
		for name, want := range map[string]string{"Traceparent": "00-" + trace + "-" + a.ID + "-01", "B3": trace + "-" + a.ID + "-1"} {
			if have := got[i][name]; len(have) != 1 || have[0] != want {
				x.t.Errorf("attempt %d: the back end got %s %q, want %s", i, name, have, want)
			}
		}
	}
	return spans
}

func want(t *testing.T, s collector.Span, attributes map[string]string) {
	t.Helper()
	for name, value := range attributes {
		if got := s.Attributes[name]; got != value {
			t.Errorf("%s: %s is %q, want %q", s.Name, name, got, value)
		}
	}
}

// overHTTP2 is a client that speaks nothing else.
func overHTTP2(t *testing.T) *http.Client {
	protocols := &http.Protocols{}
	protocols.SetUnencryptedHTTP2(true)
	client := &http.Client{Transport: &http.Transport{Protocols: protocols}}
	t.Cleanup(client.CloseIdleConnections)
	return client
}

func TestATraceGoesThroughEveryProtocol(t *testing.T) {
	x := startTraced(t)
	h2 := overHTTP2(t)
	for name, c := range map[string]struct {
		client  *http.Client
		path    string
		header  func(trace string) http.Header
		version string
	}{
		"HTTP/1.1":         {http.DefaultClient, "/one", func(id string) http.Header { return contextOf(id, "01") }, "1.1"},
		"HTTP/2":           {h2, "/two", func(id string) http.Header { return contextOf(id, "01") }, "2"},
		"HTTP/1.1 with B3": {http.DefaultClient, "/three", func(id string) http.Header { return http.Header{"B3": {id + "-" + clientSpan + "-1"}} }, "1.1"},
		"HTTP/2 with B3":   {h2, "/four", func(id string) http.Header { return http.Header{"B3": {id + "-" + clientSpan + "-1"}} }, "2"},
	} {
		trace := x.trace()
		if got := x.do(c.client, c.path+"?key=secret", c.header(trace)); got != 200 {
			t.Fatalf("%s: status %d", name, got)
		}
		spans := x.wantChain(trace, c.path, 1)
		want(t, spans[0], map[string]string{
			"http.request.method": "GET", "url.scheme": "http", "url.path": c.path, "url.query": "key=REDACTED", "http.route": "/*",
			"http.response.status_code": "200", "network.protocol.version": c.version, "client.address": "127.0.0.1",
			"server.address": "127.0.0.1", "server.port": fmt.Sprint(x.port), "rauta.route": "httproute/default/all",
		})
		want(t, spans[1], map[string]string{"http.response.status_code": "200", "network.protocol.version": "1.1", "server.address": "127.0.0.1"})
		if state := x.got(c.path)[0]["Tracestate"]; c.header(trace).Get("Tracestate") != strings.Join(state, "|") {
			t.Errorf("%s: the back end got the tracestate %q", name, state)
		}
		if spans[0].Failed || spans[1].Failed || spans[0].Name != "GET /*" || spans[0].Resource["service.name"] != "edge" {
			t.Errorf("%s: %+v", name, spans)
		}
	}
}

func TestATraceGoesThroughCalls(t *testing.T) {
	x := startTraced(t)
	conn, err := grpc.NewClient(fmt.Sprint("passthrough:///127.0.0.1:", x.calls), grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	const path = "/grpc.health.v1.Health/Check"
	trace := x.trace()
	ctx := metadata.AppendToOutgoingContext(t.Context(), "traceparent", contextOf(trace, "01").Get("Traceparent"), "tracestate", "a=b")
	if _, err := grpc_health_v1.NewHealthClient(conn).Check(ctx, &grpc_health_v1.HealthCheckRequest{Service: "absent"}, grpc.WaitForReady(true)); status.Code(err) != codes.NotFound {
		t.Fatal(err)
	}
	spans := x.wantChain(trace, path, 1)
	want(t, spans[0], map[string]string{"http.route": "/grpc.health.v1.Health/*", "rauta.route": "grpcroute/default/calls"})
	for _, s := range spans {
		want(t, s, map[string]string{
			"rpc.system": "grpc", "rpc.system.name": "grpc", "rpc.method": path[1:], "rpc.grpc.status_code": "5",
			"rpc.response.status_code": "NOT_FOUND", "http.response.status_code": "200", "network.protocol.version": "2",
		})
	}
	if spans[0].Failed || !spans[1].Failed { // what is not found is the client's fault
		t.Errorf("%+v", spans)
	}
	if state := x.got(path)[0]["Tracestate"]; len(state) != 1 || state[0] != "a=b" {
		t.Errorf("the back end got the tracestate %q", state)
	}
}

func TestATraceGoesThroughAWebSocketAndEndsWithIt(t *testing.T) {
	x := startTraced(t)
	trace := x.trace()
	c, _, err := websocket.Dial(t.Context(), x.url("/socket"), &websocket.DialOptions{HTTPHeader: contextOf(trace, "01")})
	if err != nil {
		t.Fatal(err)
	}
	defer c.CloseNow()
	if err := c.Write(t.Context(), websocket.MessageText, []byte("hello")); err != nil {
		t.Fatal(err)
	}
	if _, text, err := c.Read(t.Context()); err != nil || string(text) != "hello" {
		t.Fatalf("%q, %v", text, err)
	}
	if early := x.collector.Spans(trace); len(early) != 0 {
		t.Errorf("it has ended before it was closed: %+v", early)
	}
	c.Close(websocket.StatusNormalClosure, "")
	spans := x.wantChain(trace, "/socket", 1)
	want(t, spans[0], map[string]string{"http.response.status_code": "101"})
	want(t, spans[1], map[string]string{"http.response.status_code": "101"})
}

// TestATraceGoesThroughATunnelOfHTTP2: a WebSocket that is asked for with extended CONNECT (RFC 8441).
func TestATraceGoesThroughATunnelOfHTTP2(t *testing.T) {
	x := startTraced(t)
	//lint:ignore SA1019 the transport of net/http refuses the field ":protocol"
	client := &http.Client{Transport: &http2.Transport{AllowHTTP: true, DialTLSContext: func(ctx context.Context, network, addr string, _ *tls.Config) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, network, addr)
	}}}
	t.Cleanup(client.CloseIdleConnections)
	trace := x.trace()
	in, out := io.Pipe()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodConnect, x.url("/socket"), in)
	if err != nil {
		t.Fatal(err)
	}
	req.Header = contextOf(trace, "01")
	req.Header[":protocol"] = []string{"websocket"}
	req.Header.Set("Sec-Websocket-Version", "13")
	resp, err := client.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if resp.StatusCode != 200 {
		t.Fatalf("status %d", resp.StatusCode)
	}
	hello := []byte("\x81\x85\x00\x00\x00\x00hello") // a frame of text, masked with zeros
	if _, err := out.Write(hello); err != nil {
		t.Fatal(err)
	}
	back := make([]byte, 7)
	if _, err := io.ReadFull(resp.Body, back); err != nil || string(back) != "\x81\x05hello" {
		t.Fatalf("%q, %v", back, err)
	}
	if early := x.collector.Spans(trace); len(early) != 0 {
		t.Errorf("it has ended before it was closed: %+v", early)
	}
	out.Close()
	spans := x.wantChain(trace, "/socket", 1)
	// As in the access log, and as rules see it: the upgrade that it stands for (docs/tracing.md).
	want(t, spans[0], map[string]string{"http.request.method": "GET", "http.response.status_code": "101", "network.protocol.version": "2"})
	want(t, spans[1], map[string]string{"http.request.method": "GET", "http.response.status_code": "101", "network.protocol.version": "1.1"})
}

// TestAMirrorHasASpanBelowTheRequest: the collector can tell it from the attempts, and the mirror's back end has it as its
// parent.
func TestAMirrorHasASpanBelowTheRequest(t *testing.T) {
	x := startTraced(t)
	trace := x.trace()
	if got := x.do(http.DefaultClient, "/mirrored", contextOf(trace, "01")); got != 200 {
		t.Fatalf("status %d", got)
	}
	spans := x.collector.Wait(trace, 3)
	seen := map[string]bool{}
	for _, h := range x.got("/mirrored") {
		seen[strings.Split(h.Get("Traceparent"), "-")[2]] = true
	}
	mirrors := 0
	for _, s := range spans {
		if s.Kind == tracepb.Span_SPAN_KIND_SERVER {
			continue
		}
		if !seen[s.ID] || len(seen) != 2 {
			t.Errorf("back ends have the parents %v, none has %s", seen, s.ID)
		}
		want(t, s, map[string]string{"http.request.method": "GET", "http.response.status_code": "200", "rauta.cluster": "default/app:80"})
		if s.Attributes["rauta.mirror"] == "true" {
			mirrors++
		}
	}
	if len(spans) != 3 || mirrors != 1 {
		t.Errorf("want a request, an attempt and a mirror: %+v", spans)
	}
}

func TestSpansGoToACollectorByTLSAndNameThePod(t *testing.T) {
	t.Setenv(envPodName, "rauta-x1")
	t.Setenv(envPodNamespace, "edge")
	t.Setenv(envNodeName, "n1")
	c := collector.Start(t)
	t.Setenv("OTEL_EXPORTER_OTLP_CERTIFICATE", c.CA)
	t.Setenv("OTEL_EXPORTER_OTLP_HEADERS", "api-key=abc")
	for _, endpoint := range []string{c.GRPCS, c.HTTPS} {
		before := len(c.Spans(""))
		start(t, echoBackend(t), "--trace-propagate", "w3c", "--trace-sampling", "100", "--trace-endpoint", endpoint) // which makes a request
		spans := c.Wait("", before+2)
		for name, value := range map[string]string{
			"k8s.pod.name": "rauta-x1", "k8s.namespace.name": "edge", "k8s.node.name": "n1", "service.instance.id": "edge.rauta-x1.rauta",
		} {
			if got := spans[0].Resource[name]; got != value {
				t.Errorf("%s: %s is %q, want %q", endpoint, name, got, value)
			}
		}
		if headers := c.Headers(); headers[len(headers)-1].Get("Api-Key") != "abc" {
			t.Errorf("%s: no key among %v", endpoint, headers)
		}
	}
}

func TestOnlyWhatIsSampledHasSpans(t *testing.T) {
	x := startTraced(t)
	not := x.trace()
	x.do(http.DefaultClient, "/not", contextOf(not, "00"))
	if got := x.got("/not")[0]["Traceparent"]; len(got) != 1 || got[0] != contextOf(not, "00").Get("Traceparent") {
		t.Errorf("the back end got %q of what is not sampled", got)
	}
	x.do(http.DefaultClient, "/begun", nil)
	begun := strings.Split(x.got("/begun")[0].Get("Traceparent"), "-")
	if len(begun) != 4 || begun[3] != "00" {
		t.Errorf("a trace that begins here is %q, without a ratio", begun)
	}
	// The route has a ratio of its own, and keeps what the client has decided.
	refused := x.trace()
	x.do(http.DefaultClient, "/sampled", contextOf(refused, "00"))
	x.do(http.DefaultClient, "/sampled", nil)
	root := strings.Split(x.got("/sampled")[1].Get("Traceparent"), "-")
	if len(root) != 4 || root[3] != "01" {
		t.Fatalf("a trace that begins on a route of which all are sampled is %q", root)
	}
	spans := x.collector.Wait(root[1], 2)
	if spans[0].Parent != "" || spans[1].ID != root[2] || spans[0].Attributes["http.route"] != "/sampled" {
		t.Errorf("%+v", spans)
	}
	if got := x.collector.Spans(""); len(got) != 2 {
		t.Errorf("spans of what is not sampled: %+v", got)
	}
}

func TestFailuresAndRetriesShowInTraces(t *testing.T) {
	x := startTraced(t)
	for path, c := range map[string]struct {
		status   int
		reason   string
		attempts int
	}{
		"/slow":   {504, "request_timeout", 1},
		"/broken": {502, "upstream_closed", 2}, // a GET is tried elsewhere once, which is here again
	} {
		trace := x.trace()
		if got := x.do(http.DefaultClient, path, contextOf(trace, "01")); got != c.status {
			t.Fatalf("%s: status %d", path, got)
		}
		spans := x.wantChain(trace, path, c.attempts)
		want(t, spans[0], map[string]string{"http.response.status_code": fmt.Sprint(c.status), "error.type": c.reason})
		for _, s := range spans {
			if !s.Failed {
				t.Errorf("%s: %s of kind %s has not failed", path, s.Name, s.Kind)
			}
			want(t, s, map[string]string{"error.type": c.reason})
		}
		want(t, spans[1], map[string]string{"http.response.status_code": ""})
	}
	trace := x.trace()
	if got := x.do(http.DefaultClient, "/flaky", contextOf(trace, "01")); got != 200 {
		t.Fatalf("status %d", got)
	}
	spans := x.wantChain(trace, "/flaky", 2)
	want(t, spans[0], map[string]string{"http.response.status_code": "200", "error.type": ""})
	want(t, spans[1], map[string]string{"http.response.status_code": "503", "error.type": "503", "http.request.resend_count": ""})
	want(t, spans[2], map[string]string{"http.response.status_code": "200", "error.type": "", "http.request.resend_count": "1"})
}

// TestACollectorThatIsGoneOrSlowCostsSpansOnly: more requests than there is room for, all of them sampled.
func TestACollectorThatIsGoneOrSlowCostsSpansOnly(t *testing.T) {
	slow := collector.Start(t)
	release := make(chan struct{})
	defer close(release)
	slow.Answer(func(ctx context.Context, _ int) *service.ExportTracePartialSuccess {
		select {
		case <-ctx.Done():
		case <-release:
		}
		return nil
	})
	for name, endpoint := range map[string]string{"gone": "grpc://" + testrig.DeadAddress(t), "slow": slow.GRPC, "slow with HTTP": slow.HTTP} {
		t.Run(name, func(t *testing.T) {
			x := start(t, echoBackend(t), "--trace-propagate", "w3c", "--trace-sampling", "100", "--trace-endpoint", endpoint)
			const clients, each = 8, 750 // of which two workers have room for 2,048, and a batch takes 256
			var wait sync.WaitGroup
			for range clients {
				wait.Go(func() {
					client := &http.Client{Transport: &http.Transport{}, Timeout: waitMax}
					defer client.CloseIdleConnections()
					for range each {
						resp, err := client.Get(x.url("/"))
						if err != nil {
							t.Error(err)
							return
						}
						io.Copy(io.Discard, resp.Body)
						resp.Body.Close()
						if resp.StatusCode != 200 {
							t.Errorf("status %d", resp.StatusCode)
						}
					}
				})
			}
			wait.Wait()
			dropped := func(reason string) float64 {
				return x.metric("rauta_trace_dropped_total", fmt.Sprintf("reason=%q", reason))
			}
			const spans, room = 2 * clients * each, 2 * (2*1024 + 256)
			x.until("spans that find no room", func() bool { return dropped("buffer_full") > 0 })
			x.until("spans that are given up", func() bool { return dropped("export_failed") > 0 })
			if lost := dropped("buffer_full") + dropped("export_failed"); lost < spans-room {
				t.Errorf("%g spans are lost of %d, and there is room for %d", lost, spans, room)
			}
			if n := x.metric("rauta_trace_exported_total"); n != 0 {
				t.Errorf("%g exported", n)
			}
			begun := time.Now()
			x.signal(syscall.SIGTERM)
			if code := x.exitCode(); code != 0 {
				t.Errorf("exit code %d", code)
			}
			t.Logf("the end took %s", time.Since(begun))
		})
	}
}
