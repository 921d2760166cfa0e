//go:build linux

package dial

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"io"
	"math/big"
	"net"
	"testing"
	"time"

	"rauta.io/rauta/proxy/certs"
	"rauta.io/rauta/proxy/config"
	"rauta.io/rauta/proxy/loop"
	"rauta.io/rauta/proxy/upstream"
)

const name = "web.test"

// certificate makes one that signs itself, and its PEM.
func certificate(t *testing.T) (tls.Certificate, string) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), DNSNames: []string{name}, NotAfter: time.Now().Add(time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key},
		string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}))
}

// secured makes a cluster whose endpoint is spoken to with TLS.
func (r *rig) secured(settings config.Cluster, addr string) *upstream.Cluster {
	r.t.Helper()
	client, err := certs.NewClient(nil, new(certs.Store), settings.TLS)
	if err != nil {
		r.t.Fatal(err)
	}
	settings.Name = "default/web:443"
	c := upstream.NewCluster(settings, nil, 1, nil)
	c.SetTLS(client)
	c.SetEndpoints([]config.Endpoint{{Address: addr}})
	return c
}

// secureBackend speaks TLS with the settings and gives each connection to serve.
func secureBackend(t *testing.T, settings *tls.Config, serve func(*tls.Conn)) string {
	return backend(t, func(c net.Conn) {
		defer c.Close()
		s := tls.Server(c, settings)
		if s.Handshake() == nil {
			serve(s)
		}
	})
}

// holdSecure keeps a connection open until the peer closes it.
func holdSecure(c *tls.Conn) { _, _ = io.Copy(io.Discard, c) }

func TestTheAgreedProtocolChoosesTheEngine(t *testing.T) {
	r := newRig(t)
	pair, ca := certificate(t)
	for _, c := range []struct {
		protocol config.BackendProtocol
		speaks   []string
		engine   string
		detail   string
	}{
		{"", []string{"h2", "http/1.1"}, "http2", ""},
		{"", []string{"http/1.1"}, "http1", ""},
		{"", nil, "http1", ""},
		{config.BackendHTTP1, []string{"h2", "http/1.1"}, "http1", ""},
		{config.BackendH2, []string{"h2"}, "http2", ""},
		{config.BackendH2, nil, "", "tls_without_h2"},
		{config.BackendH2, []string{"http/1.1"}, "", "tls_refused_by_back_end"},
	} {
		addr := secureBackend(t, &tls.Config{Certificates: []tls.Certificate{pair}, NextProtos: c.speaks}, holdSecure)
		o := r.dial(r.secured(config.Cluster{Protocol: c.protocol, TLS: &config.BackendTLS{CA: ca, ServerName: name}}, addr))
		if o.engine != c.engine || o.failure.Detail != c.detail || c.engine == "" && o.failure.Cause != upstream.CauseTLS {
			t.Errorf("protocol %q, the back end speaks %q: %+v", c.protocol, c.speaks, o)
		}
	}
}

func TestAHandshakeThatFailsSaysWhy(t *testing.T) {
	pair, ca := certificate(t)
	_, otherCA := certificate(t)
	proves := &tls.Config{Certificates: []tls.Certificate{pair}}
	demands := &tls.Config{Certificates: []tls.Certificate{pair}, ClientAuth: tls.RequireAnyClientCert, MaxVersion: tls.VersionTLS12}
	for what, c := range map[string]struct {
		addr   string
		ca     string
		detail string
	}{
		"another authority":         {secureBackend(t, proves, holdSecure), otherCA, "tls_certificate_unknown_authority"},
		"a certificate is demanded": {secureBackend(t, demands, holdSecure), ca, "tls_refused_by_back_end"},
		"no TLS": {backend(t, func(c net.Conn) {
			_, _ = c.Write([]byte("HTTP/1.1 400 Bad Request\r\n\r\n"))
			hold(c)
		}), ca, "tls_not_spoken"},
		"closed at once": {backend(t, func(c net.Conn) { c.Close() }), ca, "tls_handshake_failed"},
	} {
		r := newRig(t)
		told := make(chan string, 8)
		r.upstream.Dialer.(*Dialer).OnTLSFailure = func(e *upstream.Endpoint, err error, failures int) {
			told <- e.ClusterName()
			if err == nil || failures != 1 {
				t.Errorf("%s: told %d failures, the last is %v", what, failures, err)
			}
		}
		cluster := r.secured(config.Cluster{TLS: &config.BackendTLS{CA: c.ca, ServerName: name}}, c.addr)
		for range 2 {
			f := r.dial(cluster).failure
			if f.Stage != upstream.StageConnect || f.Cause != upstream.CauseTLS || f.Detail != c.detail {
				t.Errorf("%s: %+v", what, f)
			}
		}
		if len(told) != 1 {
			t.Errorf("%s: people were told %d times of two failures", what, len(told))
		}
	}
}

func TestAHandshakeThatStallsEndsWithTheConnectTimeout(t *testing.T) {
	r := newRig(t)
	settings := config.Cluster{ConnectTimeout: config.Duration(50 * time.Millisecond), TLS: &config.BackendTLS{Unverified: true}}
	f := r.dial(r.secured(settings, backend(t, func(c net.Conn) { _, _ = io.Copy(io.Discard, c); c.Close() }))).failure
	if f.Stage != upstream.StageConnect || f.Cause != upstream.CauseConnectTimeout {
		t.Errorf("%+v", f)
	}
}

// TestStalledHandshakesDelayNobody: they hold no token, and do not count with those of clients.
func TestStalledHandshakesDelayNobody(t *testing.T) {
	r := newRig(t)
	pair, ca := certificate(t)
	settings := config.Cluster{Protocol: config.BackendHTTP1, PendingMax: 1 << 16, ConnectTimeout: config.Duration(10 * time.Minute), TLS: &config.BackendTLS{CA: ca, ServerName: name}}
	stalled := r.secured(settings, backend(t, func(c net.Conn) { _, _ = io.Copy(io.Discard, c); c.Close() }))
	fresh := r.secured(settings, secureBackend(t, &tls.Config{Certificates: []tls.Certificate{pair}}, holdSecure))
	const many = 500
	r.loop.Post(func() {
		for range many {
			stalled.Set().Endpoints()[0].Pool(r.upstream).Acquire(&upstream.Waiter{Sink: &sink{r.outcomes}})
		}
	})
	for deadline := time.Now().Add(giveUp); r.loop.Stats().Dialled.Open.Load() < many; time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("the handshakes have not begun")
		}
	}
	if o := r.dial(fresh); o.engine != "http1" {
		t.Errorf("%+v", o)
	}
	counted := make(chan int, 1)
	r.loop.Post(func() { counted <- r.loop.Handshakes() })
	if n := <-counted; n != 0 {
		t.Errorf("%d handshakes count as those of clients", n)
	}
}

// TestABackEndThatSpeaksFirstIsNotUsedWithTLSEither: session tickets are no bytes that count.
func TestABackEndThatSpeaksFirstIsNotUsedWithTLSEither(t *testing.T) {
	pair, ca := certificate(t)
	r := newRig(t)
	settings := config.Cluster{TLS: &config.BackendTLS{CA: ca, ServerName: name}}
	// The bytes leave with the end of the handshake, in one segment, so that they are there when it is complete.
	addr := backend(t, func(c net.Conn) {
		defer c.Close()
		gathered := &gather{Conn: c}
		s := tls.Server(gathered, &tls.Config{Certificates: []tls.Certificate{pair}, MaxVersion: tls.VersionTLS12})
		gathered.hold = func(sent int) bool { return sent > 1 } // what follows the first flight
		if s.Handshake() != nil {
			return
		}
		_, _ = s.Write([]byte("HTTP/1.1 200 OK\r\n\r\n"))
		gathered.release()
		holdSecure(s)
	})
	if f := r.dial(r.secured(settings, addr)).failure; f.Stage != upstream.StageConnect || f.Cause != upstream.CauseProtocol {
		t.Errorf("%+v", f)
	}
}

// gather is a connection that can hold back what is written.
type gather struct {
	net.Conn
	writes int
	held   []byte
	hold   func(writes int) bool
}

func (g *gather) Write(p []byte) (int, error) {
	if g.writes++; g.hold != nil && g.hold(g.writes) {
		g.held = append(g.held, p...)
		return len(p), nil
	}
	return g.Conn.Write(p)
}

func (g *gather) release() {
	g.hold = nil
	_, _ = g.Conn.Write(g.held)
}

func TestASecuredConnectionCarriesBytes(t *testing.T) {
	pair, ca := certificate(t)
	r := newRig(t)
	addr := secureBackend(t, &tls.Config{Certificates: []tls.Certificate{pair}}, func(c *tls.Conn) {
		buf := make([]byte, 5)
		if _, err := io.ReadFull(c, buf); err == nil {
			_, _ = c.Write(buf)
		}
		holdSecure(c)
	})
	o := r.dial(r.secured(config.Cluster{TLS: &config.BackendTLS{CA: ca, ServerName: name}}, addr))
	r.loop.Post(func() { o.conn.Write([]byte("hello")) })
	select {
	case o = <-r.outcomes:
		if o.read != "hello" || o.events&loop.Readable == 0 {
			t.Errorf("%+v", o)
		}
	case <-time.After(giveUp):
		t.Fatal("nothing came back")
	}
}
