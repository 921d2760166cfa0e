package exchange

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"math/big"
	"runtime"
	"slices"
	"testing"
	"time"
	"weak"

	"rauta.io/rauta/proxy/config"
	"rauta.io/rauta/proxy/message"
)

// newCertificate makes a certificate that signs itself.
func newCertificate(t *testing.T) config.Certificate {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotBefore: time.Now(), NotAfter: time.Now().Add(time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	private, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	return config.Certificate{
		Name:  "ns/cert",
		Chain: string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})),
		Key:   config.Secret(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: private})),
	}
}

func TestARequestForAnotherPolicyThanItsConnectionWasMadeForIsMisdirected(t *testing.T) {
	s := newSim(t, 1, func(c *config.Config) {
		c.Certificates = []config.Certificate{newCertificate(t)}
		first := c.Listeners[0]
		first.Protocol, first.TLS = config.ProtocolHTTPS, &config.TLS{Certificates: []string{"ns/cert"}}
		c.Listeners = nil
		for _, hostname := range []string{"a.test", "*.b.test", "c.test"} {
			l := first
			l.Name, l.Hostname = hostname, hostname
			c.Listeners = append(c.Listeners, l)
		}
	})
	for _, c := range []struct {
		serverName, host string
		status           int
	}{
		{"a.test", "a.test", 0},
		{"a.test", "A.TEST:443", 0},
		{"a.test", "c.test", 421},
		{"x.b.test", "y.b.test", 0}, // one listener, one policy
		{"x.b.test", "a.test", 421},
		{"a.test", "y.b.test", 421},
		{"", "a.test", 421},             // the client named no server, and no listener takes such clients any more
		{"unknown.test", "a.test", 421}, // the listener of the connection is gone
		{"a.test", "unknown.test", 404},
	} {
		client := s.request("GET /")
		client.x.Req.Authority = client.x.Req.StoreString(c.host)
		client.peer.Scheme, client.peer.ServerName = message.SchemeHTTPS, c.serverName
		client.start()
		switch {
		case c.status == 0 && client.status != 0:
			t.Errorf("%q on a connection for %q: %d", c.host, c.serverName, client.status)
		case c.status == 0:
			client.x.OnClientGone("test")
		case client.status != c.status:
			t.Errorf("%q on a connection for %q: %d, want %d", c.host, c.serverName, client.status, c.status)
		}
	}
}

// TestAConnectionKeepsNoGenerationInMemory: of thousands that are idle each may have had its last request in another.
func TestAConnectionKeepsNoGenerationInMemory(t *testing.T) {
	s := newSim(t, 1, func(c *config.Config) {
		c.Certificates = []config.Certificate{newCertificate(t)}
		c.Listeners[0].Protocol, c.Listeners[0].TLS = config.ProtocolHTTPS, &config.TLS{Certificates: []string{"ns/cert"}}
	})
	client := s.request("GET /")
	client.x.Req.Authority = client.x.Req.StoreString("a.test")
	client.peer.Scheme, client.peer.ServerName = message.SchemeHTTPS, "a.test"
	client.start()
	if client.status != 0 {
		t.Fatalf("status %d", client.status)
	}
	client.x.OnClientGone("test")
	former := weak.Make(s.w.Live.Current().Ports[0])
	next := *s.cfg
	next.Listeners, next.Routes = slices.Clone(next.Listeners), nil
	next.Listeners[0].Attached = nil
	if _, changed, _, err := s.w.Live.Publish(&next, nil); err != nil || !changed {
		t.Fatalf("changed %t: %v", changed, err)
	}
	s.port.Current(s.w.Live.Current())
	runtime.GC()
	if former.Value() != nil {
		t.Error("the port of the generation before is still in memory")
	}
	runtime.KeepAlive(client)
}

func TestRequestsOnAPlainConnectionAreNeverMisdirected(t *testing.T) {
	s := newSim(t, 1, func(c *config.Config) {
		c.Certificates = []config.Certificate{newCertificate(t)}
		c.Listeners[0].Hostname = "a.test"
		c.Listeners[0].Protocol, c.Listeners[0].TLS = config.ProtocolHTTPS, &config.TLS{Certificates: []string{"ns/cert"}}
	})
	client := s.request("GET /") // it came before the port spoke TLS
	client.x.Req.Authority = client.x.Req.StoreString("a.test")
	client.start()
	if client.status != 0 {
		t.Errorf("status %d", client.status)
	}
	client.x.OnClientGone("test")
}
