package config

import (
	"fmt"
	"slices"
	"strings"
)

// ClientAuth says which certificates clients have to show, and what of them back ends get to see.
type ClientAuth struct {
	// Mode is what happens without a certificate that CA has signed.
	Mode ClientAuthMode `json:"mode"`
	// CA is PEM: the authorities whose certificates are accepted. Without any, every handshake is refused: that is how a
	// listener stays closed whose authorities can't be found.
	CA string `json:"ca,omitempty"`
	// DepthMax is how many certificates of authorities a chain may have, the trusted one included; 0 means no limit.
	DepthMax int `json:"depthMax,omitempty"`
	// Forward are the facts that back ends get in header fields of the request, in no significant order.
	Forward []ClientFact `json:"forward,omitempty"`
}

// ClientAuthMode says how strict a ClientAuth is.
type ClientAuthMode string

// Modes of client authentication.
const (
	// ClientAuthRequire refuses the handshake without a valid certificate.
	ClientAuthRequire ClientAuthMode = "Require"
	// ClientAuthOptional refuses the handshake with a certificate that is not valid.
	ClientAuthOptional ClientAuthMode = "Optional"
	// ClientAuthUnverified refuses nobody: the back end is told what the certificate is worth, and has to decide.
	ClientAuthUnverified ClientAuthMode = "Unverified"
)

// ClientFact is one thing about a client's certificate that a back end may be told.
type ClientFact string

// Client facts, with the field that each is sent in.
const (
	FactCertificate ClientFact = "certificate" // Client-Cert (RFC 9440)
	FactChain       ClientFact = "chain"       // Client-Cert-Chain (RFC 9440)
	FactPEM         ClientFact = "pem"         // SSL-Client-Cert
	FactVerify      ClientFact = "verify"      // SSL-Client-Verify
	FactSubject     ClientFact = "subject"     // SSL-Client-Subject-DN
	FactIssuer      ClientFact = "issuer"      // SSL-Client-Issuer-DN
	FactSerial      ClientFact = "serial"      // SSL-Client-Serial
	FactFingerprint ClientFact = "fingerprint" // SSL-Client-Fingerprint
)

// ClientFacts returns all facts, in the order in which their fields are sent.
func ClientFacts() []ClientFact {
	return []ClientFact{FactCertificate, FactChain, FactPEM, FactVerify, FactSubject, FactIssuer, FactSerial, FactFingerprint}
}

// ClientDepthLimit bounds DepthMax: longer chains than this are not looked at by anybody.
const ClientDepthLimit = 16

// CheckClientFact says what is wrong with the name of a fact, or nil.
func CheckClientFact(f ClientFact) error {
	if slices.Contains(ClientFacts(), f) {
		return nil
	}
	var names []string
	for _, known := range ClientFacts() {
		names = append(names, string(known))
	}
	return fmt.Errorf("%q is not one of %s", f, strings.Join(names, ", "))
}

// CheckClientDepth says what is wrong with a DepthMax, or nil.
func CheckClientDepth(n int) error {
	if n < 0 || n > ClientDepthLimit {
		return fmt.Errorf("%d is not between 0 and %d", n, ClientDepthLimit)
	}
	return nil
}

// Equal reports whether two are the same; both may be nil.
func (a *ClientAuth) Equal(b *ClientAuth) bool {
	if a == nil || b == nil {
		return a == b
	}
	return a.Mode == b.Mode && a.CA == b.CA && a.DepthMax == b.DepthMax && slices.Equal(a.Forward, b.Forward)
}

func checkClientAuth(a *ClientAuth) (field string, err error) {
	if a == nil {
		return "", nil
	}
	if a.Mode != ClientAuthRequire && a.Mode != ClientAuthOptional && a.Mode != ClientAuthUnverified {
		return "mode", fmt.Errorf("mode %q is not one of %s, %s, %s", a.Mode, ClientAuthRequire, ClientAuthOptional, ClientAuthUnverified)
	}
	if err := CheckClientDepth(a.DepthMax); err != nil {
		return "depthMax", err
	}
	for i, f := range a.Forward {
		if err := CheckClientFact(f); err != nil {
			return fmt.Sprintf("forward[%d]", i), err
		}
	}
	return "", nil
}

func (d *digest) clientAuth(a *ClientAuth) {
	if !d.flag(a != nil) {
		return
	}
	d.text(string(a.Mode))
	d.text(a.CA)
	d.number(int64(a.DepthMax))
	d.count(len(a.Forward))
	for _, f := range a.Forward {
		d.text(string(f))
	}
}
