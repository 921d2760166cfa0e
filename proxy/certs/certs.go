// Package certs compiles certificates and TLS settings into what a handshake looks up by server name.
//
// It owns parsed certificates, the choice of a certificate for a client, the settings of crypto/tls and the keys of
// session tickets. It does not own where certificates come from (control/translate), nor handshakes (proxy/loop).
// proxy/snapshot makes one Store per generation and one Table per port; whoever accepts connections takes Table.Config.
package certs

import (
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/binary"
	"fmt"
	"time"

	"rauta.io/rauta/proxy/config"
)

// Certificate is one certificate that can be used. It never changes.
type Certificate struct {
	// Name is config.Certificate.Name.
	Name string
	// NotAfter is when the first certificate of the chain expires. It is served even then: clients decide.
	NotAfter time.Time
	// Source is what it was made from.
	Source config.Certificate

	hash [sha256.Size]byte
	pair tls.Certificate
	bare tls.Certificate // without the staple

	// leaf is made when it is first needed, by whoever makes tables: one at a time does.
	leaf *x509.Certificate
}

// leafOnce is the first certificate of the chain.
func (c *Certificate) leafOnce() *x509.Certificate {
	if c.leaf == nil {
		c.leaf, _ = x509.ParseCertificate(c.pair.Certificate[0]) // which has been read before; without it crypto/tls reads it
	}
	return c.leaf
}

// Store holds the certificates of one generation, by name. It never changes; the zero value is empty.
type Store struct {
	// TicketKeys is config.Config.TicketKeys, without those that can't be used.
	TicketKeys []config.Secret
	// TicketKeySets is config.Config.TicketKeySets by name, likewise.
	TicketKeySets map[string][]config.Secret

	byName map[string]*Certificate
}

// Lookup returns a certificate, nil if there is none of the name or it can't be used.
func (s *Store) Lookup(name string) *Certificate { return s.byName[name] }

// ticketKeys are those of a listener.
func (s *Store) ticketKeys(t *config.TLS) []config.Secret {
	if t.TicketKeys == "" {
		return s.TicketKeys
	}
	return s.TicketKeySets[t.TicketKeys]
}

// NewStore parses certificates; those that prev has with the same content are taken from there. errs are by index in
// list, nil where nothing is wrong; of two with one name the first counts.
func NewStore(prev *Store, list []config.Certificate) (s *Store, errs []error) {
	s = &Store{byName: make(map[string]*Certificate, len(list))}
	errs = make([]error, len(list))
	for i := range list {
		c := &list[i]
		if s.byName[c.Name] != nil {
			continue // config.Validate reports it
		}
		hash := hashOf(c)
		if old := prev.byName[c.Name]; old != nil && old.hash == hash {
			s.byName[c.Name] = old
			continue
		}
		one, err := parse(c)
		if err != nil {
			errs[i] = err
			continue
		}
		one.hash = hash
		s.byName[c.Name] = one
	}
	return s, errs
}

// parse never puts anything of the key into an error: crypto/tls names the kind of defect only.
func parse(c *config.Certificate) (*Certificate, error) {
	pair, err := tls.X509KeyPair([]byte(c.Chain), c.Key.Reveal())
	if err != nil {
		return nil, fmt.Errorf("read the certificate and its key: %w", err)
	}
	notAfter := pair.Leaf.NotAfter
	pair.Leaf = nil // 2.4 KB, which only a choice between certificates needs
	one := &Certificate{Name: c.Name, NotAfter: notAfter, Source: *c, bare: pair, pair: pair}
	one.pair.OCSPStaple = c.OCSPStaple
	return one, nil
}

func hashOf(c *config.Certificate) (sum [sha256.Size]byte) {
	h := sha256.New()
	for _, part := range [][]byte{[]byte(c.Chain), c.Key.Reveal(), c.OCSPStaple} {
		var length [8]byte
		binary.BigEndian.PutUint64(length[:], uint64(len(part)))
		h.Write(length[:])
		h.Write(part)
	}
	h.Write(binary.BigEndian.AppendUint64(nil, uint64(c.StapleUntil)))
	copy(sum[:], h.Sum(nil))
	return sum
}

// rank orders the certificates of one listener: crypto/tls takes the first that the client supports, and signing with
// RSA 2048 costs some thirty times as much CPU as with P-256.
func (c *Certificate) rank() int {
	switch c.pair.PrivateKey.(type) {
	case *ecdsa.PrivateKey:
		return 0
	case ed25519.PrivateKey:
		return 1
	}
	return 2
}

// quick reports whether signing takes some 20 µs.
func (c *Certificate) quick() bool {
	switch k := c.pair.PrivateKey.(type) {
	case *ecdsa.PrivateKey:
		return k.Curve == elliptic.P256()
	case ed25519.PrivateKey:
		return true
	}
	return false
}
