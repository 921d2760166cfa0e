package generator

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"math/big"
	"time"

	"golang.org/x/sys/unix"

	"rauta.io/rauta/loadtest/rawio"
)

// tlsListener is the back end for proxies that speak TLS to it, with a certificate of its own that nobody verifies.
type tlsListener struct {
	listener int
	port     int
	config   *tls.Config
}

func (t *tlsListener) open(l *loop) error {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return fmt.Errorf("making the back end's key: %w", err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), DNSNames: []string{serverName}, NotAfter: time.Now().Add(24 * time.Hour)}
	certificate, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		return fmt.Errorf("making the back end's certificate: %w", err)
	}
	t.config = &tls.Config{
		Certificates: []tls.Certificate{{Certificate: [][]byte{certificate}, PrivateKey: key}},
		MinVersion:   tls.VersionTLS13, NextProtos: []string{"http/1.1"}, SessionTicketsDisabled: true,
	}
	if t.listener, t.port, err = rawio.Listen(0); err != nil {
		return fmt.Errorf("opening the back end for TLS: %w", err)
	}
	if err := l.watch(t.listener, t, unix.EPOLLIN); err != nil {
		return fmt.Errorf("watching the back end's listener for TLS: %w", err)
	}
	return nil
}

// ready makes the handshakes at once. They block, but only until the proxy has done its part, which waits for nothing
// else; connections are kept, so that there are none in what slices measure.
func (t *tlsListener) ready(l *loop, _ uint32) {
	for {
		fd, err := rawio.Accept(t.listener)
		if err != nil {
			return
		}
		s := &serverConn{}
		s.fd, s.raw = fd, &rawConn{fd: fd, deadline: time.Now().Add(handshakeTimeMax)}
		s.socket.secure = tls.Server(s.raw, t.config)
		if s.socket.secure.Handshake() != nil {
			s.socket.close()
			continue
		}
		s.raw.handshaken = true
		l.serve(s)
	}
}
