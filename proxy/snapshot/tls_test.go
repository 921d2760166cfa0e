package snapshot

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"math/big"
	"strings"
	"testing"

	"rauta.io/rauta/proxy/config"
)

func newCertificate(t *testing.T, name string) config.Certificate {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), DNSNames: []string{name}}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	private, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	return config.Certificate{
		Name: name, Chain: string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})),
		Key: pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: private}),
	}
}

// secured is two with HTTPS listeners for a.test and b.test on port 8443, each with its own certificate.
func secured(certificates ...config.Certificate) *config.Config {
	c := two()
	for _, hostname := range []string{"a.test", "b.test"} {
		c.Listeners = append(c.Listeners, config.Listener{
			Name: hostname, Port: 8443, Protocol: config.ProtocolHTTPS, Hostname: hostname, Attached: attach("r0"),
			TLS: &config.TLS{Certificates: []string{hostname}},
		})
	}
	c.Certificates = certificates
	return c
}

func newSecureLive() *Live {
	return NewLive(Options{Workers: 2, NextProtos: []string{"h2", "http/1.1"}})
}

func TestHTTPSListenersHaveAPortOnlyIfTLSIsServed(t *testing.T) {
	a, b := newCertificate(t, "a.test"), newCertificate(t, "b.test")
	if s := publish(t, newLive(), secured(a, b)); at(s, 8443) != nil || at(s, 8001) == nil {
		t.Error("a data plane without TLS has a port for an HTTPS listener, or none for HTTP")
	}
	s := publish(t, newSecureLive(), secured(a, b))
	if p := at(s, 8443); p == nil || p.TLS == nil || len(p.Listeners) != 2 {
		t.Fatalf("the HTTPS port: %+v", p)
	}
	if at(s, 8001).TLS != nil {
		t.Error("a port for plain text has TLS")
	}
	p := at(s, 8443)
	if got := p.TLS.Config().NextProtos; len(got) != 2 || got[0] != "h2" {
		t.Errorf("protocols %q", got)
	}
	a1, _ := p.TLS.Realm("a.test")
	b1, _ := p.TLS.Realm("b.test")
	if a1 == b1 || !serves(p, "a.test") || !serves(p, "b.test") || serves(p, "c.test") {
		t.Error("the server names lead to the wrong listeners")
	}
	if got := match(s, 8443, "GET a.test/r0"); got != "a.test: r0/0" {
		t.Errorf("a request over HTTPS: %s", got)
	}
}

// serves reports whether handshakes for a name are accepted.
func serves(p *Port, name string) bool {
	_, open := p.TLS.Realm(name)
	return open
}

func TestABrokenCertificateClosesItsListenerAndNothingElse(t *testing.T) {
	a, b := newCertificate(t, "a.test"), newCertificate(t, "b.test")
	a.Key = b.Key
	c := secured(a, b)
	s, _, _, err := newSecureLive().Publish(c, nil)
	if err == nil || !strings.Contains(err.Error(), `certificates["a.test"]: read the certificate and its key`) {
		t.Errorf("reported: %v", err)
	}
	p := at(s, 8443)
	if serves(p, "a.test") || !serves(p, "b.test") || at(s, 8001) == nil {
		t.Error("the listener with the broken certificate is open, or another one is closed")
	}

	s, _, _, err = newSecureLive().Publish(secured(b), nil)
	if err == nil || !strings.Contains(err.Error(), `listeners["a.test"].tls.certificates[0]: certificate "a.test" does not exist`) {
		t.Errorf("reported: %v", err)
	}
	if p := at(s, 8443); serves(p, "a.test") || !serves(p, "b.test") {
		t.Error("the listener without its certificate is open, or another one is closed")
	}
}

func TestAPortIsEitherTLSOrPlainText(t *testing.T) {
	c := secured(newCertificate(t, "a.test"), newCertificate(t, "b.test"))
	c.Listeners[0].Port = 8443 // plain text, and first
	c.Listeners[0].Address = "::"
	s, _, _, err := newSecureLive().Publish(c, nil)
	if err == nil || strings.Count(err.Error(), `has protocol HTTP; use another port`) != 2 {
		t.Errorf("reported: %v", err)
	}
	if p := at(s, 8443); p == nil || p.TLS != nil || len(p.Listeners) != 1 {
		t.Errorf("the port: %+v", p)
	}
}

func TestACertificateThatChangesMakesANewTableAndKeepsTheRest(t *testing.T) {
	a, b := newCertificate(t, "a.test"), newCertificate(t, "b.test")
	l := newSecureLive()
	first := publish(t, l, secured(a, b))

	c := secured(a, b)
	c.Routes[2].Rules[0].BodyBytesMax = 1 // not on the HTTPS port
	second := publish(t, l, c)
	if at(first, 8443) != at(second, 8443) {
		t.Error("a change elsewhere made a new port")
	}

	renewed := secured(a, newCertificate(t, "b.test"))
	third := publish(t, l, renewed)
	before, after := at(second, 8443), at(third, 8443)
	if before == after || before.TLS == after.TLS {
		t.Error("the renewed certificate did not make a new table")
	}
	if third.certificates.Lookup("a.test") != first.certificates.Lookup("a.test") {
		t.Error("the other certificate was parsed anew")
	}
	if before.sites[0] != after.sites[0] || before.sites[1] != after.sites[1] {
		t.Error("the routing tables were built anew")
	}
	if third.Problems != nil {
		t.Error(third.Problems)
	}
}
