package grpc

import (
	"context"
	"crypto/x509"
	"encoding/base64"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/interop"
	testgrpc "google.golang.org/grpc/interop/grpc_testing"
	"google.golang.org/grpc/reflection"

	"rauta.io/rauta/internal/testrig"
)

// patience is how long a test waits for something that should come at once. Other programs may have the machine.
const patience = 60 * time.Second

// serverName is the hostname of the routes and of the certificate.
const serverName = "grpc.example.com"

// rig is a running RAUTA in front of a gRPC server.
type rig struct {
	t           *testing.T
	plain, tls  string // addresses
	metrics     string
	certificate []byte // PEM
	process     *exec.Cmd
	exited      chan struct{}
	log         testrig.Buffer
}

// startServer runs the interoperability server with what more registers, and reflection.
func startServer(t *testing.T, more ...func(*grpc.Server)) (port int) {
	t.Helper()
	return serve(t, grpc.NewServer(), more...)
}

func serve(t *testing.T, s *grpc.Server, more ...func(*grpc.Server)) (port int) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	testgrpc.RegisterTestServiceServer(s, interop.NewTestServer())
	reflection.Register(s)
	for _, f := range more {
		f(s)
	}
	go s.Serve(l)
	t.Cleanup(s.Stop)
	return l.Addr().(*net.TCPAddr).Port
}

// everything is the only rule of a GRPCRoute that takes every call.
const everything = "  - backendRefs: [{name: app, port: 80}]\n"

// start runs RAUTA with a GRPCRoute that has the rules, on a port in plain text and one with TLS.
func start(t *testing.T, backend int, rules string, flags ...string) *rig {
	t.Helper()
	return service{backends: []int{backend}}.start(t, rules, flags...)
}

// service is what the rules lead to.
type service struct {
	backends    []int // ports
	annotations string
}

// start is start for a service.
func (s service) start(t *testing.T, rules string, flags ...string) *rig {
	t.Helper()
	program := os.Getenv("RAUTA")
	if program == "" {
		t.Skip("RAUTA names no program; run make grpc")
	}
	plain, secure, metrics := testrig.FreePort(t), testrig.FreePort(t), testrig.FreePort(t)
	chain, key := newCertificate(t)
	r := &rig{
		t: t, plain: fmt.Sprint("127.0.0.1:", plain), tls: fmt.Sprint("127.0.0.1:", secure), metrics: fmt.Sprint("127.0.0.1:", metrics),
		certificate: chain, exited: make(chan struct{}),
	}
	text := base64.StdEncoding.EncodeToString
	path := filepath.Join(t.TempDir(), "all.yaml")
	config := fmt.Sprintf(configuration, plain, secure, text(chain), text(key), rules, s.annotations)
	for i, port := range s.backends {
		config += fmt.Sprintf(endpointSlice, i, port)
	}
	if err := os.WriteFile(path, []byte(config), 0o600); err != nil {
		t.Fatal(err)
	}
	r.process = exec.Command(program, append([]string{"serve", "--config", path, "--bind", "127.0.0.1", "--admin", "off",
		"--metrics", r.metrics, "--workers", "2", "--drain-delay", "0s"}, flags...)...)
	r.process.Stdout, r.process.Stderr = &r.log, &r.log
	if err := r.process.Start(); err != nil {
		t.Fatal(err)
	}
	go func() {
		r.process.Wait()
		close(r.exited)
	}()
	t.Cleanup(func() {
		r.process.Process.Kill()
		<-r.exited
		if t.Failed() {
			t.Logf("RAUTA's log:\n%s", r.log.String())
		}
	})
	r.waitReady()
	return r
}

const configuration = `apiVersion: gateway.networking.k8s.io/v1
kind: GatewayClass
metadata: {name: rauta}
spec: {controllerName: rauta.io/gateway-controller}
---
apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata: {name: gw}
spec:
  gatewayClassName: rauta
  listeners:
  - {name: http, port: %d, protocol: HTTP}
  - {name: https, port: %d, protocol: HTTPS, hostname: grpc.example.com, tls: {certificateRefs: [{name: cert}]}}
---
apiVersion: v1
kind: Secret
metadata: {name: cert}
type: kubernetes.io/tls
data: {tls.crt: %s, tls.key: %s}
---
apiVersion: gateway.networking.k8s.io/v1
kind: GRPCRoute
metadata: {name: all}
spec:
  parentRefs: [{name: gw}]
  hostnames: [grpc.example.com]
  rules:
%s---
apiVersion: v1
kind: Service
metadata: {name: app, annotations: {%s}}
spec: {ports: [{port: 80}]}
`

const endpointSlice = `---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: app-%d, labels: {kubernetes.io/service-name: app}}
addressType: IPv4
ports: [{port: %d}]
endpoints: [{addresses: [127.0.0.1]}]
`

func (r *rig) waitReady() {
	r.t.Helper()
	for deadline := time.Now().Add(patience); time.Now().Before(deadline); time.Sleep(20 * time.Millisecond) {
		select {
		case <-r.exited:
			r.t.Fatal("RAUTA has exited")
		default:
		}
		if resp, err := http.Get("http://" + r.metrics + "/readyz"); err == nil {
			resp.Body.Close()
			if resp.StatusCode == 200 {
				return
			}
		}
	}
	r.t.Fatal("RAUTA is not ready")
}

// terminate asks RAUTA to drain.
func (r *rig) terminate() {
	r.t.Helper()
	if err := r.process.Process.Signal(syscall.SIGTERM); err != nil {
		r.t.Fatal(err)
	}
}

func newCertificate(t *testing.T) (chain, key []byte) {
	t.Helper()
	chain, key, err := testrig.SelfSigned(serverName)
	if err != nil {
		t.Fatal(err)
	}
	return chain, key
}

// dial makes a client connection to address, with TLS if there is a certificate to trust.
func dial(address string, trusted []byte) (*grpc.ClientConn, error) {
	creds := insecure.NewCredentials()
	if trusted != nil {
		pool := x509.NewCertPool()
		pool.AppendCertsFromPEM(trusted)
		creds = credentials.NewClientTLSFromCert(pool, serverName)
	}
	return grpc.NewClient("passthrough:///"+address, grpc.WithTransportCredentials(creds), grpc.WithAuthority(serverName))
}

// client returns a connection that the test closes, and a context with a generous bound.
func (r *rig) client() (*grpc.ClientConn, context.Context) {
	r.t.Helper()
	conn, err := dial(r.plain, nil)
	if err != nil {
		r.t.Fatal(err)
	}
	r.t.Cleanup(func() { conn.Close() })
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	r.t.Cleanup(cancel)
	return conn, ctx
}
