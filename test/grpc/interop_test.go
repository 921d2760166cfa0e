package grpc

import (
	"context"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"slices"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/interop"
	testgrpc "google.golang.org/grpc/interop/grpc_testing"
)

// cases are those of the interoperability client that need no credentials of a cloud (gRPC, "Interoperability Test Case
// Descriptions").
func cases() map[string]func(context.Context, *grpc.ClientConn) {
	plain := func(f func(context.Context, testgrpc.TestServiceClient, ...grpc.CallOption)) func(context.Context, *grpc.ClientConn) {
		return func(ctx context.Context, conn *grpc.ClientConn) { f(ctx, testgrpc.NewTestServiceClient(conn)) }
	}
	return map[string]func(context.Context, *grpc.ClientConn){
		"empty_unary":                 plain(interop.DoEmptyUnaryCall),
		"large_unary":                 plain(interop.DoLargeUnaryCall),
		"client_streaming":            plain(interop.DoClientStreaming),
		"server_streaming":            plain(interop.DoServerStreaming),
		"ping_pong":                   plain(interop.DoPingPong),
		"empty_stream":                plain(interop.DoEmptyStream),
		"timeout_on_sleeping_server":  plain(interop.DoTimeoutOnSleepingServer),
		"cancel_after_begin":          plain(interop.DoCancelAfterBegin),
		"cancel_after_first_response": plain(interop.DoCancelAfterFirstResponse),
		"status_code_and_message":     plain(interop.DoStatusCodeAndMessage),
		"special_status_message":      plain(interop.DoSpecialStatusMessage),
		"custom_metadata":             plain(interop.DoCustomMetadata),
		"unimplemented_method":        interop.DoUnimplementedMethod,
		"unimplemented_service": func(ctx context.Context, conn *grpc.ClientConn) {
			interop.DoUnimplementedService(ctx, testgrpc.NewUnimplementedServiceClient(conn))
		},
	}
}

// Environment of a process that runs one case and nothing else: a case that fails ends its process.
const (
	envCase        = "GRPC_INTEROP_CASE"
	envAddress     = "GRPC_INTEROP_ADDRESS"
	envCertificate = "GRPC_INTEROP_CERTIFICATE"
)

func TestMain(m *testing.M) {
	name := os.Getenv(envCase)
	if name == "" {
		os.Exit(m.Run())
	}
	var trusted []byte
	if text := os.Getenv(envCertificate); text != "" {
		trusted = []byte(text)
	}
	conn, err := dial(os.Getenv(envAddress), trusted)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	cases()[name](ctx, conn)
	os.Exit(0)
}

func TestTheInteroperabilityCasesPass(t *testing.T) {
	r := start(t, startServer(t), everything)
	if len(cases()) != 14 {
		t.Fatalf("%d cases, want 14", len(cases()))
	}
	for _, over := range []struct{ name, address, certificate string }{
		{"h2c", r.plain, ""}, {"TLS", r.tls, string(r.certificate)},
	} {
		for _, name := range slices.Sorted(maps.Keys(cases())) {
			t.Run(over.name+"/"+name, func(t *testing.T) {
				cmd := exec.Command(os.Args[0])
				cmd.Env = append(os.Environ(), envCase+"="+name, envAddress+"="+over.address, envCertificate+"="+over.certificate)
				if out, err := cmd.CombinedOutput(); err != nil {
					t.Errorf("%v\n%s", err, out)
				}
			})
		}
	}
}
