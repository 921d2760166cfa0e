package blackbox

import (
	"bufio"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"syscall"
	"testing"
	"time"

	"rauta.io/rauta/fastpath"
	"rauta.io/rauta/proxy/config"
	"rauta.io/rauta/proxy/server"
)

// mixedRig has HTTPS, TLS that ends here and TLS that passes through on one port: https.test is an HTTP back end,
// ends.test an echo of plain bytes, and *.pass.test a TLS server.
type mixedRig struct {
	*rig
	roots    *x509.CertPool
	plain    *backend
	secure   *backend
	received chan string // what plain connections said before their end
}

// tlsBackend says hello and its server name to every connection, and echoes.
func tlsBackend(t *testing.T, certificate config.Certificate) *backend {
	t.Helper()
	pair, err := tls.X509KeyPair([]byte(certificate.Chain), certificate.Key.Reveal())
	if err != nil {
		t.Fatal(err)
	}
	return newBackend(t, func(c *conn) {
		s := tls.Server(c, &tls.Config{Certificates: []tls.Certificate{pair}, NextProtos: []string{"imap"}})
		if s.Handshake() != nil {
			return
		}
		fmt.Fprintf(s, "hello %s\n", s.ConnectionState().ServerName)
		io.Copy(s, s)
		s.CloseWrite()
	})
}

func startMixed(t *testing.T, options ...option) *mixedRig {
	t.Helper()
	ours, leaf := newCertificate(t, 1, "https.test", "ends.test")
	theirs, theirLeaf := newCertificate(t, 2, "*.pass.test")
	m := &mixedRig{roots: x509.NewCertPool(), received: make(chan string, 100)}
	m.roots.AddCert(leaf)
	m.roots.AddCert(theirLeaf)
	m.plain = newBackend(t, func(c *conn) {
		line, _ := c.r.ReadString('\n')
		fmt.Fprintf(c, "plain %s", line)
		rest, err := io.ReadAll(c.r)
		m.received <- fmt.Sprintf("%s %v", rest, err != nil)
	})
	m.secure = tlsBackend(t, theirs)
	http := newBackend(t, answering(ok))
	mix := func(_ *server.Options, c *config.Config) {
		port := c.Listeners[0].Port
		named := func(hostname, route string) []config.Attachment {
			return []config.Attachment{{Route: route, Hostnames: []string{hostname}}}
		}
		ends := &config.TLS{Certificates: []string{ours.Name}}
		c.Listeners = []config.Listener{
			{Name: "https", Port: port, Protocol: config.ProtocolHTTPS, Hostname: "https.test", TLS: ends, Attached: named("https.test", c.Routes[0].Name)},
			{Name: "ends", Port: port, Protocol: config.ProtocolTLS, Hostname: "ends.test", TLS: ends, Attached: named("ends.test", "tlsroute/d/ends")},
			{Name: "pass", Port: port, Protocol: config.ProtocolTLS, Hostname: "*.test", Passthrough: true, Attached: named("*.pass.test", "tlsroute/d/pass")},
		}
		c.Certificates = []config.Certificate{ours}
		for _, name := range []string{"ends", "pass"} {
			c.L4Routes = append(c.L4Routes, config.L4Route{
				Name: "tlsroute/d/" + name, Source: config.Source{Kind: "TLSRoute", Namespace: "d", Name: name},
				Backends: []config.Backend{{Cluster: "d/" + name + ":1", Weight: 1}},
			})
			c.Clusters = append(c.Clusters, config.Cluster{Name: "d/" + name + ":1"})
		}
	}
	m.rig = start(t, nil, append([]option{mix}, options...)...)
	err := m.server.Publish(m.config, config.Endpoints{
		"default/app:80": {{Address: http.addr}}, "d/ends:1": {{Address: m.plain.addr}}, "d/pass:1": {{Address: m.secure.addr}},
	})
	if err != nil {
		t.Fatal(err)
	}
	return m
}

// bytewise sends every byte in a segment of its own as far as TCP lets it.
type bytewise struct{ net.Conn }

func (b bytewise) Write(p []byte) (int, error) {
	for i := range p {
		if _, err := b.Conn.Write(p[i : i+1]); err != nil {
			return i, err
		}
	}
	return len(p), nil
}

func (m *mixedRig) secureTo(name string, over net.Conn, protos ...string) (*tls.Conn, error) {
	c := tls.Client(over, &tls.Config{RootCAs: m.roots, ServerName: name, NextProtos: protos})
	return c, c.Handshake()
}

func (m *mixedRig) mustReach(name string, over net.Conn, protos ...string) *tls.Conn {
	m.t.Helper()
	c, err := m.secureTo(name, over, protos...)
	if err != nil {
		m.t.Fatalf("%s: %v", name, err)
	}
	return c
}

func TestThePortOfManyModesServesEachServerNameInItsOwn(t *testing.T) {
	m := startMixed(t)
	for name, over := range map[string]func(net.Conn) net.Conn{
		"whole":     func(c net.Conn) net.Conn { return c },
		"bytewise":  func(c net.Conn) net.Conn { return bytewise{c} },
		"fragments": func(c net.Conn) net.Conn { return &refragmented{Conn: c, size: 3} },
	} {
		t.Run(name, func(t *testing.T) {
			c := m.mustReach("https.test", over(m.dial().TCPConn), "http/1.1")
			fmt.Fprint(c, "GET / HTTP/1.1\r\nHost: https.test\r\n\r\n")
			resp, err := http.ReadResponse(bufio.NewReader(c), nil)
			if err != nil || resp.StatusCode != 200 || c.ConnectionState().NegotiatedProtocol != "http/1.1" {
				t.Fatalf("HTTPS: %v, %v", resp, err)
			}
			c = m.mustReach("ends.test", over(m.dial().TCPConn), "h2", "http/1.1")
			fmt.Fprint(c, "hi\n")
			if line, err := bufio.NewReader(c).ReadString('\n'); line != "plain hi\n" || err != nil {
				t.Errorf("TLS that ends here: %q, %v", line, err)
			}
			if p := c.ConnectionState().NegotiatedProtocol; p != "" {
				t.Errorf("the protocol %q was agreed on for bytes that nobody looks into", p)
			}
			c = m.mustReach("A.Pass.Test", over(m.dial().TCPConn), "imap")
			r := bufio.NewReader(c)
			if line, err := r.ReadString('\n'); line != "hello A.Pass.Test\n" || err != nil {
				t.Errorf("TLS that passes: %q, %v", line, err)
			}
			fmt.Fprint(c, "echo\n")
			if line, err := r.ReadString('\n'); line != "echo\n" || err != nil {
				t.Errorf("TLS that passes: %q, %v", line, err)
			}
			if p := c.ConnectionState().NegotiatedProtocol; p != "imap" {
				t.Errorf("the back end's protocol is %q", p)
			}
		})
	}
}

// TestANameThatNobodyHasReachesNoBackEnd: neither by way of another listener nor of another route.
func TestANameThatNobodyHasReachesNoBackEnd(t *testing.T) {
	m := startMixed(t)
	for _, name := range []string{"other.test", "test", "https.example", "x.ends.test", "pass.test", ""} {
		c := tls.Client(m.dial().TCPConn, &tls.Config{InsecureSkipVerify: true, ServerName: name})
		err := c.Handshake()
		if err == nil || err.Error() != "remote error: tls: unrecognized name" {
			t.Errorf("%q: %v", name, err)
		}
	}
	if m.secure.connections()+m.plain.connections() > 0 {
		t.Error("a back end was reached")
	}
	m.settles(`rauta_l4_connections_total{route="none",reason="no_route"}`, "6")
	for _, bytes := range []string{"GET / HTTP/1.1\r\n\r\n", "\x16\x03\x01\x00\x04\x02\x00\x00\x00", "\x16\x03\x01\x00\x04\x01\x00\x00\x00"} {
		c := m.dial()
		c.send(bytes)
		if rest, closed := c.closedByPeer(); !closed || len(rest) > 0 && rest[0] != 21 {
			t.Errorf("%q: %q", bytes, rest)
		}
	}
	m.quiet()
}

// TestWhereAllPassesThroughNobodySpeaksTLSToClients: not even to say that a name has no route. (Gateway API conformance,
// TLSRouteHostnameIntersection.)
func TestWhereAllPassesThroughNobodySpeaksTLSToClients(t *testing.T) {
	m := startMixed(t, func(_ *server.Options, c *config.Config) { c.Listeners = c.Listeners[2:] })
	for _, name := range []string{"other.test", "elsewhere.example", ""} {
		c := tls.Client(m.dial().TCPConn, &tls.Config{InsecureSkipVerify: true, ServerName: name})
		if err := c.Handshake(); err == nil || !errors.Is(err, syscall.ECONNRESET) && !errors.Is(err, io.EOF) {
			t.Errorf("%q: %v", name, err)
		}
	}
	if m.secure.connections() > 0 {
		t.Error("a back end was reached")
	}
	if _, err := m.secureTo("a.pass.test", m.dial().TCPConn); err != nil {
		t.Errorf("a name that passes: %v", err)
	}
}

func TestARequestForANameThatIsForwardedIsMisdirected(t *testing.T) {
	m := startMixed(t)
	for host, status := range map[string]int{"https.test": 200, "ends.test": 421, "a.pass.test": 421} {
		c := m.mustReach("https.test", m.dial().TCPConn, "http/1.1")
		fmt.Fprintf(c, "GET / HTTP/1.1\r\nHost: %s\r\n\r\n", host)
		resp, err := http.ReadResponse(bufio.NewReader(c), nil)
		if err != nil || resp.StatusCode != status {
			t.Errorf("%s: %v, %v, want %d", host, resp, err, status)
		}
	}
}

func TestClientsThatStallInTheirHelloAreCutOff(t *testing.T) {
	m := startMixed(t, limits(func(l *fastpath.Limits) { l.HeadTimeout = int64(500 * time.Millisecond) }))
	for _, part := range []string{"", "\x16", "\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"} {
		c := m.dial()
		c.send(part)
		if _, closed := c.closedByPeer(); !closed {
			t.Errorf("after %d bytes the connection stays", len(part))
		}
	}
	c := m.mustReach("a.pass.test", m.dial().TCPConn) // but a tunnel is not
	r := bufio.NewReader(c)
	r.ReadString('\n')
	time.Sleep(800 * time.Millisecond)
	fmt.Fprint(c, "late\n")
	if line, err := r.ReadString('\n'); line != "late\n" || err != nil {
		t.Errorf("%q, %v", line, err)
	}
}

// TestTheEndOfADecryptedStreamIsPassedOnAsWhatItIs: close_notify is an end, a connection that just stops is none.
func TestTheEndOfADecryptedStreamIsPassedOnAsWhatItIs(t *testing.T) {
	m := startMixed(t)
	c := m.mustReach("ends.test", m.dial().TCPConn)
	fmt.Fprint(c, "a\nwhole")
	c.CloseWrite()
	if all, err := io.ReadAll(c); string(all) != "plain a\n" || err != nil {
		t.Errorf("%q, %v", all, err)
	}
	if got := <-m.received; got != "whole false" {
		t.Errorf("the back end got %q", got)
	}
	raw := m.dial()
	c = m.mustReach("ends.test", raw.TCPConn)
	fmt.Fprint(c, "b\npart")
	io.ReadFull(c, make([]byte, len("plain b\n")))
	raw.CloseWrite()
	if got := <-m.received; !strings.HasSuffix(got, "true") {
		t.Errorf("the back end takes %q for all", got)
	}
	m.settles(`rauta_l4_connections_total{route="tlsroute/d/ends",reason="closed"}`, "1")
	m.settles(`rauta_l4_connections_total{route="tlsroute/d/ends",reason="client_reset"}`, "1")
}

func TestAPROXYHeaderComesBeforeTheHello(t *testing.T) {
	m := startMixed(t, func(_ *server.Options, c *config.Config) {
		for i := range c.Listeners {
			c.Listeners[i].ProxyProtocol = &config.ProxyProtocol{From: []string{"127.0.0.0/8"}}
		}
	})
	for _, name := range []string{"a.pass.test", "ends.test"} {
		raw := m.dial()
		raw.send("PROXY TCP4 192.0.2.7 10.0.0.1 12345 443\r\n")
		c := m.mustReach(name, raw.TCPConn)
		fmt.Fprint(c, "x\n")
		if line, err := bufio.NewReader(c).ReadString('\n'); line == "" || err != nil {
			t.Errorf("%s: %q, %v", name, line, err)
		}
	}
	if _, err := m.secureTo("a.pass.test", m.dial().TCPConn); err == nil {
		t.Error("a connection without a header was served")
	}
}

func TestLargeTransfersOverEveryModeArriveWhole(t *testing.T) {
	m := startMixed(t)
	c := m.mustReach("a.pass.test", m.dial().TCPConn)
	r := bufio.NewReader(c)
	r.ReadString('\n')
	const total = 16 << 20
	go func() {
		piece := strings.Repeat("0123456789abcdef", 4<<10)
		for sent := 0; sent < total; sent += len(piece) {
			io.WriteString(c, piece)
		}
		c.CloseWrite()
	}()
	if n, err := io.Copy(io.Discard, r); n != total || err != nil {
		t.Errorf("%d of %d bytes, %v", n, total, err)
	}
	c.Close()
	m.settles(`rauta_l4_connections_total{route="tlsroute/d/pass",reason="closed"}`, "1")
}

// refragmented spreads the first record over records of size bytes (RFC 8446 section 5.1).
type refragmented struct {
	net.Conn
	size int
	done bool
}

func (r *refragmented) Write(p []byte) (int, error) {
	if r.done || len(p) < 5 || p[0] != 22 {
		return r.Conn.Write(p)
	}
	r.done = true
	var out []byte
	for m := p[5:]; len(m) > 0; {
		n := min(r.size, len(m))
		out = append(append(out, 22, 3, 1, 0, byte(n)), m[:n]...)
		m = m[n:]
	}
	_, err := r.Conn.Write(out)
	return len(p), err
}

// TestWhatWasDecryptedIsEncryptedAgainWhereTheBackEndAsksForIt: never does it go on in plain text, or to somebody else.
func TestWhatWasDecryptedIsEncryptedAgainWhereTheBackEndAsksForIt(t *testing.T) {
	m := startMixed(t)
	theirs, _ := newCertificate(t, 3, "inner.test")
	secure := tlsBackend(t, theirs)
	both := *m.config
	both.L4Routes = append([]config.L4Route(nil), both.L4Routes...)
	publish := func(endpoint, name string) {
		t.Helper()
		both.Clusters = append([]config.Cluster(nil), m.config.Clusters...)
		both.Clusters = append(both.Clusters, config.Cluster{
			Name: "d/secured:1", TLS: &config.BackendTLS{CA: theirs.Chain, ServerName: name},
		})
		for i := range both.L4Routes {
			both.L4Routes[i].Backends = []config.Backend{{Cluster: "d/secured:1", Weight: 1}}
		}
		own := both
		if err := m.server.Publish(&own, config.Endpoints{"d/secured:1": {{Address: endpoint}}}); err != nil {
			t.Fatal(err)
		}
	}
	publish(secure.addr, "inner.test")
	c := m.mustReach("ends.test", m.dial().TCPConn)
	r := bufio.NewReader(c)
	if line, err := r.ReadString('\n'); line != "hello inner.test\n" || err != nil {
		t.Fatalf("%q, %v", line, err)
	}
	message := strings.Repeat("x", 300_000) + "\n"
	go io.WriteString(c, message)
	if line, err := r.ReadString('\n'); line != message || err != nil {
		t.Fatalf("%d bytes came back, %v", len(line), err)
	}
	c.CloseWrite()
	if rest, err := io.ReadAll(r); len(rest) > 0 || err != nil {
		t.Errorf("the end: %q, %v", rest, err)
	}
	publish(m.secure.addr, "inner.test") // what passes is not looked into, whatever its back end asks for
	m.roots.AppendCertsFromPEM([]byte(theirs.Chain))
	passes := m.mustReach("a.pass.test", m.dial().TCPConn)
	if line, err := bufio.NewReader(passes).ReadString('\n'); line != "hello a.pass.test\n" || err != nil {
		t.Errorf("what passes through: %q, %v", line, err)
	}
	passes.Close()
	for reason, back := range map[string][2]string{
		"tls_certificate_wrong_name": {secure.addr, "other.test"}, "tls_certificate_unknown_authority": {m.secure.addr, "a.pass.test"},
		"tls_not_spoken": {newBackend(t, func(c *conn) { c.write("220 plain\r\n"); io.ReadAll(c.r) }).addr, "inner.test"},
	} {
		publish(back[0], back[1])
		c := m.mustReach("ends.test", m.dial().TCPConn)
		fmt.Fprint(c, "secret\n")
		if b, err := io.ReadAll(c); len(b) > 0 || err == nil {
			t.Errorf("%s: %q, %v", reason, b, err)
		}
		m.settles(`rauta_l4_connections_total{route="tlsroute/d/ends",reason="`+reason+`"}`, "1")
	}
	m.quiet()
}

// TestARouteForDecryptedBytesIsGuardedByClientCertificatesToo: not a byte reaches its back end without one.
func TestARouteForDecryptedBytesIsGuardedByClientCertificatesToo(t *testing.T) {
	ca := newClientCA(t)
	m := startMixed(t, func(_ *server.Options, c *config.Config) {
		guarded := *c.Listeners[1].TLS
		guarded.ClientAuth = &config.ClientAuth{Mode: config.ClientAuthRequire, CA: ca.pem}
		c.Listeners[1].TLS = &guarded
	})
	for name, certificates := range map[string][]tls.Certificate{
		"none": nil, "foreign": {newClientCA(t).issue("mallory")}, "ours": {ca.issue("alice")},
	} {
		before := m.plain.connections()
		c := tls.Client(m.dial().TCPConn, &tls.Config{
			RootCAs: m.roots, ServerName: "ends.test",
			GetClientCertificate: func(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
				if len(certificates) == 0 {
					return new(tls.Certificate), nil
				}
				return &certificates[0], nil
			},
		})
		fmt.Fprint(c, "hi\n")
		line, err := bufio.NewReader(c).ReadString('\n')
		if served := line == "plain hi\n" && err == nil; served != (name == "ours") {
			t.Errorf("with the certificate %q: %q, %v", name, line, err)
		}
		if name != "ours" && m.plain.connections() != before {
			t.Errorf("with the certificate %q the back end was reached", name)
		}
		c.Close()
	}
}

// TestAHelloThatIsTooLargeToBeReadIsNotForwarded: its name is found only by who decrypts.
func TestAHelloThatIsTooLargeToBeReadIsNotForwarded(t *testing.T) {
	m := startMixed(t)
	var protocols []string
	for i := range 200 {
		protocols = append(protocols, fmt.Sprintf("%03d%s", i, strings.Repeat("x", 200)))
	}
	c := m.mustReach("ends.test", m.dial().TCPConn, protocols...)
	fmt.Fprint(c, "hi\n")
	if line, err := bufio.NewReader(c).ReadString('\n'); line != "plain hi\n" || err != nil {
		t.Errorf("a name whose TLS ends here: %q, %v", line, err)
	}
	if _, err := m.secureTo("a.pass.test", m.dial().TCPConn, protocols...); err == nil || !strings.Contains(err.Error(), "unrecognized name") {
		t.Errorf("a name that passes: %v", err)
	}
	if m.secure.connections() > 0 {
		t.Error("a back end was reached")
	}
}
