package server

import (
	"bufio"
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/big"
	mathrand "math/rand/v2"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"rauta.io/rauta/fastpath"
	"rauta.io/rauta/proxy/config"
	"rauta.io/rauta/proxy/loop"
	"rauta.io/rauta/proxy/message"
	"rauta.io/rauta/proxy/observe"
	"rauta.io/rauta/proxy/snapshot"
)

// patience bounds what would otherwise hang; nothing is measured with it.
const patience = 20 * time.Second

// tlsRig is a server with one port, on which it speaks TLS.
type tlsRig struct {
	t      *testing.T
	s      *Server
	addr   string
	config atomic.Pointer[tls.Config]
	roots  *x509.CertPool
}

func newCertificate(t *testing.T, serial int64, names ...string) tls.Certificate {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(serial), DNSNames: names, NotBefore: time.Now().Add(-time.Hour),
		NotAfter: time.Now().Add(time.Hour), IsCA: true, BasicConstraintsValid: true,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	leaf, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key, Leaf: leaf}
}

func startTLS(t *testing.T, backend string, changes ...func(*Options, *config.Config)) *tlsRig {
	t.Helper()
	port := freePort(t)
	cfg, eps := everythingTo(port, backend)
	opt := Options{
		Workers: 2, Registry: observe.NewRegistry(observe.Options{Workers: 2, Methods: message.MethodNames()}),
		Bind: "127.0.0.1", Limits: fastpath.DefaultLimits(), DrainTime: 5 * time.Second, Log: slog.New(slog.NewTextHandler(io.Discard, nil)),
	}
	for _, change := range changes {
		change(&opt, cfg)
	}
	s, err := New(opt)
	if err != nil {
		t.Fatal(err)
	}
	r := &tlsRig{t: t, s: s, addr: fmt.Sprintf("127.0.0.1:%d", port), roots: x509.NewCertPool()}
	r.use(newCertificate(t, 1, "a.test", "b.test"))
	s.plane.(*loopPlane).tlsOf = func(_ *snapshot.Port, opt *loop.TLSOptions) bool {
		opt.Config = r.config.Load()
		return true
	}
	if err := s.Start(); err != nil {
		t.Fatal(err)
	}
	if err := s.Publish(cfg, eps); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Drain(context.Background()) })
	return r
}

// use makes new connections get this certificate.
func (r *tlsRig) use(c tls.Certificate) {
	r.roots.AddCert(c.Leaf)
	r.config.Store(&tls.Config{
		Certificates: []tls.Certificate{c}, NextProtos: []string{"h2", "http/1.1"}, DynamicRecordSizingDisabled: true,
	})
}

// tlsClient is a connection to the rig.
type tlsClient struct {
	t *testing.T
	*tls.Conn
	raw *net.TCPConn
	r   *bufio.Reader
}

func (r *tlsRig) dialTCP() *net.TCPConn {
	r.t.Helper()
	c, err := net.Dial("tcp", r.addr)
	if err != nil {
		r.t.Fatal(err)
	}
	r.t.Cleanup(func() { c.Close() })
	if err := c.SetDeadline(time.Now().Add(patience)); err != nil {
		r.t.Fatal(err)
	}
	return c.(*net.TCPConn)
}

func (r *tlsRig) over(raw *net.TCPConn) *tlsClient {
	r.t.Helper()
	c := tls.Client(raw, &tls.Config{RootCAs: r.roots, ServerName: "a.test"})
	if err := c.Handshake(); err != nil {
		r.t.Fatalf("handshake: %v", err)
	}
	return &tlsClient{r.t, c, raw, bufio.NewReader(c)}
}

func (r *tlsRig) dial() *tlsClient { return r.over(r.dialTCP()) }

func (c *tlsClient) send(s string) {
	c.t.Helper()
	if _, err := io.WriteString(c.Conn, s); err != nil {
		c.t.Fatalf("send: %v", err)
	}
}

// receive reads a response; err is of its body.
func (c *tlsClient) receive() (resp *http.Response, body string, err error) {
	c.t.Helper()
	resp, err = http.ReadResponse(c.r, nil)
	if err != nil {
		c.t.Fatalf("read a response: %v", err)
	}
	b, err := io.ReadAll(resp.Body)
	return resp, string(b), err
}

const get = "GET / HTTP/1.1\r\nHost: a.test\r\n\r\n"

// wants sends a GET and expects 200 with the body.
func (c *tlsClient) wants(body string) {
	c.t.Helper()
	c.send(get)
	if resp, got, err := c.receive(); resp.StatusCode != 200 || got != body || err != nil {
		c.t.Fatalf("%d %q, %v", resp.StatusCode, got, err)
	}
}

func answer(t *testing.T, h http.HandlerFunc) string {
	t.Helper()
	s := httptest.NewServer(h)
	t.Cleanup(s.Close)
	return s.Listener.Addr().String()
}

func hello(t *testing.T) string {
	return answer(t, func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, "hello") })
}

// scripted is a back end that runs serve once for every connection.
func scripted(t *testing.T, serve func(c *net.TCPConn, r *bufio.Reader)) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			c.SetDeadline(time.Now().Add(patience))
			go func() {
				defer c.Close()
				r := bufio.NewReader(c)
				if _, err := http.ReadRequest(r); err == nil {
					serve(c.(*net.TCPConn), r)
				}
			}()
		}
	}()
	return l.Addr().String()
}

func TestATLSConnectionServesOneRequestAfterTheOther(t *testing.T) {
	r := startTLS(t, answer(t, func(w http.ResponseWriter, req *http.Request) {
		io.WriteString(w, req.Header.Get("X-Forwarded-Proto")+" "+req.Header.Get("X-Forwarded-For"))
	}))
	c := r.dial()
	for range 5 {
		c.wants("https 127.0.0.1")
	}
	c.send(get + get + get) // in one record
	for range 3 {
		if _, body, err := c.receive(); body != "https 127.0.0.1" || err != nil {
			t.Errorf("%q, %v", body, err)
		}
	}
	for i := range get { // a record for every byte
		c.send(get[i : i+1])
	}
	if _, body, err := c.receive(); body != "https 127.0.0.1" || err != nil {
		t.Errorf("%q, %v", body, err)
	}
}

func TestBodiesOfAllSizesGoBothWaysOverTLS(t *testing.T) {
	r := startTLS(t, answer(t, func(w http.ResponseWriter, req *http.Request) {
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
	r := startTLS(t, answer(t, func(w http.ResponseWriter, _ *http.Request) { w.Write(make([]byte, size)) }))
	raw := r.dialTCP()
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
		r := startTLS(t, answer(t, func(_ http.ResponseWriter, req *http.Request) {
			began <- true
			_, err := io.ReadAll(req.Body)
			ended <- err
		}))
		c := r.dial()
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
		r := startTLS(t, scripted(t, func(c *net.TCPConn, _ *bufio.Reader) { io.WriteString(c, "HTTP/1.1 200 OK\r\n"+head) }))
		c := r.dial()
		c.send(get)
		if _, body, err := c.receive(); err == nil {
			t.Errorf("the client takes %q for everything", body)
		}
	}
}

func TestATunnelOverTLSCarriesBytesBothWaysAndClosesByHalves(t *testing.T) {
	r := startTLS(t, scripted(t, func(c *net.TCPConn, r *bufio.Reader) {
		io.WriteString(c, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\n")
		io.Copy(c, r)
		io.WriteString(c, "and goodbye")
	}))
	c := r.dial()
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
	old := r.dial()
	old.wants("hello")
	r.use(newCertificate(t, 2, "a.test"))
	fresh := r.dial()
	fresh.wants("hello")
	if n := fresh.ConnectionState().PeerCertificates[0].SerialNumber; n.Int64() != 2 {
		t.Errorf("the new connection got certificate %v", n)
	}
	old.wants("hello")
}

func TestOneDeadlineHoldsFromAcceptToTheEndOfTheFirstHead(t *testing.T) {
	r := startTLS(t, hello(t), func(o *Options, _ *config.Config) { o.Limits.HeadTimeout = 150e6 })
	hello := recordedHello(t)
	for _, part := range [][]byte{nil, hello[:1], hello[:len(hello)/2], hello} {
		raw := r.dialTCP()
		if _, err := raw.Write(part); err != nil {
			t.Fatal(err)
		}
		if _, err := io.ReadAll(raw); err != nil {
			t.Errorf("after %d bytes of the ClientHello: %v", len(part), err)
		}
	}
	if rest, err := io.ReadAll(r.dial().r); err != nil || len(rest) > 0 {
		t.Errorf("after the handshake: %q, %v", rest, err)
	}
	c := r.dial()
	c.send("GET / HTTP/1.1\r\nHo")
	if resp, _, err := c.receive(); resp.StatusCode != 408 || err != nil {
		t.Errorf("after half a head: %v, %v", resp.Status, err)
	}
}

// recordedHello is the ClientHello of a client, as it goes over the wire.
func recordedHello(t *testing.T) []byte {
	t.Helper()
	ours, theirs := net.Pipe()
	defer ours.Close()
	defer theirs.Close()
	go tls.Client(theirs, &tls.Config{ServerName: "a.test"}).Handshake()
	buf := make([]byte, 64<<10)
	n, err := ours.Read(buf)
	if err != nil {
		t.Fatal(err)
	}
	return buf[:n]
}

func TestAHostOfAnotherListenerIsMisdirected(t *testing.T) {
	r := startTLS(t, hello(t), func(_ *Options, c *config.Config) {
		c.Listeners[0].Hostname = "a.test"
		other := c.Listeners[0]
		other.Name, other.Hostname = "default/gw/other", "b.test"
		c.Listeners = append(c.Listeners, other)
	})
	c := r.dial()
	c.wants("hello")
	c.send(strings.Replace(get, "a.test", "b.test", 1))
	if resp, _, _ := c.receive(); resp.StatusCode != 421 {
		t.Errorf("%v", resp.Status)
	}
	c.wants("hello")
}

func TestAProxyHeaderComesBeforeTheHandshake(t *testing.T) {
	r := startTLS(t, answer(t, func(w http.ResponseWriter, req *http.Request) { io.WriteString(w, req.Header.Get("X-Forwarded-For")) }),
		func(_ *Options, c *config.Config) {
			c.Listeners[0].ProxyProtocol = &config.ProxyProtocol{From: []string{"127.0.0.0/8"}}
		})
	raw := r.dialTCP()
	if _, err := io.WriteString(raw, "PROXY TCP4 192.0.2.7 192.0.2.8 1000 443\r\n"); err != nil {
		t.Fatal(err)
	}
	r.over(raw).wants("192.0.2.7")
	if err := tls.Client(r.dialTCP(), &tls.Config{InsecureSkipVerify: true}).Handshake(); err == nil {
		t.Error("a handshake without a header succeeded")
	}
}

func TestAHandshakeUnderWayIsFinishedWhileDraining(t *testing.T) {
	r := startTLS(t, hello(t))
	raw := r.dialTCP()
	flight := recordedHello(t)
	if _, err := raw.Write(flight[:len(flight)/2]); err != nil {
		t.Fatal(err)
	}
	plane := r.s.plane.(*loopPlane)
	for deadline := time.Now().Add(patience); ; time.Sleep(time.Millisecond) {
		open := int64(0)
		for _, w := range plane.workers {
			open += w.loop.Stats().HandshakesOpen.Load()
		}
		if open == 1 {
			break
		}
		if time.Now().After(deadline) {
			t.Fatal("the handshake did not begin")
		}
	}
	plane.Drain()
	if n := plane.Busy(); n != 1 {
		t.Errorf("%d connections are busy", n)
	}
	raw.Close()
	for deadline := time.Now().Add(patience); plane.Busy() > 0; time.Sleep(time.Millisecond) {
		plane.Drain()
		if time.Now().After(deadline) {
			t.Fatal("the handshake did not end")
		}
	}
}

func TestPlainTextOnATLSPortIsRefused(t *testing.T) {
	r := startTLS(t, hello(t))
	raw := r.dialTCP()
	if _, err := io.WriteString(raw, get); err != nil {
		t.Fatal(err)
	}
	got, err := io.ReadAll(raw)
	if bytes.Contains(got, []byte("200")) || errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("%q, %v", got, err)
	}
}
