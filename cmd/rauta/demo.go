package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"syscall"

	"github.com/spf13/cobra"

	"rauta.io/rauta/internal/demo"
)

const (
	// demoAddress and demoSecureAddress are where the quick start listens.
	demoAddress       = "127.0.0.1:8080"
	demoSecureAddress = "127.0.0.1:8443"
	// demoSecret is the Secret that examples/secure refers to.
	demoSecret = "quickstart"
)

// demoText has CERTIFICATE where the file with the demo's certificate belongs, and LOG where its log of failures does.
const demoText = `
RAUTA serves examples on http://` + demoAddress + ` and https://` + demoSecureAddress + `, in front of four demo back ends. Try, in
another terminal:

  curl http://shop.localhost:8080/hello
      the catch-all rule: back end "web", and the fields that RAUTA adds for it
  curl -i http://shop.localhost:8080/api/items
      weights: nine of ten go to "api", one to "api-canary"; X-Shop is set towards the back end, X-Served-By is added
  curl -H 'X-Canary: yes' http://shop.localhost:8080/api/items
      a header match: always "api-canary"
  curl -X POST -d 'one=1' http://shop.localhost:8080/orders
      a method match: POST goes to "api"; the same without -X POST -d goes to "web"
  curl -i http://shop.localhost:8080/old/page
      a redirect: 301 to /new/page
  curl http://shop.localhost:8080/v1/items
      a rewrite: "api" sees /api/v1/items and the host api.internal
  curl -i http://shop.localhost:8080/slow
      a timeout: the back end takes 2 s, the rule allows 1 s: 504
  curl http://blog.localhost:8080/
      an Ingress: back end "web"
  curl -i http://nobody.localhost:8080/
      no route: 404

  curl --cacert CERTIFICATE https://shop.localhost:8443/hello
      HTTPS, with a certificate made for this start; curl and RAUTA agree on HTTP/2 by ALPN, --http1.1 says otherwise
  curl -i --http2-prior-knowledge http://shop.localhost:8080/hello
      HTTP/2 without TLS, on the port of HTTP/1.1
  openssl s_client -connect ` + demoSecureAddress + ` -servername shop.localhost -alpn h2 -CAfile CERTIFICATE </dev/null
      what TLS agrees on; a server name that no listener has ends the handshake
  grpcurl -plaintext -authority grpc.localhost -d '{"text": "hello"}' ` + demoAddress + ` demo.Echo/Say
      a gRPC call by a GRPCRoute; the back end tells its methods by reflection: list instead of -d and demo.Echo/Say
  grpcurl -cacert CERTIFICATE -authority grpc.localhost -d '{"text": "hello"}' ` + demoSecureAddress + ` demo.Echo/Say
      the same with TLS
  websocat ws://shop.localhost:8080/ws
      a WebSocket that sends back each line; wss://shop.localhost:8443/ws with TLS (SSL_CERT_FILE=CERTIFICATE)
  chromium --ignore-certificate-errors https://shop.localhost:8443/browser
      a page over HTTP/2 with a WebSocket on the same connection; any browser, once it trusts the certificate
  h2load -n 100000 -c 8 -m 10 --connect-to=` + demoAddress + ` http://shop.localhost:8080/hello
      many requests on few connections

  bin/rauta top
      live: what each route and back end does, and where the time of requests goes; run h2load or /slow meanwhile
  curl -s http://127.0.0.1:9091/metrics | grep rauta_request_stage_seconds_sum
      the same as metrics: seconds by route and stage; all metrics are in docs/metrics.md
  cat LOG
      requests that failed, such as /slow above: why, where the time went, and the trace
  bin/rauta explain --admin http://127.0.0.1:9090 GET http://shop.localhost:8080/api/items -H 'X-Canary: yes'
      why that request goes where it goes

(If your system does not resolve names below .localhost, add --resolve '*:8080:127.0.0.1' to curl.)
Edit examples/quickstart/routes.yaml while this runs: the next request sees the change. Ctrl-C stops everything.

`

// newDemo is what `make run` runs; it is of no use outside the source tree and therefore hidden.
func newDemo() *cobra.Command {
	return &cobra.Command{
		Use:    "demo EXAMPLES [-- FLAGS OF SERVE]",
		Short:  "Serve the quick start in front of demo back ends",
		Hidden: true,
		Args:   cobra.MinimumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return runDemo(cmd.Context(), args[0], args[1:], cmd.OutOrStdout(), cmd.ErrOrStderr())
		},
	}
}

// runDemo serves what folder has, with more flags of serve than those of the demo.
func runDemo(ctx context.Context, folder string, more []string, stdout, stderr io.Writer) error {
	temporary, err := os.MkdirTemp("", "rauta-demo-")
	if err != nil {
		return fmt.Errorf("make a folder for the demo's certificate: %w", err)
	}
	defer os.RemoveAll(temporary)
	certificate, err := demo.WriteCertificate(temporary, demoSecret)
	if err != nil {
		return err
	}
	o, log := &serveOptions{}, filepath.Join(temporary, "failed.log")
	flags := newServeFlags(o)
	err = flags.Parse(append([]string{"--config", folder, "--config", certificate.Objects, "--bind", "127.0.0.1", "--http-port", "8080", "--https-port", "8443",
		"--admin", "127.0.0.1:9090", "--metrics", "127.0.0.1:9091", "--drain-delay", "0s", "--drain-time", "5s",
		"--log-level", "warn", "--error-log", log, "--trace-propagate", "w3c"}, more...))
	if err != nil {
		return err
	}
	if err := o.validate(); err != nil {
		return err
	}
	for _, address := range []string{demoAddress, demoSecureAddress, o.admin, o.metrics} {
		if err := portFree(address); err != nil {
			return err
		}
	}
	backends, err := demo.Start(demo.Quickstart())
	if err != nil {
		return err
	}
	defer backends.Stop()
	o.onReady = func() {
		named := strings.NewReplacer("CERTIFICATE", certificate.File, "LOG", log, "examples", strings.TrimSuffix(folder, "/"))
		io.WriteString(stdout, named.Replace(demoText))
	}
	return serve(ctx, o, stdout, stderr)
}

// portFree says clearly that a port is taken, before anything is started.
func portFree(address string) error {
	l, err := net.Listen("tcp", address)
	switch {
	case err == nil:
		return l.Close()
	case errors.Is(err, syscall.EADDRINUSE):
		return fmt.Errorf("%s is in use by another program: stop that program and try again", address)
	}
	return fmt.Errorf("listen on %s: %w", address, err)
}
