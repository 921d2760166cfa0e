package peers

import (
	"encoding/base64"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"rauta.io/rauta/loadtest/generator"
)

const (
	// routesPerFile splits large configurations into files of a handy size.
	routesPerFile = 1000
	// RoutesPerHost spreads the routes over hosts, so that both halves of a router work.
	RoutesPerHost = 10
	// changingFile holds route 0, the one that Reload changes.
	changingFile = "route-changing.yaml"
	// descriptorsReserved are kept from connections for everything else that a process opens.
	descriptorsReserved = 200
	// peerConnectionsMax is the connection limit given to the peers, far above every scenario.
	peerConnectionsMax = 32768
)

// GRPCHost is the host whose calls all go to the back end, whatever the method, where Speech.GRPC says so.
const GRPCHost = "grpc.example.test"

// RouteHost is the host name of a route.
func RouteHost(route int) string { return fmt.Sprintf("host-%d.example.test", route/RoutesPerHost) }

// RoutePath is the path of a route.
func RoutePath(route int) string { return fmt.Sprintf("/team-%d/service", route) }

// nginxConfig: request buffering is off because nobody else buffers uploads; the response buffers are nginx's own.
func nginxConfig(e Environment, generation int) string {
	if e.forwarded() {
		return nginxStream(e)
	}
	var b strings.Builder
	if os.Geteuid() == 0 {
		b.WriteString("user root;\n") // else the worker may not write into the folder
	}
	fmt.Fprintf(&b, `daemon off;
worker_processes 1;
worker_rlimit_nofile %d;
pid %s/nginx.pid;
events { worker_connections %d; }
http {
  access_log off;
  client_body_temp_path %[2]s/body; proxy_temp_path %[2]s/proxy; fastcgi_temp_path %[2]s/fastcgi;
  uwsgi_temp_path %[2]s/uwsgi; scgi_temp_path %[2]s/scgi;
  keepalive_timeout 3600s;
  keepalive_requests 1000000000;
  client_max_body_size 0;
  upstream backend { server 127.0.0.1:%[4]d; keepalive 512; keepalive_requests 1000000000; keepalive_timeout 3600s; }
  server {
    listen 127.0.0.1:%[5]d backlog=4096%[6]s;
%[7]s    location / {
`, e.Descriptors, e.Folder, peerConnections(e), e.BackendPort, e.Port, nginxListen(e), nginxTLS(e))
	set := "proxy_set_header"
	switch {
	case e.GRPC:
		set = "grpc_set_header"
		scheme := "grpc"
		if e.BackendTLS {
			scheme = "grpcs"
		}
		fmt.Fprintf(&b, "      grpc_pass %s://backend;\n", scheme)
	case e.Upgrades:
		b.WriteString("      proxy_pass http://backend;\n      proxy_http_version 1.1;\n      proxy_read_timeout 3600s;\n" +
			"      proxy_set_header Upgrade $http_upgrade;\n      proxy_set_header Connection upgrade;\n")
	default:
		version := "1.1"
		if e.BackendHTTP2 {
			version = "2"
		}
		scheme := "http"
		if e.BackendTLS {
			scheme = "https"
		}
		fmt.Fprintf(&b, "      proxy_pass %s://backend;\n      proxy_http_version %s;\n      proxy_set_header Connection \"\";\n"+
			"      proxy_request_buffering off;\n      proxy_max_temp_file_size 0;\n", scheme, version)
	}
	fmt.Fprintf(&b, `      %[1]s Host $host;
      %[1]s X-Forwarded-For $proxy_add_x_forwarded_for;
      %[1]s X-Forwarded-Proto $scheme;
      %[1]s X-Forwarded-Host $host;
      %[1]s X-Real-IP $remote_addr;
`, set)
	if generation > 0 {
		fmt.Fprintf(&b, "      add_header %s %d;\n", generator.GenerationField, generation)
	}
	b.WriteString("    }\n  }\n}\n")
	return b.String()
}

// nginxStream forwards connections.
func nginxStream(e Environment) string {
	listen, options := "backlog=4096", "tcp_nodelay on;"
	switch {
	case e.UDP:
		listen, options = "udp", ""
	case e.Passthrough:
		options += " ssl_preread on;"
	}
	return fmt.Sprintf(`daemon off;
worker_processes 1;
worker_rlimit_nofile %d;
pid %s/nginx.pid;
events { worker_connections %d; }
stream {
  server { listen 127.0.0.1:%d %s; proxy_pass 127.0.0.1:%d; proxy_timeout 3600s; %s }
}
`, e.Descriptors, e.Folder, peerConnections(e), e.Port, listen, e.BackendPort, options)
}

func nginxListen(e Environment) string {
	options := ""
	if e.Secure {
		options += " ssl"
	}
	if e.HTTP2 {
		options += " http2"
	}
	return options
}

// nginxTLS: the session cache is off, so that sessions are resumed by ticket, as with the others.
func nginxTLS(e Environment) string {
	if !e.Secure {
		return ""
	}
	return fmt.Sprintf("    ssl_certificate %s; ssl_certificate_key %s;\n    ssl_protocols TLSv1.2 TLSv1.3; ssl_session_tickets on; ssl_session_cache off;\n",
		e.Certificate, e.Key)
}

// peerConnections is as many as the descriptors allow when most connections are idle and have no upstream side.
func peerConnections(e Environment) int {
	return int(min(peerConnectionsMax, max(e.Descriptors, 2*descriptorsReserved)-descriptorsReserved))
}

// haproxyConfig: certificate and key lie beside each other, with the names that haproxy expects.
func haproxyConfig(e Environment) string {
	if e.TCP || e.Passthrough {
		return haproxyTCP(e)
	}
	bind, scheme, server := "", "http", ""
	switch {
	case e.Secure && e.HTTP2:
		bind, scheme = " ssl crt "+e.Certificate+" alpn h2,http/1.1", "https"
	case e.Secure:
		bind, scheme = " ssl crt "+e.Certificate+" alpn http/1.1", "https"
	case e.HTTP2:
		bind = " proto h2"
	}
	if e.BackendHTTP2 {
		server = " proto h2"
	}
	switch {
	case e.BackendTLS && e.BackendHTTP2:
		server = " ssl verify none alpn h2"
	case e.BackendTLS:
		server = " ssl verify none alpn http/1.1"
	}
	return fmt.Sprintf(`global
  nbthread 1
  maxconn %d
  no strict-limits
defaults
  mode http
  timeout connect 5s
  timeout client 3600s
  timeout server 3600s
  timeout tunnel 3600s
  timeout http-keep-alive 3600s
  http-reuse always
  option forwardfor
frontend clients
  bind 127.0.0.1:%d backlog 4096%s
  http-request set-header X-Forwarded-Proto %s
  http-request set-header X-Forwarded-Host %%[req.hdr(host)]
  http-request set-header X-Real-IP %%[src]
  default_backend backend
backend backend
  server backend 127.0.0.1:%d pool-max-conn 1000 pool-purge-delay 3600s%s
`, peerConnections(e), e.Port, bind, scheme, e.BackendPort, server)
}

// haproxyTCP forwards connections.
func haproxyTCP(e Environment) string {
	look := ""
	if e.Passthrough { // routes by server name have to see one
		look = "\n  tcp-request inspect-delay 5s\n  tcp-request content accept if { req.ssl_hello_type 1 }"
	}
	return fmt.Sprintf(`global
  nbthread 1
  maxconn %d
  no strict-limits
defaults
  mode tcp
  option splice-auto
  timeout connect 5s
  timeout client 3600s
  timeout server 3600s
listen clients
  bind 127.0.0.1:%d backlog 4096%s
  server backend 127.0.0.1:%d
`, peerConnections(e), e.Port, look, e.BackendPort)
}

// writeRAUTA writes the folder of YAML that serve reads.
func writeRAUTA(folder string, e Environment) error {
	if err := os.MkdirAll(folder, 0o755); err != nil {
		return err
	}
	write := func(name, text string) error { return os.WriteFile(filepath.Join(folder, name), []byte(text), 0o644) }
	if err := write("gateway.yaml", gatewayYAML(e)); err != nil {
		return err
	}
	if e.forwarded() {
		return write("forwarded.yaml", forwardingRouteYAML(e))
	}
	if e.Secure {
		secret, err := secretYAML(e)
		if err == nil {
			err = write("secret.yaml", secret)
		}
		if err != nil {
			return err
		}
	}
	if err := write(changingFile, routesYAML(0, 1, 0)); err != nil {
		return err
	}
	if e.GRPC {
		if err := write("grpc.yaml", grpcRouteYAML()); err != nil {
			return err
		}
	}
	for first := 1; first < e.Routes; first += routesPerFile {
		last := min(first+routesPerFile, e.Routes)
		if err := write(fmt.Sprintf("routes-%06d.yaml", first), routesYAML(first, last, 0)); err != nil {
			return err
		}
	}
	return nil
}

// secretYAML has the certificate that all contenders serve.
func secretYAML(e Environment) (string, error) {
	certificate, err1 := os.ReadFile(e.Certificate)
	key, err2 := os.ReadFile(e.Key)
	return fmt.Sprintf(`apiVersion: v1
kind: Secret
metadata: {name: certificate, namespace: default}
type: kubernetes.io/tls
data: {tls.crt: %s, tls.key: %s}
`, base64.StdEncoding.EncodeToString(certificate), base64.StdEncoding.EncodeToString(key)), errors.Join(err1, err2)
}

func gatewayYAML(e Environment) string {
	listener, protocol, annotations := fmt.Sprintf("{name: http, protocol: HTTP, port: %d}", e.Port), "", ""
	if e.Secure {
		listener = fmt.Sprintf("{name: https, protocol: HTTPS, port: %d, tls: {certificateRefs: [{name: certificate}]}}", e.Port)
	}
	portProtocol := "TCP"
	switch {
	case e.TCP:
		listener = fmt.Sprintf("{name: tcp, protocol: TCP, port: %d}", e.Port)
	case e.Passthrough:
		listener = fmt.Sprintf("{name: tls, protocol: TLS, port: %d, tls: {mode: Passthrough}}", e.Port)
	case e.UDP:
		listener, portProtocol = fmt.Sprintf("{name: udp, protocol: UDP, port: %d}", e.Port), "UDP"
	}
	if e.BackendHTTP2 && !e.BackendTLS {
		protocol = ", appProtocol: kubernetes.io/h2c"
	}
	if e.BackendTLS { // with HTTP/2 where the back end, which has one protocol only, says so
		annotations = ", annotations: {rauta.io/backend-protocol: HTTPS, rauta.io/backend-tls-verify: \"off\"}"
	}
	return fmt.Sprintf(`apiVersion: gateway.networking.k8s.io/v1
kind: GatewayClass
metadata: {name: rauta}
spec: {controllerName: rauta.io/gateway-controller}
---
apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata: {name: loadtest, namespace: default}
spec:
  gatewayClassName: rauta
  listeners:
  - %s
---
apiVersion: v1
kind: Service
metadata: {name: backend, namespace: default%s}
spec:
  ports:
  - {name: http, protocol: %s, port: 80, targetPort: %d%s}
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata:
  name: backend-1
  namespace: default
  labels: {kubernetes.io/service-name: backend}
addressType: IPv4
ports:
- {name: http, protocol: %s, port: %d}
endpoints:
- addresses: [127.0.0.1]
  conditions: {ready: true}
`, listener, annotations, portProtocol, e.BackendPort, protocol, portProtocol, e.BackendPort)
}

func forwardingRouteYAML(e Environment) string {
	kind, version, hostnames := "TCPRoute", "v1alpha2", ""
	switch {
	case e.Passthrough:
		kind, version, hostnames = "TLSRoute", "v1", "\n  hostnames: ["+generator.ServerName+"]"
	case e.UDP:
		kind = "UDPRoute"
	}
	return fmt.Sprintf(`apiVersion: gateway.networking.k8s.io/%s
kind: %s
metadata: {name: forwarded, namespace: default}
spec:
  parentRefs:
  - {name: loadtest}%s
  rules:
  - backendRefs:
    - {name: backend, port: 80}
`, version, kind, hostnames)
}

func grpcRouteYAML() string {
	return fmt.Sprintf(`apiVersion: gateway.networking.k8s.io/v1
kind: GRPCRoute
metadata: {name: calls, namespace: default}
spec:
  parentRefs:
  - {name: loadtest}
  hostnames: [%s]
  rules:
  - backendRefs:
    - {name: backend, port: 80}
`, GRPCHost)
}

// routesYAML is a file of routes [first, last). A generation above zero shows in the answers.
func routesYAML(first, last, generation int) string {
	var b strings.Builder
	for route := first; route < last; route++ {
		if route > first {
			b.WriteString("---\n")
		}
		fmt.Fprintf(&b, `apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: route-%d, namespace: default}
spec:
  parentRefs:
  - {name: loadtest}
  hostnames: [%s]
  rules:
  - matches:
    - path: {type: PathPrefix, value: %s}
    backendRefs:
    - {name: backend, port: 80}
`, route, RouteHost(route), RoutePath(route))
		if generation > 0 {
			fmt.Fprintf(&b, `    filters:
    - type: ResponseHeaderModifier
      responseHeaderModifier:
        set:
        - {name: %s, value: "%d"}
`, generator.GenerationField, generation)
		}
	}
	return b.String()
}
