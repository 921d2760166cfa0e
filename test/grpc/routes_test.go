package grpc

import (
	"crypto/tls"
	"io"
	"net/http"
	"slices"
	"strings"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	testgrpc "google.golang.org/grpc/interop/grpc_testing"
	reflectionpb "google.golang.org/grpc/reflection/grpc_reflection_v1"
	"google.golang.org/grpc/status"

	"rauta.io/rauta/internal/testrig"
)

// TestServicesCanBeListed as grpcurl does it, by reflection.
func TestServicesCanBeListed(t *testing.T) {
	r := start(t, startServer(t), everything)
	conn, ctx := r.client()
	stream, err := reflectionpb.NewServerReflectionClient(conn).ServerReflectionInfo(ctx)
	if err != nil {
		t.Fatal(err)
	}
	err = stream.Send(&reflectionpb.ServerReflectionRequest{MessageRequest: &reflectionpb.ServerReflectionRequest_ListServices{}})
	if err != nil {
		t.Fatal(err)
	}
	reply, err := stream.Recv()
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, s := range reply.GetListServicesResponse().GetService() {
		names = append(names, s.Name)
	}
	if !slices.Contains(names, "grpc.testing.TestService") {
		t.Errorf("%q", names)
	}
}

const byPattern = `  - matches: [{method: {type: RegularExpression, service: 'grpc\.testing\..*', method: "(Empty|Unary).*"}}]
    backendRefs: [{name: app, port: 80}]
`

func TestARegularExpressionChoosesMethods(t *testing.T) {
	r := start(t, startServer(t), byPattern)
	conn, ctx := r.client()
	client := testgrpc.NewTestServiceClient(conn)
	if _, err := client.EmptyCall(ctx, new(testgrpc.Empty)); err != nil {
		t.Error(err)
	}
	if _, err := client.UnaryCall(ctx, &testgrpc.SimpleRequest{ResponseSize: 10}); err != nil {
		t.Error(err)
	}
	stream, err := client.FullDuplexCall(ctx)
	if err == nil {
		_, err = stream.Recv()
	}
	if status.Code(err) != codes.Unimplemented || !strings.Contains(err.Error(), "Not Found") {
		t.Errorf("%v, want UNIMPLEMENTED from RAUTA", err)
	}
	wantMetric(t, r, `rauta_grpc_requests_total{route="none",code="UNIMPLEMENTED"} 1`)
	wantMetric(t, r, `rauta_grpc_requests_total{route="grpcroute/default/all",code="OK"} 2`)
}

// TestAnErrorBeforeTheEndOfTheRequestArrives: of a large request most is under way when the answer comes.
func TestAnErrorBeforeTheEndOfTheRequestArrives(t *testing.T) {
	r := start(t, startServer(t), "  - matches: [{method: {service: grpc.testing.TestService}}]\n    backendRefs: [{name: app, port: 80}]\n")
	conn, ctx := r.client()
	request := &testgrpc.Payload{Body: make([]byte, 3<<20)}
	for _, method := range []string{"/grpc.testing.TestService/Nothing", "/test.Elsewhere/Nothing"} { // the server's and RAUTA's
		for range 20 {
			if err := conn.Invoke(ctx, method, request, new(testgrpc.Empty)); status.Code(err) != codes.Unimplemented {
				t.Fatalf("%s: %v, want UNIMPLEMENTED", method, err)
			}
		}
	}
}

func wantMetric(t *testing.T, r *rig, line string) {
	t.Helper()
	resp, err := http.Get("http://" + r.metrics + "/metrics")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil || !slices.Contains(strings.Split(string(text), "\n"), line) {
		t.Errorf("there is no line %s (%v)", line, err)
	}
}

func TestAServerThatIsNotThereIsUnavailable(t *testing.T) {
	r := start(t, int(testrig.FreePort(t)), everything)
	conn, ctx := r.client()
	_, err := testgrpc.NewTestServiceClient(conn).EmptyCall(ctx, new(testgrpc.Empty))
	if status.Code(err) != codes.Unavailable || !strings.Contains(err.Error(), "Service Unavailable") {
		t.Errorf("%v, want UNAVAILABLE from RAUTA", err)
	}
}

func TestCallsPassToABackEndWithTLS(t *testing.T) {
	chain, key := newCertificate(t)
	pair, err := tls.X509KeyPair(chain, key)
	if err != nil {
		t.Fatal(err)
	}
	port := serve(t, grpc.NewServer(grpc.Creds(credentials.NewServerTLSFromCert(&pair))))
	r := service{backends: []int{port}, annotations: "rauta.io/backend-protocol: GRPCS, rauta.io/backend-tls-verify: 'off'"}.start(t, everything)
	conn, ctx := r.client()
	reply, err := testgrpc.NewTestServiceClient(conn).UnaryCall(ctx, &testgrpc.SimpleRequest{ResponseSize: 314159})
	if err != nil || len(reply.GetPayload().GetBody()) != 314159 {
		t.Errorf("%d bytes, %v", len(reply.GetPayload().GetBody()), err)
	}
	stream, err := testgrpc.NewTestServiceClient(conn).FullDuplexCall(ctx)
	if err != nil {
		t.Fatal(err)
	}
	for range 100 {
		pingPong(t, stream, 1000)
	}
}
