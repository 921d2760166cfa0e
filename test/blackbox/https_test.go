package blackbox

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"fmt"
	"io"
	mathrand "math/rand/v2"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"rauta.io/rauta/fastpath"
	"rauta.io/rauta/proxy/config"
	"rauta.io/rauta/proxy/server"
)

func TestATLSConnectionServesOneRequestAfterTheOther(t *testing.T) {
	r := startTLS(t, handled(t, func(w http.ResponseWriter, req *http.Request) {
		io.WriteString(w, req.Header.Get("X-Forwarded-Proto")+" "+req.Header.Get("X-Forwarded-For"))
	}))
	c := r.dialTLS()
	for range 5 {
		c.wants("https 127.0.0.1")
	}
	c.send(getOverTLS + getOverTLS + getOverTLS) // in one record
	for range 3 {
		if _, body, err := c.receive(); body != "https 127.0.0.1" || err != nil {
			t.Errorf("%q, %v", body, err)
		}
	}
	for i := range getOverTLS { // a record for every byte
		c.send(getOverTLS[i : i+1])
	}
	if _, body, err := c.receive(); body != "https 127.0.0.1" || err != nil {
		t.Errorf("%q, %v", body, err)
	}
}

func TestBodiesOfAllSizesGoBothWaysOverTLS(t *testing.T) {
	r := startTLS(t, handled(t, func(w http.ResponseWriter, req *http.Request) {
		body, _ := io.ReadAll(req.Body)
		if req.ContentLength >= 0 {
			w.Header().Set("Content-Length", fmt.Sprint(len(body)))
		}
		w.Write(body)
	}))
	for _, protocol := range []string{"HTTP/1.1", "HTTP/2.0"} {
		transport := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: r.roots, ServerName: "a.test"}, ForceAttemptHTTP2: protocol == "HTTP/2.0"}
		t.Run(protocol, func(t *testing.T) { echoBodies(t, transport, "https://"+r.addr, protocol) })
	}
}

// echoBodies sends bodies to an echo and compares what comes back.
func echoBodies(t *testing.T, transport *http.Transport, url, protocol string) {
	client := &http.Client{Transport: transport, Timeout: patience}
	defer client.CloseIdleConnections()
	source := mathrand.NewChaCha8([32]byte{7})
	for _, n := range []int{0, 1, 16 << 10, 100_000, 5 << 20} {
		sent := make([]byte, n)
		source.Read(sent)
		for _, chunked := range []bool{false, true} {
			var body io.Reader = bytes.NewReader(sent)
			if chunked {
				body = struct{ io.Reader }{body}
			}
			resp, err := client.Post(url, "", body)
			if err != nil {
				t.Fatal(err)
			}
			got, err := io.ReadAll(resp.Body)
			resp.Body.Close()
			if err != nil || !bytes.Equal(got, sent) || resp.Proto != protocol {
				t.Errorf("%d of %d bytes came back (chunked: %v), %v", len(got), n, chunked, err)
			}
		}
	}
}

func TestAClientThatReadsSlowlyGetsEverythingOverTLS(t *testing.T) {
	const size = 16 << 20
	r := startTLS(t, handled(t, func(w http.ResponseWriter, _ *http.Request) { w.Write(make([]byte, size)) }))
	raw := r.dial().TCPConn
	if err := raw.SetReadBuffer(128 << 10); err != nil {
		t.Fatal(err)
	}
	c := r.over(raw)
	c.send("GET / HTTP/1.1\r\nHost: a.test\r\nConnection: close\r\n\r\n")
	_, body, err := c.receive()
	if len(body) != size || err != nil {
		t.Errorf("%d bytes, %v", len(body), err)
	}
	if _, err := c.r.ReadByte(); err != io.EOF {
		t.Errorf("the connection ends with %v, want close_notify", err)
	}
}

func TestATruncatedRequestIsNotCompleteForTheBackEnd(t *testing.T) {
	for _, end := range []string{"close_notify", "FIN"} {
		began, ended := make(chan bool, 1), make(chan error, 1)
		r := startTLS(t, handled(t, func(_ http.ResponseWriter, req *http.Request) {
			began <- true
			_, err := io.ReadAll(req.Body)
			ended <- err
		}))
		c := r.dialTLS()
		c.send("POST / HTTP/1.1\r\nHost: a.test\r\nContent-Length: 10\r\n\r\n12345")
		<-began
		if end == "FIN" {
			c.raw.CloseWrite()
		} else {
			c.CloseWrite()
		}
		select {
		case err := <-ended:
			if err == nil {
				t.Errorf("%s: the back end took the body for complete", end)
			}
		case <-time.After(patience):
			t.Fatalf("%s: the back end was not told", end)
		}
	}
}

func TestATruncatedResponseIsNotCompleteForTheTLSClient(t *testing.T) {
	for _, head := range []string{"Content-Length: 10\r\n\r\n12345", "Transfer-Encoding: chunked\r\n\r\n5\r\n12345\r\n"} {
		r := startTLS(t, newBackend(t, func(c *conn) { c.head(); c.write("HTTP/1.1 200 OK\r\n" + head) }).addr)
		c := r.dialTLS()
		c.send(getOverTLS)
		if _, body, err := c.receive(); err == nil {
			t.Errorf("the client takes %q for everything", body)
		}
	}
}

func TestATunnelOverTLSCarriesBytesBothWaysAndClosesByHalves(t *testing.T) {
	r := startTLS(t, newBackend(t, func(c *conn) {
		c.head()
		c.write("HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\n")
		io.Copy(c, c.r)
		c.write("and goodbye")
	}).addr)
	c := r.dialTLS()
	c.send("GET / HTTP/1.1\r\nHost: a.test\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\n")
	resp, err := http.ReadResponse(c.r, nil)
	if err != nil || resp.StatusCode != 101 {
		t.Fatalf("%v, %v", resp, err)
	}
	sent := make([]byte, 1<<20)
	mathrand.NewChaCha8([32]byte{9}).Read(sent)
	go func() {
		c.Conn.Write(sent)
		c.CloseWrite()
	}()
	got, err := io.ReadAll(c.r)
	if err != nil || !bytes.Equal(got, append(sent, "and goodbye"...)) {
		t.Errorf("%d bytes of %d, %v", len(got), len(sent), err)
	}
}

func TestANewCertificateIsUsedAndOldConnectionsStay(t *testing.T) {
	r := startTLS(t, hello(t))
	old := r.dialTLS()
	old.wants("hello")
	certificate, leaf := newCertificate(t, 2, "a.test")
	next := *r.config
	next.Certificates = []config.Certificate{certificate}
	r.config = &next
	r.publish(r.endpoint)
	r.roots.AddCert(leaf)
	fresh := r.dialTLS()
	fresh.wants("hello")
	if n := fresh.ConnectionState().PeerCertificates[0].SerialNumber; n.Int64() != 2 {
		t.Errorf("the new connection got certificate %v", n)
	}
	old.wants("hello")
}

func TestOneDeadlineHoldsFromAcceptToTheEndOfTheFirstHead(t *testing.T) {
	r := startTLS(t, hello(t), limits(func(l *fastpath.Limits) { l.HeadTimeout = 150e6 }))
	hello := recordedHello(t)
	for _, part := range [][]byte{nil, hello[:1], hello[:len(hello)/2], hello} {
		raw := r.dial().TCPConn
		if _, err := raw.Write(part); err != nil {
			t.Fatal(err)
		}
		if _, err := io.ReadAll(raw); err != nil {
			t.Errorf("after %d bytes of the ClientHello: %v", len(part), err)
		}
	}
	if rest, err := io.ReadAll(r.dialTLS().r); err != nil || len(rest) > 0 {
		t.Errorf("after the handshake: %q, %v", rest, err)
	}
	raw := tls.Client(r.dial().TCPConn, &tls.Config{RootCAs: r.roots, ServerName: "a.test", NextProtos: []string{"h2"}})
	if _, err := io.WriteString(raw, "PRI * HTTP/2.0"); err != nil {
		t.Fatal(err)
	}
	if rest, err := io.ReadAll(raw); err != nil {
		t.Errorf("after half a preface of HTTP/2: %q, %v", rest, err)
	}
	c := r.dialTLS()
	c.send("GET / HTTP/1.1\r\nHo")
	if resp, _, err := c.receive(); resp.StatusCode != 408 || err != nil {
		t.Errorf("after half a head: %v, %v", resp.Status, err)
	}
}

func TestAHostOfAnotherListenerIsMisdirected(t *testing.T) {
	r := startTLS(t, hello(t), func(_ *server.Options, c *config.Config) {
		c.Listeners[0].Hostname = "a.test"
		other := c.Listeners[0]
		other.Name, other.Hostname = "default/gw/other", "b.test"
		c.Listeners = append(c.Listeners, other)
	})
	c := r.dialTLS()
	c.wants("hello")
	c.send(strings.Replace(getOverTLS, "a.test", "b.test", 1))
	if resp, _, _ := c.receive(); resp.StatusCode != 421 {
		t.Errorf("%v", resp.Status)
	}
	c.wants("hello")
}

func TestAProxyHeaderComesBeforeTheHandshake(t *testing.T) {
	r := startTLS(t, handled(t, func(w http.ResponseWriter, req *http.Request) { io.WriteString(w, req.Header.Get("X-Forwarded-For")) }),
		func(_ *server.Options, c *config.Config) {
			c.Listeners[0].ProxyProtocol = &config.ProxyProtocol{From: []string{"127.0.0.0/8"}}
		})
	raw := r.dial().TCPConn
	if _, err := io.WriteString(raw, "PROXY TCP4 192.0.2.7 192.0.2.8 1000 443\r\n"); err != nil {
		t.Fatal(err)
	}
	r.over(raw).wants("192.0.2.7")
	if err := tls.Client(r.dial().TCPConn, &tls.Config{InsecureSkipVerify: true}).Handshake(); err == nil {
		t.Error("a handshake without a header succeeded")
	}
}

func TestAHandshakeUnderWayIsFinishedWhileDraining(t *testing.T) {
	r := startTLS(t, hello(t), func(o *server.Options, _ *config.Config) { o.Workers, o.DrainTime = 1, patience })
	begun, goOn := make(chan bool), make(chan bool)
	raw := &halting{TCPConn: r.dial().TCPConn, begun: begun, goOn: goOn}
	got := make(chan *http.Response)
	go func() {
		c := tls.Client(raw, &tls.Config{RootCAs: r.roots, ServerName: "a.test"})
		io.WriteString(c, getOverTLS)
		resp, err := http.ReadResponse(bufio.NewReader(c), nil)
		if err != nil {
			t.Error(err)
		}
		got <- resp
	}()
	<-begun
	until(t, "the handshake to begin", func() bool { return r.shows(`rauta_tls_handshakes{worker="0"} 1`) })
	left := make(chan int)
	go func() { left <- r.server.Drain(context.Background()) }()
	until(t, "the drain to begin", func() bool { ready, _ := r.server.Ready(); return !ready })
	close(goOn)
	if resp := <-got; resp == nil || resp.StatusCode != 200 || !resp.Close {
		t.Errorf("%+v", resp)
	}
	if n := <-left; n != 0 {
		t.Errorf("%d connections had to be cut off", n)
	}
}

// halting sends half of the first flight, and the rest later.
type halting struct {
	*net.TCPConn
	begun chan<- bool
	goOn  <-chan bool
	once  bool
}

func (c *halting) Write(p []byte) (int, error) {
	if c.once {
		return c.TCPConn.Write(p)
	}
	c.once = true
	n, err := c.TCPConn.Write(p[:len(p)/2])
	if err != nil {
		return n, err
	}
	c.begun <- true
	<-c.goOn
	m, err := c.TCPConn.Write(p[n:])
	return n + m, err
}

func TestPlainTextOnATLSPortIsRefused(t *testing.T) {
	r := startTLS(t, hello(t))
	raw := r.dial().TCPConn
	if _, err := io.WriteString(raw, getOverTLS); err != nil {
		t.Fatal(err)
	}
	got, err := io.ReadAll(raw)
	if bytes.Contains(got, []byte("200")) {
		t.Errorf("%q, %v", got, err)
	}
}

func TestOverTLSHTTP2IsSpokenOnlyIfItWasNegotiated(t *testing.T) {
	r := startTLS(t, hello(t))
	c := r.dialTLS() // without ALPN
	c.send("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\x00\x00\x00\x04\x00\x00\x00\x00\x00")
	if resp, _, _ := c.receive(); resp.StatusCode < 400 || !resp.Close {
		t.Errorf("%+v", resp)
	}
}
