package main

import (
	"bufio"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"os"

	"rauta.io/rauta/internal/testrig"
)

// size is what a configuration has of each kind.
type size struct{ routes, services, endpoints, certificates int }

// listenersMax is how many listeners a Gateway may have (Gateway API).
const listenersMax = 64

const (
	class = `apiVersion: gateway.networking.k8s.io/v1
kind: GatewayClass
metadata: {name: rauta}
spec: {controllerName: rauta.io/gateway-controller}
`
	gatewayBegin = `---
apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata: {name: %s, namespace: prod}
spec:
  gatewayClassName: rauta
  listeners:
`
	plainListener  = "  - {name: http, port: %d, protocol: HTTP}\n"
	secureListener = "  - {name: l%d, port: %d, protocol: HTTPS, hostname: h%[1]d.example.com, tls: {certificateRefs: [{name: cert-%[1]d}]}}\n"
	secret         = `---
apiVersion: v1
kind: Secret
type: kubernetes.io/tls
metadata: {name: cert-%d, namespace: prod}
data: {tls.crt: %s, tls.key: %s}
`
	route = `---
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: route-%d, namespace: prod}
spec:
  parentRefs: [{name: gw}]
  hostnames: [h%[1]d.example.com]
  rules:
  - matches: [{path: {type: PathPrefix, value: /}}]
    backendRefs: [{name: svc-%d, port: 80}]
`
	serviceAndSlice = `---
apiVersion: v1
kind: Service
metadata: {name: svc-%d, namespace: prod}
spec: {ports: [{name: http, port: 80, targetPort: 8080}]}
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: svc-%[1]d-1, namespace: prod, labels: {kubernetes.io/service-name: svc-%[1]d}}
addressType: IPv4
ports: [{name: http, port: 8080}]
endpoints:
`
	endpoint = "- {addresses: [10.%d.%d.%d]}\n"
)

// write writes a configuration of this size.
func write(path string, s size, port, securePort uint16) error {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_WRONLY|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	w := bufio.NewWriter(f)
	fmt.Fprintf(w, class+gatewayBegin+plainListener, "gw", port)
	err = writeCertificates(w, s.certificates, securePort)
	for i := range s.routes {
		fmt.Fprintf(w, route, i, i%s.services)
	}
	next := 0
	for i := range s.services {
		fmt.Fprintf(w, serviceAndSlice, i)
		for last := (i + 1) * s.endpoints / s.services; next < last; next++ {
			fmt.Fprintf(w, endpoint, next>>16&0xff, next>>8&0xff, next&0xff)
		}
	}
	return errors.Join(err, w.Flush(), f.Close())
}

// writeCertificates writes them, and the Gateways that have a listener for each.
func writeCertificates(w io.Writer, certificates int, port uint16) error {
	text := base64.StdEncoding.EncodeToString
	for i := range certificates {
		certificate, key, err := testrig.SelfSigned(fmt.Sprintf("h%d.example.com", i))
		if err != nil {
			return err
		}
		fmt.Fprintf(w, secret, i, text(certificate), text(key))
	}
	for i := range certificates {
		if i%listenersMax == 0 {
			fmt.Fprintf(w, gatewayBegin, fmt.Sprintf("tls-%d", i))
		}
		fmt.Fprintf(w, secureListener, i, port)
	}
	return nil
}
