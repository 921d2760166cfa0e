package certs

import (
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strings"

	"rauta.io/rauta/proxy/config"
	"rauta.io/rauta/proxy/message"
)

const (
	// clientFieldBytesMax is the longest field about a client's certificate, in bytes: most back ends refuse heads beyond
	// it. What is longer is left out.
	clientFieldBytesMax = 16 << 10
	// clientChainMax is how many certificates of a client are looked at where none of them has to be valid.
	clientChainMax = 16
)

// What SSL-Client-Verify says, in the words of nginx's $ssl_client_verify.
const (
	VerifyNone    = "NONE"
	VerifySuccess = "SUCCESS"
	verifyFailed  = "FAILED:"
)

// Identity is what a handshake has shown about a client. It never changes.
type Identity struct {
	// Realm is where the connection was made.
	Realm *Realm
	// Verify is what the client's certificate is worth: VerifySuccess, VerifyNone if there is none, else a reason; empty if
	// none was asked for.
	Verify string
	// Subject and Fingerprint are of its certificate, as in Fields; empty without.
	Subject, Fingerprint string
	// Fields are what back ends are told.
	Fields []ClientField
}

// ClientField is one field of a request.
type ClientField struct {
	Name, Value string
	ID          message.FieldID
}

// Examine says what a complete handshake has shown, as a *Identity. It may verify signatures, so it is not for a loop's
// thread. Whoever has to stay ignorant of crypto/tls passes it on as it is.
func (t *Table) Examine(state tls.ConnectionState) any {
	c := &Identity{}
	c.Realm, _ = t.Realm(strings.ToLower(state.ServerName))
	if c.Realm == nil || c.Realm.auth == nil {
		return c
	}
	a := c.Realm.auth
	c.Verify = a.verdict(&state)
	if len(state.PeerCertificates) > 0 {
		sum := sha256.Sum256(state.PeerCertificates[0].Raw)
		c.Fingerprint = hex.EncodeToString(sum[:])
		c.Subject = distinguishedName(&state.PeerCertificates[0].Subject)
	}
	for _, fact := range config.ClientFacts() {
		if a.forwards(fact) {
			c.add(fact, state.PeerCertificates)
		}
	}
	return c
}

// forwards: a certificate that may be worth nothing never goes without the verdict, nor a chain without what it is of
// (RFC 9440 section 2.3).
func (a *clientAuth) forwards(fact config.ClientFact) bool {
	return slices.Contains(a.Forward, fact) ||
		fact == config.FactVerify && a.Mode == config.ClientAuthUnverified && len(a.Forward) > 0 ||
		fact == config.FactCertificate && slices.Contains(a.Forward, config.FactChain)
}

func (a *clientAuth) verdict(state *tls.ConnectionState) string {
	switch {
	case len(state.PeerCertificates) == 0:
		return VerifyNone
	case a.Mode != config.ClientAuthUnverified:
		return VerifySuccess // or the handshake would have failed
	case len(state.PeerCertificates) > clientChainMax:
		return verifyFailed + "too many certificates"
	}
	opt := x509.VerifyOptions{
		Roots: a.roots, Intermediates: x509.NewCertPool(), KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
	}
	for _, one := range state.PeerCertificates[1:] {
		opt.Intermediates.AddCert(one)
	}
	chains, err := state.PeerCertificates[0].Verify(opt)
	if err == nil && !a.shortEnough(chains) {
		err = errChainTooLong
	}
	if err != nil {
		return verifyFailed + verifyProblem(err)
	}
	return VerifySuccess
}

// verifyProblem never repeats anything of the certificate.
func verifyProblem(err error) string {
	if e, ok := errors.AsType[x509.CertificateInvalidError](err); ok {
		switch e.Reason {
		case x509.Expired:
			return "certificate is expired or not valid yet"
		case x509.IncompatibleUsage:
			return "certificate is not for clients"
		}
	}
	if _, ok := errors.AsType[x509.UnknownAuthorityError](err); ok {
		return "unknown authority"
	}
	if err == errChainTooLong {
		return "certificate chain too long"
	}
	return "certificate is not valid"
}

func (c *Identity) add(fact config.ClientFact, chain []*x509.Certificate) {
	field := func(id message.FieldID, name, value string) {
		if value != "" && len(value) <= clientFieldBytesMax {
			c.Fields = append(c.Fields, ClientField{Name: name, Value: value, ID: id})
		}
	}
	if fact == config.FactVerify {
		field(message.SSLClientVerify, "SSL-Client-Verify", c.Verify)
	}
	if len(chain) == 0 {
		return
	}
	leaf := chain[0]
	switch fact {
	case config.FactCertificate:
		field(message.ClientCert, "Client-Cert", byteSequence(leaf.Raw))
	case config.FactChain:
		var members []string
		for _, one := range chain[1:] {
			members = append(members, byteSequence(one.Raw))
		}
		field(message.ClientCertChain, "Client-Cert-Chain", strings.Join(members, ", "))
	case config.FactPEM:
		text := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: leaf.Raw})
		field(message.SSLClientCert, "SSL-Client-Cert", strings.ReplaceAll(url.QueryEscape(string(text)), "+", "%20"))
	case config.FactSubject:
		field(message.SSLClientSubjectDN, "SSL-Client-Subject-DN", c.Subject)
	case config.FactIssuer:
		field(message.SSLClientIssuerDN, "SSL-Client-Issuer-DN", distinguishedName(&leaf.Issuer))
	case config.FactSerial:
		field(message.SSLClientSerial, "SSL-Client-Serial", fmt.Sprintf("%X", leaf.SerialNumber))
	case config.FactFingerprint:
		field(message.SSLClientFingerprint, "SSL-Client-Fingerprint", c.Fingerprint)
	}
}

// byteSequence is a Byte Sequence of structured fields (RFC 9651 section 3.3.5).
func byteSequence(b []byte) string { return ":" + base64.StdEncoding.EncodeToString(b) + ":" }

// distinguishedName writes a name as RFC 4514 does, with everything beyond printable ASCII as hexadecimal pairs (section
// 2.4): a certificate must not be able to end a field, nor a log line.
func distinguishedName(n *pkix.Name) string {
	text := n.String()
	var out strings.Builder
	for i := 0; i < len(text); i++ {
		if c := text[i]; c >= 0x20 && c < 0x7f {
			out.WriteByte(c)
		} else {
			fmt.Fprintf(&out, "\\%02X", c)
		}
	}
	return out.String()
}
