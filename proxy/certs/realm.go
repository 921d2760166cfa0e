package certs

import (
	"bytes"
	"crypto/hkdf"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"

	"rauta.io/rauta/proxy/config"
)

// Realm is one TLS policy of a port: the hosts of a listener of which clients are asked the same. It never changes; where
// nothing did, generations share it.
type Realm struct {
	hostname, socket string // of the listener
	policy           policy
	auth             *clientAuth
	ticketKeys       []config.Secret
	tickets          *tls.Config // its keys encrypt session tickets of this realm and no other's
}

// realm returns the one of a group for what is asked of clients; that of the last generation if nothing has changed.
func (g *group) realm(old *group, auth *config.ClientAuth) *Realm {
	for _, r := range g.realms {
		if r.auth.settings().Equal(auth) {
			return r
		}
	}
	r := &Realm{hostname: g.hostname, socket: g.socket, policy: g.policy, ticketKeys: g.ticketKeys}
	if old != nil {
		for _, before := range old.realms {
			if !before.auth.settings().Equal(auth) {
				continue
			}
			r.auth = before.auth
			if before.policy.equal(&r.policy) && equalKeys(before.ticketKeys, r.ticketKeys) {
				r = before
			}
			break
		}
	}
	if r.auth == nil {
		r.auth = newClientAuth(auth)
	}
	if r.tickets == nil {
		r.tickets = r.newTickets()
	}
	g.realms = append(g.realms, r)
	return r
}

// Admits reports whether requests for names of r may come over connections that were made in the realm other: one of the
// same listener where clients were asked the same. Names of which nothing is asked any more admit those of which it was.
func (r *Realm) Admits(other *Realm) bool {
	if r == other {
		return true
	}
	return other != nil && r.hostname == other.hostname && (r.auth == nil || r.auth == other.auth || r.auth.settings().Equal(other.auth.settings()))
}

// closed: clients are asked for what nobody can have.
func (r *Realm) closed() bool { return r.auth != nil && r.auth.roots == nil }

// newTickets makes the keys of the realm's session tickets. Without shared keys crypto/tls makes its own, renews them daily
// and keeps them for seven days (RFC 8446 section 4.6.1). Those that are shared are derived for the realm: a ticket of
// another listener, or of a time when something else was asked of clients, can't be decrypted, whoever made it.
func (r *Realm) newTickets() *tls.Config {
	tickets := new(tls.Config)
	var derived [][32]byte
	for _, key := range r.ticketKeys {
		derived = append(derived, r.derive(key.Reveal()))
	}
	if len(derived) > 0 {
		tickets.SetSessionTicketKeys(derived)
	}
	return tickets
}

func (r *Realm) derive(material []byte) (key [32]byte) {
	h := sha256.New()
	text := func(s string) {
		var length [8]byte
		binary.BigEndian.PutUint64(length[:], uint64(len(s)))
		h.Write(length[:])
		h.Write([]byte(s))
	}
	text(r.socket)
	text(r.hostname)
	text(fmt.Sprint(r.policy.oldest, r.policy.newest, r.policy.suites))
	if a := r.auth.settings(); a != nil {
		text(string(a.Mode))
		text(a.CA)
		text(fmt.Sprint(a.DepthMax))
	}
	derived, err := hkdf.Key(sha256.New, material, nil, "rauta session tickets 1"+string(h.Sum(nil)), len(key))
	if err != nil { // it is too long a key only
		panic(err)
	}
	copy(key[:], derived)
	return key
}

func equalKeys(a, b []config.Secret) bool {
	return slices.EqualFunc(a, b, func(x, y config.Secret) bool { return bytes.Equal(x.Reveal(), y.Reveal()) })
}

// clientAuth is config.ClientAuth, compiled; nil asks nothing of clients.
type clientAuth struct {
	config.ClientAuth
	roots *x509.CertPool // nil if there is no authority: nobody gets in
}

func newClientAuth(c *config.ClientAuth) *clientAuth {
	if c == nil {
		return nil
	}
	a := &clientAuth{ClientAuth: *c}
	if pool := x509.NewCertPool(); pool.AppendCertsFromPEM([]byte(c.CA)) {
		a.roots = pool
	}
	return a
}

func (a *clientAuth) settings() *config.ClientAuth {
	if a == nil {
		return nil
	}
	return &a.ClientAuth
}

// stricter is what two listeners with one hostname ask of clients: what one of them does. Where both ask, but not the
// same, nobody can satisfy them.
func stricter(a, b *config.ClientAuth) *config.ClientAuth {
	switch {
	case a == nil || a.Equal(b):
		return b
	case b == nil:
		return a
	}
	return &config.ClientAuth{Mode: config.ClientAuthRequire}
}

// apply makes a server ask. crypto/tls names the authorities to clients, so that they can choose a certificate.
func (a *clientAuth) apply(c *tls.Config) {
	if a == nil {
		return
	}
	c.ClientCAs = a.roots
	switch a.Mode {
	case config.ClientAuthOptional:
		c.ClientAuth = tls.VerifyClientCertIfGiven
	case config.ClientAuthUnverified:
		c.ClientAuth = tls.RequestClientCert // Table.Examine finds out what it is worth
		return
	default:
		c.ClientAuth = tls.RequireAndVerifyClientCert
	}
	if a.DepthMax > 0 {
		c.VerifyConnection = func(state tls.ConnectionState) error {
			if len(state.PeerCertificates) > 0 && !a.shortEnough(state.VerifiedChains) {
				return errChainTooLong
			}
			return nil
		}
	}
}

var errChainTooLong = errors.New("the client's certificate chain has more authorities than are allowed")

// shortEnough reports whether one of the chains that lead to an authority is within DepthMax.
func (a *clientAuth) shortEnough(chains [][]*x509.Certificate) bool {
	for _, chain := range chains {
		if a.DepthMax == 0 || len(chain)-1 <= a.DepthMax {
			return true
		}
	}
	return false
}
