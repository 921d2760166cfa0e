package blackbox

import (
	"bufio"
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"io"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"rauta.io/rauta/proxy/config"
	"rauta.io/rauta/proxy/server"
)

// tlsRig is a rig whose only port speaks TLS, with one certificate.
type tlsRig struct {
	*rig
	endpoint string
	roots    *x509.CertPool
}

// newCertificate makes a certificate that signs itself, as the configuration has it.
func newCertificate(t *testing.T, serial int64, names ...string) (config.Certificate, *x509.Certificate) {
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
	private, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	return config.Certificate{
		Name:  "default/cert",
		Chain: string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})),
		Key:   config.Secret(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: private})),
	}, leaf
}

// startTLS runs a data plane that terminates TLS for a.test and b.test.
func startTLS(t *testing.T, endpoint string, options ...option) *tlsRig {
	t.Helper()
	certificate, leaf := newCertificate(t, 1, "a.test", "b.test")
	secure := func(_ *server.Options, c *config.Config) {
		c.Listeners[0].Protocol = config.ProtocolHTTPS
		c.Listeners[0].TLS = &config.TLS{Certificates: []string{certificate.Name}}
		c.Certificates = []config.Certificate{certificate}
	}
	r := &tlsRig{rig: start(t, []string{endpoint}, append([]option{secure}, options...)...), endpoint: endpoint, roots: x509.NewCertPool()}
	r.roots.AddCert(leaf)
	return r
}

// tlsClient is a connection to a tlsRig.
type tlsClient struct {
	t *testing.T
	*tls.Conn
	raw *net.TCPConn
	r   *bufio.Reader
}

// over makes the handshake on a connection.
func (r *tlsRig) over(raw *net.TCPConn) *tlsClient {
	r.t.Helper()
	c := tls.Client(raw, &tls.Config{RootCAs: r.roots, ServerName: "a.test"})
	if err := c.Handshake(); err != nil {
		r.t.Fatalf("handshake: %v", err)
	}
	return &tlsClient{r.t, c, raw, bufio.NewReader(c)}
}

func (r *tlsRig) dialTLS() *tlsClient { return r.over(r.dial().TCPConn) }

// dialH2 is h2 over TLS.
func (r *tlsRig) dialH2() *h2client {
	raw := r.dial().TCPConn
	return r.h2over(raw, tls.Client(raw, &tls.Config{RootCAs: r.roots, ServerName: "a.test", NextProtos: []string{"h2"}}))
}

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

const getOverTLS = "GET / HTTP/1.1\r\nHost: a.test\r\n\r\n"

// wants sends a GET and expects 200 with the body.
func (c *tlsClient) wants(body string) {
	c.t.Helper()
	c.send(getOverTLS)
	if resp, got, err := c.receive(); resp.StatusCode != 200 || got != body || err != nil {
		c.t.Fatalf("%d %q, %v", resp.StatusCode, got, err)
	}
}

// handled is a back end of net/http.
func handled(t *testing.T, h http.HandlerFunc) string {
	t.Helper()
	s := httptest.NewServer(h)
	t.Cleanup(s.Close)
	return s.Listener.Addr().String()
}

// hello is a back end that says hello.
func hello(t *testing.T) string {
	return handled(t, func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, "hello") })
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

// shows reports whether the metrics hold a line.
func (r *rig) shows(line string) bool {
	var b bytes.Buffer
	r.registry.WritePrometheus(&b)
	return bytes.Contains(b.Bytes(), []byte(line+"\n"))
}
