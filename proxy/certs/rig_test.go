package certs

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"math/big"
	"net"
	"testing"
	"time"

	"rauta.io/rauta/proxy/config"
)

// newKey makes a key of a kind: "rsa", "ed25519" or an ECDSA one.
func newKey(t testing.TB, kind string) crypto.Signer {
	t.Helper()
	var key crypto.Signer
	var err error
	switch kind {
	case "rsa":
		key, err = rsa.GenerateKey(rand.Reader, 2048)
	case "ed25519":
		_, key, err = ed25519.GenerateKey(rand.Reader)
	default:
		key, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	}
	if err != nil {
		t.Fatal(err)
	}
	return key
}

// issue makes a certificate that signs itself.
func issue(t testing.TB, name, kind string, hostnames ...string) config.Certificate {
	t.Helper()
	key := newKey(t, kind)
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), DNSNames: hostnames,
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(1000 * time.Hour),
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	private, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	return config.Certificate{
		Name:  name,
		Chain: string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})),
		Key:   pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: private}),
	}
}

func store(t testing.TB, list ...config.Certificate) *Store {
	t.Helper()
	s, errs := NewStore(new(Store), list)
	for _, err := range errs {
		if err != nil {
			t.Fatal(err)
		}
	}
	return s
}

// serves is a listener with certificates.
func serves(hostname string, certificates ...string) Listener {
	return Listener{Hostname: hostname, TLS: &config.TLS{Certificates: certificates}}
}

// meet makes a handshake, and reads one byte so that the client sees the session tickets of TLS 1.3. It returns what the
// client knows then. Both sides may write at the same time, which net.Pipe can't bear.
func meet(server, client *tls.Config) (tls.ConnectionState, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return tls.ConnectionState{}, err
	}
	defer l.Close()
	near, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		return tls.ConnectionState{}, err
	}
	defer near.Close()
	far, err := l.Accept()
	if err != nil {
		return tls.ConnectionState{}, err
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		defer far.Close()
		_, _ = tls.Server(far, server).Write([]byte{1}) // a failure shows on the other side
	}()
	c := tls.Client(near, client)
	_, err = c.Read(make([]byte, 1))
	<-done
	return c.ConnectionState(), err
}

// who returns the DNS names of the certificate that a client of a server name gets, or the error of its handshake.
func who(t *Table, serverName string) string {
	state, err := meet(t.Config(), &tls.Config{ServerName: serverName, InsecureSkipVerify: true})
	if err != nil {
		return err.Error()
	}
	return state.PeerCertificates[0].DNSNames[0]
}
