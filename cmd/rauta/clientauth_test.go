package main

import (
	"bufio"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"io"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"rauta.io/rauta/internal/testrig"
)

// clientAuthority makes the certificates of clients.
type clientAuthority struct {
	t    *testing.T
	key  *ecdsa.PrivateKey
	cert *x509.Certificate
}

func newClientAuthority(t *testing.T) *clientAuthority {
	t.Helper()
	a := &clientAuthority{t: t}
	a.key, a.cert = a.issue(&x509.Certificate{IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign})
	return a
}

func (a *clientAuthority) issue(template *x509.Certificate) (*ecdsa.PrivateKey, *x509.Certificate) {
	a.t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		a.t.Fatal(err)
	}
	template.SerialNumber, template.NotBefore, template.NotAfter = big.NewInt(1), time.Now().Add(-time.Hour), time.Now().Add(time.Hour)
	parent, signer := a.cert, a.key
	if parent == nil {
		parent, signer = template, key
	}
	der, err := x509.CreateCertificate(rand.Reader, template, parent, key.Public(), signer)
	if err != nil {
		a.t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		a.t.Fatal(err)
	}
	return key, cert
}

// client is what a client of the name shows.
func (a *clientAuthority) client(name string) *tls.Certificate {
	key, cert := a.issue(&x509.Certificate{
		Subject: pkix.Name{CommonName: name}, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
	})
	return &tls.Certificate{Certificate: [][]byte{cert.Raw}, PrivateKey: key}
}

// bundle is a ConfigMap with the authority.
func (a *clientAuthority) bundle(name string) string {
	text := string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: a.cert.Raw}))
	return "---\napiVersion: v1\nkind: ConfigMap\nmetadata: {name: " + name + "}\ndata:\n  ca.crt: |\n    " +
		strings.ReplaceAll(strings.TrimSpace(text), "\n", "\n    ") + "\n"
}

// ingressFor is an Ingress with TLS for a host, whose Secret has the same name as it.
func ingressFor(name, host, annotations string) string {
	return "---\napiVersion: networking.k8s.io/v1\nkind: Ingress\nmetadata:\n  name: " + name + "\n  annotations: {" + annotations + "}\n" +
		"spec:\n  ingressClassName: rauta\n  tls: [{hosts: [" + host + "], secretName: " + name + "}]\n" +
		"  rules: [{host: " + host + ", http: {paths: [{path: /, pathType: Prefix, backend: {service: {name: app, port: {number: 80}}}}]}}]\n"
}

// TestAnIngressAsksItsClientsForCertificates: from the files to what the back end is told, and when the authorities change.
func TestAnIngressAsksItsClientsForCertificates(t *testing.T) {
	backend := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprintf(w, "%s %s", r.Header.Get("SSL-Client-Verify"), r.Header.Get("SSL-Client-Subject-DN"))
	}))
	t.Cleanup(backend.Close)
	addr := backend.Listener.Addr().String()
	tlsPort, httpPort := testrig.FreePort(t), testrig.FreePort(t)
	i := start(t, addr, "--http-port", fmt.Sprint(httpPort), "--https-port", fmt.Sprint(tlsPort))
	members, strangers := newClientAuthority(t), newClientAuthority(t)
	inSecret, toIn := tlsSecret(t, "in", "in.test", tlsPort)
	openSecret, toOpen := tlsSecret(t, "open", "open.test", tlsPort)
	write := func(state, bundle string) {
		t.Helper()
		i.write(configuration(i.port, addr, state) + inSecret + openSecret + bundle + ingressFor("open", "open.test", "") +
			ingressFor("in", "in.test", "rauta.io/client-ca: configmap/clients, rauta.io/client-forward: 'verify,subject'"))
		i.until("the state "+state, func() bool { return i.state() == state })
	}
	ask := func(client *http.Client, host string) string {
		req, _ := http.NewRequest("GET", "https://"+host+"/", nil)
		req.Header.Set("SSL-Client-Verify", "SUCCESS")
		req.Header.Set("SSL-Client-Subject-DN", "CN=root")
		resp, err := client.Do(req)
		if err != nil {
			return err.Error()
		}
		defer resp.Body.Close()
		body, _ := io.ReadAll(resp.Body)
		return strings.TrimSpace(fmt.Sprint(resp.StatusCode, " ", string(body)))
	}
	showing := func(client *http.Client, cert *tls.Certificate) *http.Client {
		transport := client.Transport.(*http.Transport).Clone()
		if transport.TLSClientConfig.Certificates = nil; cert != nil {
			transport.TLSClientConfig.Certificates = []tls.Certificate{*cert}
		}
		t.Cleanup(transport.CloseIdleConnections)
		return &http.Client{Transport: transport, Timeout: waitMax}
	}
	refused := func(what string, client *http.Client) {
		t.Helper()
		// A client of TLS 1.3 may send its request before it hears of the refusal, and then sees a reset.
		if got := ask(client, "in.test"); !strings.HasPrefix(got, "Get ") {
			t.Errorf("%s: %s, want no answer at all", what, got)
		}
	}

	write("members", members.bundle("clients"))
	member := showing(toIn, members.client("alice"))
	i.until("a member to get in", func() bool { return ask(member, "in.test") == "200 SUCCESS CN=alice" })
	refused("nobody", showing(toIn, nil))
	refused("a stranger", showing(toIn, strangers.client("mallory")))
	if got := ask(toOpen, "open.test"); got != "200" {
		t.Errorf("a host that asks for nothing: %q, where the client says who it is", got)
	}
	if got := overConnectionTo(t, toOpen, "open.test", "in.test"); got != 421 {
		t.Errorf("a request for the host over a connection for another: %d, want 421", got)
	}
	i.until("the redirect of plain text", func() bool { return overPlainHTTP(t, httpPort, "in.test") == 308 })

	write("strangers", strangers.bundle("clients"))
	if got := ask(member, "in.test"); !strings.HasPrefix(got, "421 ") {
		t.Errorf("a member on the connection from before: %s, want 421", got)
	}
	refused("a member", showing(toIn, members.client("alice")))
	if got := ask(showing(toIn, strangers.client("mallory")), "in.test"); got != "200 SUCCESS CN=mallory" {
		t.Errorf("whom the new authority knows: %s", got)
	}

	write("without authorities", "")
	refused("whom no authority is there for", showing(toIn, strangers.client("mallory")))
	if got := ask(showing(toOpen, nil), "open.test"); got != "200" {
		t.Errorf("the host beside it: %s", got)
	}
}

// overConnectionTo makes the handshake for a name and asks for another host.
func overConnectionTo(t *testing.T, client *http.Client, name, host string) int {
	t.Helper()
	transport := client.Transport.(*http.Transport)
	raw, err := transport.DialContext(context.Background(), "tcp", "")
	if err != nil {
		t.Fatal(err)
	}
	return statusOver(t, tls.Client(raw, &tls.Config{RootCAs: transport.TLSClientConfig.RootCAs, ServerName: name}), host)
}

// overPlainHTTP is the status of a request without TLS, 0 while nobody listens.
func overPlainHTTP(t *testing.T, port uint16, host string) int {
	t.Helper()
	c, err := net.Dial("tcp", fmt.Sprintf("127.0.0.1:%d", port))
	if err != nil {
		return 0
	}
	return statusOver(t, c, host)
}

func statusOver(t *testing.T, c net.Conn, host string) int {
	t.Helper()
	defer c.Close()
	c.SetDeadline(time.Now().Add(waitMax))
	fmt.Fprintf(c, "GET / HTTP/1.1\r\nHost: %s\r\n\r\n", host)
	resp, err := http.ReadResponse(bufio.NewReader(c), nil)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode
}
