package blackbox

import (
	"bufio"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"io"
	"math/big"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/net/http2"

	"rauta.io/rauta/proxy/config"
	"rauta.io/rauta/proxy/server"
)

const (
	backendName  = "app.test"
	backendURI   = "spiffe://test/ns/default/sa/app"
	clientSecret = "default/client"
)

// issuer is an authority for back ends and their clients.
type issuer struct {
	t    *testing.T
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
	pem  string
}

func newIssuer(t *testing.T) *issuer {
	t.Helper()
	i := &issuer{t: t}
	pair := i.issue(&x509.Certificate{IsCA: true, BasicConstraintsValid: true})
	i.cert, i.key = pair.Leaf, pair.PrivateKey.(*ecdsa.PrivateKey)
	i.pem = string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: i.cert.Raw}))
	return i
}

// issue completes a template.
func (i *issuer) issue(template *x509.Certificate) tls.Certificate {
	i.t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		i.t.Fatal(err)
	}
	template.SerialNumber, template.NotBefore = big.NewInt(1), time.Now().Add(-time.Hour)
	if template.NotAfter.IsZero() {
		template.NotAfter = time.Now().Add(time.Hour)
	}
	parent, signer := template, key
	if i.cert != nil {
		parent, signer = i.cert, i.key
	}
	der, err := x509.CreateCertificate(rand.Reader, template, parent, key.Public(), signer)
	if err != nil {
		i.t.Fatal(err)
	}
	leaf, err := x509.ParseCertificate(der)
	if err != nil {
		i.t.Fatal(err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key, Leaf: leaf}
}

// serving is the side of a back end.
func (i *issuer) serving(template *x509.Certificate) *tls.Config {
	return &tls.Config{Certificates: []tls.Certificate{i.issue(template)}}
}

// named is a certificate for the name that the tests expect.
func named() *x509.Certificate { return &x509.Certificate{DNSNames: []string{backendName}} }

// trusting makes the data plane speak TLS to back ends of the issuer.
func (i *issuer) trusting() option {
	return withTLS(func(t *config.BackendTLS) { t.CA = i.pem })
}

func withTLS(f func(*config.BackendTLS)) option {
	return func(_ *server.Options, c *config.Config) {
		if c.Clusters[0].TLS == nil {
			c.Clusters[0].Protocol = config.BackendHTTP1
			c.Clusters[0].TLS = &config.BackendTLS{ServerName: backendName}
		}
		f(c.Clusters[0].TLS)
	}
}

// newTLSBackend is newBackend behind a handshake. It ends connections without close_notify unless serve does it.
func newTLSBackend(t *testing.T, settings *tls.Config, serve func(c *conn, s *tls.Conn)) *backend {
	t.Helper()
	return newBackend(t, func(c *conn) {
		s := tls.Server(c.Conn, settings)
		if s.Handshake() == nil {
			serve(&conn{s, bufio.NewReader(s), c.b, c.n}, s)
		}
	})
}

// handledTLS is a back end of net/http with TLS.
func handledTLS(t *testing.T, settings *tls.Config, h http.HandlerFunc) string {
	t.Helper()
	s := httptest.NewUnstartedServer(h)
	s.TLS, s.EnableHTTP2 = settings, slices.Contains(settings.NextProtos, "h2")
	s.StartTLS()
	t.Cleanup(s.Close)
	return s.Listener.Addr().String()
}

// echoed answers with the body, and says what was spoken.
func echoed(w http.ResponseWriter, req *http.Request) {
	body, _ := io.ReadAll(req.Body)
	if req.ContentLength >= 0 {
		w.Header().Set("Content-Length", fmt.Sprint(len(body)))
	}
	w.Header().Set("X-Spoken", req.Proto)
	w.Write(body)
}

func TestBodiesOfAllSizesGoBothWaysToABackEndWithTLS(t *testing.T) {
	onEveryEngine(t, func(t *testing.T) {
		ca := newIssuer(t)
		r := start(t, []string{handledTLS(t, ca.serving(named()), echoed)}, ca.trusting())
		echoBodies(t, &http.Transport{}, "http://"+r.addr, "HTTP/1.1")
	})
}

// TestTheBackEndChoosesTheProtocolInTheHandshake: HTTP/2 if it has it, unless one is demanded.
func TestTheBackEndChoosesTheProtocolInTheHandshake(t *testing.T) {
	ca := newIssuer(t)
	serve := func(protos ...string) string {
		settings := ca.serving(named())
		settings.NextProtos = protos
		return handledTLS(t, settings, echoed)
	}
	both, old, only2 := serve("h2", "http/1.1"), serve("http/1.1"), serve("h2")
	for _, c := range []struct {
		addr     string
		protocol config.BackendProtocol
		spoken   string // "" for 502
	}{
		{both, "", "HTTP/2.0"}, {old, "", "HTTP/1.1"}, {only2, "", "HTTP/2.0"},
		{both, config.BackendHTTP1, "HTTP/1.1"},
		{both, config.BackendH2, "HTTP/2.0"}, {old, config.BackendH2, ""},
	} {
		r := start(t, []string{c.addr}, ca.trusting(), func(_ *server.Options, cfg *config.Config) { cfg.Clusters[0].Protocol = c.protocol })
		got := r.dial().do("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\nhi")
		if c.spoken == "" {
			if got.StatusCode != 502 {
				t.Errorf("protocol %q: %d", c.protocol, got.StatusCode)
			}
			continue
		}
		if got.StatusCode != 200 || got.body != "hi" || got.Header.Get("X-Spoken") != c.spoken {
			t.Errorf("protocol %q: %d, %s spoken, want %s", c.protocol, got.StatusCode, got.Header.Get("X-Spoken"), c.spoken)
		}
		if c.spoken == "HTTP/2.0" && c.protocol == "" {
			echoBodies(t, &http.Transport{}, "http://"+r.addr, "HTTP/1.1")
		}
	}
}

// TestABackEndHearsTheSchemeOfItsOwnConnection: net/http of Go 1.27 forgets the TLS that it has spoken if the scheme is http, as
// x/net does here, and others refuse the request. What the client has used is told in X-Forwarded-Proto.
func TestABackEndHearsTheSchemeOfItsOwnConnection(t *testing.T) {
	ca := newIssuer(t)
	settings := ca.serving(named())
	settings.NextProtos = []string{"h2"}
	secure := newTLSBackend(t, settings, func(_ *conn, s *tls.Conn) {
		//lint:ignore SA1019 net/http of Go 1.26 in its place remembers the TLS whatever the scheme, and would prove nothing
		new(http2.Server).ServeConn(s, &http2.ServeConnOpts{Handler: http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
			fmt.Fprintf(w, "TLS %t, client %s", req.TLS != nil, req.Header.Get("X-Forwarded-Proto"))
		})})
	})
	r := start(t, []string{secure.addr}, ca.trusting(), func(_ *server.Options, c *config.Config) { c.Clusters[0].Protocol = config.BackendH2 })
	if got := r.dial().do(get); got.body != "TLS true, client http" {
		t.Errorf("from plain text to TLS: %d %q", got.StatusCode, got.body)
	}

	plain := newH2Backend(t, answeringH2)
	s := startTLS(t, plain.addr, overH2)
	s.dialTLS().wants("ok")
	if seen := plain.seen()[0]; !strings.Contains(seen, ":scheme: http\n") || !strings.Contains(seen, "x-forwarded-proto: https\n") {
		t.Errorf("from TLS to plain text the back end saw %q", seen)
	}
}

// TestAWebSocketOpensWhereTheBackEndWouldChooseHTTP2: most servers of HTTP/2 have no extended CONNECT (RFC 8441), and do
// WebSockets over HTTP/1.1.
func TestAWebSocketOpensWhereTheBackEndWouldChooseHTTP2(t *testing.T) {
	ca := newIssuer(t)
	settings := ca.serving(named())
	settings.NextProtos = []string{"h2", "http/1.1"}
	b := handledTLS(t, settings, func(w http.ResponseWriter, req *http.Request) {
		if req.Header.Get("Upgrade") == "" {
			io.WriteString(w, req.Proto)
			return
		}
		nc, rw, err := w.(http.Hijacker).Hijack()
		if err != nil {
			return
		}
		defer nc.Close()
		io.WriteString(nc, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\n")
		io.Copy(nc, rw)
	})
	r := start(t, []string{b}, ca.trusting(), func(_ *server.Options, c *config.Config) { c.Clusters[0].Protocol = "" })
	c := r.dial()
	if got := c.do(get); got.body != "HTTP/2.0" {
		t.Fatalf("%q is spoken", got.body)
	}
	if got := c.do("GET / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\n"); got.StatusCode != 101 {
		t.Fatalf("%d", got.StatusCode)
	}
	c.exchange("hello")
	if got := r.dial().do(get); got.body != "HTTP/2.0" {
		t.Errorf("afterwards %q is spoken", got.body)
	}
}

func TestConnectionsToABackEndWithTLSAreUsedAgainAndSessionsResumed(t *testing.T) {
	ca := newIssuer(t)
	var connections, resumed atomic.Int64
	closeAfter := make(chan bool, 16)
	b := newTLSBackend(t, ca.serving(named()), func(c *conn, s *tls.Conn) {
		connections.Add(1)
		if s.ConnectionState().DidResume {
			resumed.Add(1)
		}
		for c.head() != "" {
			c.write(ok)
			if <-closeAfter {
				s.Close()
				return
			}
		}
	})
	r := start(t, []string{b.addr}, ca.trusting(), func(o *server.Options, _ *config.Config) { o.Workers = 1 })
	c := r.dial()
	for _, last := range []bool{false, false, true, false} {
		closeAfter <- last
		if got := c.do(get); got.StatusCode != 200 || got.body != "ok" {
			t.Fatalf("%d %q", got.StatusCode, got.body)
		}
		if last {
			until(t, "the closed connection to be noticed", func() bool { return r.shows("rauta_loop_sockets{worker=\"0\"} 1") })
		}
	}
	if connections.Load() != 2 || resumed.Load() != 1 {
		t.Errorf("%d connections, %d of them resumed a session", connections.Load(), resumed.Load())
	}
}

// TestABackEndThatCanNotProveWhoItIsGetsNothing: not a byte of the request either.
func TestABackEndThatCanNotProveWhoItIsGetsNothing(t *testing.T) {
	onEveryEngine(t, func(t *testing.T) {
		ca, other := newIssuer(t), newIssuer(t)
		uri, err := url.Parse(backendURI)
		if err != nil {
			t.Fatal(err)
		}
		byURI := withTLS(func(t *config.BackendTLS) { t.SubjectAltNames = []config.SubjectAltName{{URI: backendURI}} })
		for what, c := range map[string]struct {
			settings *tls.Config
			option   option
			reason   string // "" if it is accepted
		}{
			"the right name":    {ca.serving(named()), nil, ""},
			"another authority": {other.serving(named()), nil, "tls_certificate_unknown_authority"},
			"another name":      {ca.serving(&x509.Certificate{DNSNames: []string{"other.test"}}), nil, "tls_certificate_wrong_name"},
			"expired": {ca.serving(&x509.Certificate{DNSNames: []string{backendName}, NotAfter: time.Now().Add(-time.Minute)}), nil,
				"tls_certificate_expired"},
			"the right URI":             {ca.serving(&x509.Certificate{URIs: []*url.URL{uri}}), byURI, ""},
			"the name, but not the URI": {ca.serving(named()), byURI, "tls_certificate_wrong_name"},
		} {
			b := newTLSBackend(t, c.settings, func(c *conn, _ *tls.Conn) { answering(ok)(c) })
			options := []option{ca.trusting()}
			if c.option != nil {
				options = append(options, c.option)
			}
			r := start(t, []string{b.addr}, options...)
			got := r.dial().do("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\nhi")
			switch {
			case c.reason == "" && got.StatusCode != 200:
				t.Errorf("%s: %d", what, got.StatusCode)
			case c.reason != "" && (got.StatusCode != 502 || len(b.seen()) > 0):
				t.Errorf("%s: %d, and the back end has seen %q", what, got.StatusCode, b.seen())
			case c.reason != "":
				until(t, what+": the reason "+c.reason, func() bool {
					return r.shows(fmt.Sprintf("rauta_exchange_reasons_total{reason=%q} 1", c.reason))
				})
			}
		}
	})
}

func TestAClientCertificateIsShownToABackEndThatDemandsOne(t *testing.T) {
	onEveryEngine(t, func(t *testing.T) {
		ca := newIssuer(t)
		pair := ca.issue(&x509.Certificate{DNSNames: []string{"rauta.test"}, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}})
		private, err := x509.MarshalPKCS8PrivateKey(pair.PrivateKey)
		if err != nil {
			t.Fatal(err)
		}
		own := func(_ *server.Options, c *config.Config) {
			c.Clusters[0].TLS.ClientCertificate = clientSecret
			c.Certificates = append(c.Certificates, config.Certificate{
				Name: clientSecret, Chain: string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: pair.Certificate[0]})),
				Key: config.Secret(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: private})),
			})
		}
		for _, version := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
			settings := ca.serving(named())
			settings.NextProtos = []string{"h2", "http/1.1"}
			settings.ClientAuth, settings.ClientCAs, settings.MaxVersion = tls.RequireAndVerifyClientCert, x509.NewCertPool(), version
			settings.ClientCAs.AddCert(ca.cert)
			addr := handledTLS(t, settings, func(w http.ResponseWriter, req *http.Request) {
				io.WriteString(w, req.TLS.PeerCertificates[0].DNSNames[0])
			})
			if got := start(t, []string{addr}, ca.trusting(), own).dial().do(get); got.StatusCode != 200 || got.body != "rauta.test" {
				t.Errorf("version %x, with one: %d %q", version, got.StatusCode, got.body)
			}
			for _, protocol := range []config.BackendProtocol{config.BackendHTTP1, config.BackendH2} {
				if protocol == config.BackendH2 && planeOf(t) != nil {
					continue // it speaks HTTP/1 to back ends
				}
				r := start(t, []string{addr}, ca.trusting(), func(_ *server.Options, c *config.Config) { c.Clusters[0].Protocol = protocol })
				if got := r.dial().do(get); got.StatusCode != 502 {
					t.Errorf("version %x, %s, without: %d", version, protocol, got.StatusCode)
				}
				until(t, "the reason", func() bool { return r.shows(`rauta_exchange_reasons_total{reason="tls_refused_by_back_end"} 1`) })
			}
		}
	})
}

// TestAResponseOverTLSThatEndsWithoutCloseNotifyIsTruncated: somebody in between can make a FIN, but no close_notify.
func TestAResponseOverTLSThatEndsWithoutCloseNotifyIsTruncated(t *testing.T) {
	onEveryEngine(t, func(t *testing.T) {
		ca := newIssuer(t)
		const untilClose = "HTTP/1.1 200 OK\r\n\r\npart"
		for what, c := range map[string]struct {
			response string
			polite   bool
			whole    bool
		}{
			"until close, politely":          {untilClose, true, true},
			"until close, cut off":           {untilClose, false, false},
			"sized, cut off":                 {"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\npart", false, false},
			"sized, closed politely":         {"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\npart", true, false},
			"chunked, cut off":               {"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\npart\r\n", false, false},
			"sized and complete, then a FIN": {"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\npart", false, true},
		} {
			b := newTLSBackend(t, ca.serving(named()), func(conn *conn, s *tls.Conn) {
				conn.head()
				conn.write(c.response)
				if c.polite {
					s.Close()
				}
			})
			got := start(t, []string{b.addr}, ca.trusting()).dial().do(get)
			body := got.body == "part" || !c.whole && planeOf(t) != nil // fasthttp sends the first bytes of a sized body with the last
			if got.StatusCode != 200 || !body || (got.err == nil) != c.whole {
				t.Errorf("%s: %d %q, %v", what, got.StatusCode, got.body, got.err)
			}
		}
	})
}

func TestAHandshakeThatFailsOrStallsIsRetriedElsewhere(t *testing.T) {
	onEveryEngine(t, func(t *testing.T) {
		ca, other := newIssuer(t), newIssuer(t)
		impatient := func(_ *server.Options, c *config.Config) {
			c.Clusters[0].ConnectTimeout = config.Duration(200 * time.Millisecond)
		}
		good := newTLSBackend(t, ca.serving(named()), func(c *conn, _ *tls.Conn) { answering(ok)(c) })
		for what, bad := range map[string]*backend{
			"stalls":       newBackend(t, func(c *conn) { io.Copy(io.Discard, c) }),
			"is not right": newTLSBackend(t, other.serving(named()), func(c *conn, _ *tls.Conn) { answering(ok)(c) }),
			"is no TLS":    newBackend(t, func(c *conn) { c.write("HTTP/1.1 400 Bad Request\r\n\r\n") }),
		} {
			r := start(t, []string{good.addr, bad.addr}, ca.trusting(), impatient, func(o *server.Options, c *config.Config) {
				o.Workers = 1
				c.Clusters[0].Policy = config.PolicyRoundRobin
			})
			c := r.dial()
			for range 2 {
				if got := c.do("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n"); got.StatusCode != 200 {
					t.Errorf("one that %s: %d", what, got.StatusCode)
				}
			}
			if bad.connections() == 0 {
				t.Errorf("the one that %s was not tried", what)
			}
		}
		stalls := newBackend(t, func(c *conn) { io.Copy(io.Discard, c) })
		r := start(t, []string{stalls.addr}, ca.trusting(), impatient)
		if got := r.dial().do(get); got.StatusCode != 503 {
			t.Errorf("nowhere else: %d", got.StatusCode)
		}
		until(t, "the reason", func() bool { return r.shows(`rauta_exchange_reasons_total{reason="connect_timeout"} 1`) })
	})
}

// TestAnotherTLSPolicyAppliesToTheNextRequest: pooled connections and sessions of the old one are not used again.
func TestAnotherTLSPolicyAppliesToTheNextRequest(t *testing.T) {
	onEveryEngine(t, func(t *testing.T) {
		ca, other := newIssuer(t), newIssuer(t)
		ended := make(chan bool, 8)
		b := newTLSBackend(t, ca.serving(named()), func(c *conn, s *tls.Conn) {
			answering(fmt.Sprintf("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n%5v", s.ConnectionState().DidResume))(c)
			ended <- true
		})
		r := start(t, []string{b.addr}, ca.trusting(), func(o *server.Options, _ *config.Config) { o.Workers = 1 })
		c := r.dial()
		wants := func(what string, status int, body string) {
			t.Helper()
			if got := c.do(get); got.StatusCode != status || body != "" && got.body != body {
				t.Fatalf("%s: %d %q", what, got.StatusCode, got.body)
			}
		}
		change := func(f func(*config.BackendTLS)) {
			t.Helper()
			next := *r.config
			next.Clusters = append([]config.Cluster(nil), r.config.Clusters...)
			settings := *next.Clusters[0].TLS
			f(&settings)
			next.Clusters[0].TLS = &settings
			r.config = &next
			r.publish(b.addr)
		}
		wants("at first", 200, "false")
		wants("again", 200, "false")
		change(func(s *config.BackendTLS) { s.CA = other.pem })
		wants("with another authority", 502, "")
		select {
		case <-ended:
		case <-time.After(patience):
			t.Error("the connection of the old policy stays")
		}
		change(func(s *config.BackendTLS) { s.CA = ca.pem })
		wants("with the first authority again", 200, "false")
		change(func(s *config.BackendTLS) { s.CA = other.pem + ca.pem })
		wants("with both", 200, "false")
	})
}

func TestATunnelGoesToABackEndWithTLS(t *testing.T) {
	onEveryEngine(t, func(t *testing.T) {
		ca := newIssuer(t)
		b := newTLSBackend(t, ca.serving(named()), func(c *conn, s *tls.Conn) {
			c.head()
			c.write("HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\n")
			io.Copy(c, c.r)
			s.CloseWrite()
			io.Copy(io.Discard, c.r)
		})
		c := start(t, []string{b.addr}, ca.trusting()).dial()
		if got := c.do("GET / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\n"); got.StatusCode != 101 {
			t.Fatalf("%d", got.StatusCode)
		}
		sent := strings.Repeat("0123456789abcdef", 8<<10)
		go func() {
			io.WriteString(c.TCPConn, sent)
			c.CloseWrite()
		}()
		if got, err := io.ReadAll(c.r); string(got) != sent || err != nil {
			t.Errorf("%d bytes of %d came back, %v", len(got), len(sent), err)
		}
	})
}

// TestTheReferenceEngineSendsNothingWhereHTTP2OverTLSIsWanted: it speaks HTTP/1.1 only.
func TestTheReferenceEngineSendsNothingWhereHTTP2OverTLSIsWanted(t *testing.T) {
	ca := newIssuer(t)
	b := newBackend(t, func(c *conn) { c.head() })
	r := start(t, nil, func(o *server.Options, _ *config.Config) { o.Plane = server.Reference })
	next := *r.config
	next.Clusters = append([]config.Cluster(nil), r.config.Clusters...)
	ca.trusting()(nil, &next)
	next.Clusters[0].Protocol = config.BackendH2
	eps := config.Endpoints{"default/app:80": {{Address: b.addr}}}
	if err := r.server.Publish(&next, eps); err == nil || !strings.Contains(err.Error(), "does not speak HTTP/2 to back ends") {
		t.Errorf("publish: %v", err)
	}
	if got := r.dial().do(get); got.StatusCode != 500 || b.connections() != 0 {
		t.Errorf("%d, %d connections to the back end", got.StatusCode, b.connections())
	}
}
