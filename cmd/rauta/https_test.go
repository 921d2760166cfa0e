package main

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"rauta.io/rauta/internal/testrig"
)

// tlsSecret returns a Secret in YAML with a certificate that signs itself, and a client that trusts it alone.
func tlsSecret(t *testing.T, name, hostname string, port uint16) (secret string, client *http.Client) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), DNSNames: []string{hostname}, IsCA: true, BasicConstraintsValid: true,
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	private, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	chain := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
	secret = fmt.Sprintf("---\napiVersion: v1\nkind: Secret\nmetadata: {name: %s}\ntype: kubernetes.io/tls\ndata: {tls.crt: %s, tls.key: %s}\n", name,
		base64.StdEncoding.EncodeToString(chain),
		base64.StdEncoding.EncodeToString(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: private})))
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(chain)
	transport := &http.Transport{
		TLSClientConfig: &tls.Config{RootCAs: roots}, ForceAttemptHTTP2: true,
		DialContext: func(ctx context.Context, network, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, network, fmt.Sprintf("127.0.0.1:%d", port))
		},
	}
	t.Cleanup(transport.CloseIdleConnections)
	return secret, &http.Client{Transport: transport, Timeout: waitMax}
}

// secureConfiguration is configuration with an HTTPS listener for gw.test and an Ingress with tls for in.test.
func secureConfiguration(port, tlsPort uint16, backend, state string) string {
	listener := fmt.Sprintf("{name: https, port: %d, protocol: HTTPS, hostname: gw.test, tls: {certificateRefs: [{name: gw}]}}", tlsPort)
	return strings.Replace(configuration(port, backend, state), "protocol: HTTP}]", "protocol: HTTP}, "+listener+"]", 1) + `---
apiVersion: networking.k8s.io/v1
kind: Ingress
metadata: {name: in}
spec:
  ingressClassName: rauta
  tls: [{hosts: [in.test], secretName: in}]
  rules: [{host: in.test, http: {paths: [{path: /, pathType: Prefix, backend: {service: {name: app, port: {number: 80}}}}]}}]
`
}

func TestCertificatesFromSecretsAreServedRenewedAndWithdrawn(t *testing.T) {
	backend := echoBackend(t)
	tlsPort, httpPort := testrig.FreePort(t), testrig.FreePort(t)
	i := start(t, backend, "--http-port", fmt.Sprint(httpPort), "--https-port", fmt.Sprint(tlsPort))
	ask := func(client *http.Client, host string) string {
		resp, err := client.Get("https://" + host + "/")
		if err != nil {
			return err.Error()
		}
		resp.Body.Close()
		return resp.Status + " " + resp.Proto
	}
	const served = "200 OK HTTP/2.0"

	gateway, toGateway := tlsSecret(t, "gw", "gw.test", tlsPort)
	ingress, toIngress := tlsSecret(t, "in", "in.test", tlsPort)
	i.write(secureConfiguration(i.port, tlsPort, backend, "secure") + gateway + ingress)
	i.until("HTTPS", func() bool { return ask(toGateway, "gw.test") == served })
	if got := ask(toIngress, "in.test"); got != served {
		t.Errorf("the Ingress: %s", got)
	}
	for _, host := range []string{"other.test", "a.gw.test"} {
		if got := ask(toGateway, host); !strings.Contains(got, "unrecognized name") {
			t.Errorf("a host that nobody has: %s", got)
		}
	}
	if shown := i.get(i.admin, "/config"); !strings.Contains(shown, "BEGIN CERTIFICATE") || strings.Contains(shown, "PRIVATE") ||
		strings.Count(shown, `"key": "[redacted]"`) != 2 {
		t.Errorf("/config shows\n%s", shown)
	}

	renewed, toRenewed := tlsSecret(t, "gw", "gw.test", tlsPort)
	i.write(secureConfiguration(i.port, tlsPort, backend, "renewed") + renewed + ingress)
	i.until("the renewed certificate", func() bool { return ask(toRenewed, "gw.test") == served })
	if got := ask(toGateway, "gw.test"); got != served { // it trusts the old certificate only
		t.Errorf("on the connection from before the renewal: %s", got)
	}

	i.write(secureConfiguration(i.port, tlsPort, backend, "withdrawn") + ingress)
	i.until("the state without a Secret", func() bool { return i.state() == "withdrawn" })
	toRenewed.CloseIdleConnections()
	if got := ask(toRenewed, "gw.test"); !strings.Contains(got, "unrecognized name") {
		t.Errorf("the listener without its Secret: %s", got)
	}
	toIngress.CloseIdleConnections()
	if got := ask(toIngress, "in.test"); got != served {
		t.Errorf("the Ingress beside it: %s", got)
	}
	if metrics := i.get(i.metrics, "/metrics"); !strings.Contains(metrics, "\n"+`rauta_tls_names_closed{listener="default/gw/https"} 1`+"\n") {
		t.Error("the metrics don't tell that a hostname is closed")
	}
	if text := i.log.String(); strings.Contains(text, "PRIVATE") {
		t.Error("a key is in the log")
	}
}
