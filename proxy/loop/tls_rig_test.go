//go:build linux

package loop

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"math/big"
	"net"
	"net/netip"
	"sync"
	"testing"
	"time"

	"rauta.io/rauta/proxy/clock"
)

// tlsRig is a worker that serves TLS.
type tlsRig struct {
	t      testing.TB
	w      *Worker
	addr   netip.AddrPort
	server *tls.Config
	roots  *x509.CertPool
	failed chan error // outcomes of handshakes that failed
}

// certificate makes one for the name "rauta.test".
var certificate = sync.OnceValues(func() (tls.Certificate, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return tls.Certificate{}, err
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "rauta.test"}, DNSNames: []string{"rauta.test"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), IsCA: true, BasicConstraintsValid: true,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		return tls.Certificate{}, err
	}
	leaf, err := x509.ParseCertificate(der)
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key, Leaf: leaf}, err
})

// tlsServerConfig makes a configuration with one certificate.
func tlsServerConfig(t testing.TB) *tls.Config {
	t.Helper()
	cert, err := certificate()
	if err != nil {
		t.Fatal(err)
	}
	return &tls.Config{Certificates: []tls.Certificate{cert}, DynamicRecordSizingDisabled: true}
}

// serveTLS runs a worker; every connection is given to serve after its handshake. deadline in nanoseconds from accept; 0
// for none. Every other handshake computes on the worker's thread.
func serveTLS(t testing.TB, config *tls.Config, deadline int64, serve func(*Worker, *Conn)) *tlsRig {
	t.Helper()
	n := 0
	return serveTLSBy(t, func() bool { n++; return n%2 == 0 }, config, deadline, serve)
}

// eachWay runs a test with handshakes that compute on goroutines, and on the worker's thread.
func eachWay(t *testing.T, test func(t *testing.T, quick func() bool)) {
	for name, quick := range map[string]bool{"goroutine": false, "thread": true} {
		t.Run(name, func(t *testing.T) { test(t, func() bool { return quick }) })
	}
}

// serveTLSBy is serveTLS; quick is asked for every handshake.
func serveTLSBy(t testing.TB, quick func() bool, config *tls.Config, deadline int64, serve func(*Worker, *Conn)) *tlsRig {
	t.Helper()
	r := &tlsRig{t: t, server: config, failed: make(chan error, 4096), roots: x509.NewCertPool()}
	cert, err := certificate()
	if err != nil {
		t.Fatal(err)
	}
	r.roots.AddCert(cert.Leaf)
	r.w = startWorker(t, WorkerOptions{})
	l := listen(t, r.w, ListenerOptions{Addr: loopback}, func(w *Worker, c *Conn) {
		opt := TLSOptions{Config: r.server, Quick: quick(), Done: func(c *Conn, err error) {
			if err != nil {
				r.failed <- err
				return
			}
			serve(w, c)
		}}
		if deadline != 0 {
			opt.Deadline = c.AcceptedAt() + clock.Time(deadline)
		}
		c.StartTLS(opt)
	})
	r.addr = l.Addr()
	return r
}

// client is a configuration that trusts the rig.
func (r *tlsRig) client() *tls.Config {
	return &tls.Config{RootCAs: r.roots, ServerName: "rauta.test"}
}

// over makes a TLS client on a connection of any kind and completes its handshake.
func (r *tlsRig) over(c net.Conn, config *tls.Config) *tls.Conn {
	r.t.Helper()
	tc := tls.Client(c, config)
	if err := tc.Handshake(); err != nil {
		r.t.Fatalf("handshake: %v", err)
	}
	return tc
}

func (r *tlsRig) dial() *tls.Conn {
	r.t.Helper()
	return r.over(dial(r.t, r.addr), r.client())
}

// untilStats waits for a statement about the worker to become true.
func (r *tlsRig) untilStats(what string, f func(*WorkerStats) bool) {
	r.t.Helper()
	for deadline := time.Now().Add(giveUp); !f(r.w.Stats()); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			r.t.Fatalf("waited in vain for: %s", what)
		}
	}
}

// recordedHello is the ClientHello of a client, as it goes over the wire.
func (r *tlsRig) recordedHello() []byte {
	r.t.Helper()
	ours, theirs := net.Pipe()
	defer ours.Close()
	defer theirs.Close()
	go func() { _ = tls.Client(theirs, r.client()).Handshake() }()
	buf := make([]byte, 64<<10)
	n, err := ours.Read(buf)
	if err != nil {
		r.t.Fatal(err)
	}
	return buf[:n]
}
