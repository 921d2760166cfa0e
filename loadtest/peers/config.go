package peers

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"rauta.io/rauta/loadtest/generator"
)

const (
	// routesPerFile splits large configurations into files of a handy size.
	routesPerFile = 1000
	// routesPerHost spreads the routes over hosts, so that both halves of a router work.
	routesPerHost = 10
	// changingFile holds route 0, the one that Reload changes.
	changingFile = "route-changing.yaml"
	// descriptorsReserved are kept from connections for everything else that a process opens.
	descriptorsReserved = 200
	// peerConnectionsMax is the connection limit given to the peers, far above every scenario.
	peerConnectionsMax = 32768
)

// RouteHost is the host name of a route.
func RouteHost(route int) string { return fmt.Sprintf("host-%d.example.test", route/routesPerHost) }

// RoutePath is the path of a route.
func RoutePath(route int) string { return fmt.Sprintf("/team-%d/service", route) }

// nginxConfig: request buffering is off because nobody else buffers uploads; the response buffers are nginx's own.
func nginxConfig(e Environment, generation int) string {
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
  upstream backend { server 127.0.0.1:%[4]d; keepalive 128; keepalive_requests 1000000000; keepalive_timeout 3600s; }
  server {
    listen 127.0.0.1:%[5]d backlog=4096;
    location / {
      proxy_pass http://backend;
      proxy_http_version 1.1;
      proxy_set_header Connection "";
      proxy_set_header Host $host;
      proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for;
      proxy_set_header X-Forwarded-Proto $scheme;
      proxy_set_header X-Forwarded-Host $host;
      proxy_set_header X-Real-IP $remote_addr;
      proxy_request_buffering off;
      proxy_max_temp_file_size 0;
`, e.Descriptors, e.Folder, peerConnections(e), e.BackendPort, e.Port)
	if generation > 0 {
		fmt.Fprintf(&b, "      add_header %s %d;\n", generator.GenerationField, generation)
	}
	b.WriteString("    }\n  }\n}\n")
	return b.String()
}

// peerConnections is as many as the descriptors allow when most connections are idle and have no upstream side.
func peerConnections(e Environment) int {
	return int(min(peerConnectionsMax, max(e.Descriptors, 2*descriptorsReserved)-descriptorsReserved))
}

func haproxyConfig(e Environment) string {
	return fmt.Sprintf(`global
  nbthread 1
  maxconn %d
  no strict-limits
defaults
  mode http
  timeout connect 5s
  timeout client 3600s
  timeout server 3600s
  timeout http-keep-alive 3600s
  http-reuse always
  option forwardfor
frontend clients
  bind 127.0.0.1:%d backlog 4096
  http-request set-header X-Forwarded-Proto http
  http-request set-header X-Forwarded-Host %%[req.hdr(host)]
  http-request set-header X-Real-IP %%[src]
  default_backend backend
backend backend
  server backend 127.0.0.1:%d pool-max-conn 1000 pool-purge-delay 3600s
`, peerConnections(e), e.Port, e.BackendPort)
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
	if err := write(changingFile, routesYAML(0, 1, 0)); err != nil {
		return err
	}
	for first := 1; first < e.Routes; first += routesPerFile {
		last := min(first+routesPerFile, e.Routes)
		if err := write(fmt.Sprintf("routes-%06d.yaml", first), routesYAML(first, last, 0)); err != nil {
			return err
		}
	}
	return nil
}

func gatewayYAML(e Environment) string {
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
  - {name: http, protocol: HTTP, port: %d}
---
apiVersion: v1
kind: Service
metadata: {name: backend, namespace: default}
spec:
  ports:
  - {name: http, protocol: TCP, port: 80, targetPort: %d}
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata:
  name: backend-1
  namespace: default
  labels: {kubernetes.io/service-name: backend}
addressType: IPv4
ports:
- {name: http, protocol: TCP, port: %d}
endpoints:
- addresses: [127.0.0.1]
  conditions: {ready: true}
`, e.Port, e.BackendPort, e.BackendPort)
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
