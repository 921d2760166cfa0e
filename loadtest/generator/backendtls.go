package generator

import (
	"crypto/tls"
	"errors"
	"fmt"
	"runtime"
	"time"

	"golang.org/x/sys/unix"

	"rauta.io/rauta/internal/testrig"
	"rauta.io/rauta/loadtest/rawio"
)

// tlsListener is the back end for proxies that speak TLS to it, with a certificate of its own that nobody verifies.
type tlsListener struct {
	listener int
	port     int
	config   *tls.Config
	serve    func(*loop, socket) // has a connection whose handshake is complete
}

func (t *tlsListener) open(l *loop, protocol string, serve func(*loop, socket)) error {
	certificate, key, err := testrig.SelfSigned(ServerName)
	if err != nil {
		return err
	}
	pair, err := tls.X509KeyPair(certificate, key)
	if err != nil {
		return fmt.Errorf("reading the back end's certificate: %w", err)
	}
	t.config = &tls.Config{
		Certificates: []tls.Certificate{pair},
		MinVersion:   tls.VersionTLS13, NextProtos: []string{protocol}, SessionTicketsDisabled: true,
	}
	t.serve = serve
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
		s := socket{fd: fd, raw: &rawConn{fd: fd, deadline: time.Now().Add(handshakeTimeMax)}}
		s.secure = tls.Server(s.raw, t.config)
		if s.secure.Handshake() != nil {
			s.close()
			continue
		}
		s.raw.handshaken = true
		t.serve(l, s)
	}
}

// openEndToEnd opens all connections of a target whose TLS ends at the back end, each in a goroutine of its own, since
// this thread has the other half of the handshake. A connection that is lost later fails.
func (l *loop) openEndToEnd(t *target) error {
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(2))
	for _, r := range t.requesters {
		c := r.(*clientConn)
		opened := make(chan bool, 1)
		go func() { opened <- c.open(t) }()
		for len(opened) == 0 {
			if err := l.turn(1); err != nil {
				return err
			}
		}
		if !<-opened || !l.watchSocket(&c.socket, c) {
			return errors.New("no TLS handshake with the back end")
		}
	}
	return nil
}
