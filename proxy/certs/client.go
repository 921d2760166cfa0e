package certs

import (
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"net"
	"slices"

	"rauta.io/rauta/proxy/config"
)

// sessionsMax is the number of endpoints of one cluster whose sessions are kept for resumption, over all workers: at
// 2 to 3 KiB each less than 1 MiB. Beyond it the endpoint that was connected to longest ago makes a full handshake.
const sessionsMax = 256

// ALPN protocol names (RFC 7301 section 6).
const (
	nameHTTP1 = "http/1.1"
	nameHTTP2 = "h2"
)

// Client is how the endpoints of one cluster are spoken to with TLS: whom to trust, whom to expect, who we are. It never
// changes, so two connections made under the same Client have been verified alike. It is for any goroutine.
type Client struct {
	settings    config.BackendTLS
	certificate *Certificate // of ours; nil for none
	config      *tls.Config
	sessions    tls.ClientSessionCache
}

// NewClient compiles the settings of a cluster. It returns prev, the cluster's client of the last generation or nil, if
// nothing changed: sessions can be resumed as long as it is the same.
func NewClient(prev *Client, store *Store, settings *config.BackendTLS) (*Client, error) {
	c := &Client{settings: *settings}
	if settings.ClientCertificate != "" {
		if c.certificate = store.Lookup(settings.ClientCertificate); c.certificate == nil {
			return nil, fmt.Errorf("the client certificate %q does not exist or can't be used", settings.ClientCertificate)
		}
	}
	if prev != nil && prev.certificate == c.certificate && prev.settings.Equal(settings) {
		return prev, nil
	}
	roots, err := rootsOf(settings)
	if err != nil {
		return nil, err
	}
	c.sessions = tls.NewLRUClientSessionCache(sessionsMax)
	c.config = &tls.Config{
		MinVersion: tls.VersionTLS12, CipherSuites: suiteNumbers(config.CipherSuiteNames()),
		ServerName: settings.ServerName, RootCAs: roots,
		// The loop sends once per turn: small first records would only add system calls.
		DynamicRecordSizingDisabled: true,
	}
	switch {
	case settings.Unverified:
		c.config.InsecureSkipVerify = true
	case len(settings.SubjectAltNames) > 0:
		// crypto/tls can only compare the server name, which is not what counts here. So everything is verified by us,
		// resumed sessions too.
		c.config.InsecureSkipVerify, c.config.VerifyConnection = true, c.verify
	}
	if c.certificate != nil {
		// Whatever authorities the endpoint lists: crypto/tls would send nothing if it does not find ours among them, and
		// then nobody could tell why the endpoint refuses.
		c.config.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
			return &c.certificate.pair, nil
		}
	}
	return c, nil
}

func offers(p config.BackendProtocol) []string {
	switch p {
	case config.BackendHTTP1:
		return []string{nameHTTP1}
	case config.BackendH2:
		return []string{nameHTTP2}
	}
	return []string{nameHTTP2, nameHTTP1}
}

// rootsOf returns nil for the authorities of the machine.
func rootsOf(settings *config.BackendTLS) (*x509.CertPool, error) {
	if settings.CA == "" {
		return nil, nil
	}
	roots, rest := x509.NewCertPool(), []byte(settings.CA)
	for n := 0; ; n++ {
		var block *pem.Block
		block, rest = pem.Decode(rest)
		if block == nil {
			if n == 0 {
				return nil, errors.New("read the authorities: no PEM data of a certificate")
			}
			return roots, nil
		}
		one, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return nil, fmt.Errorf("read certificate %d of the authorities: %w", n+1, err)
		}
		roots.AddCert(one)
	}
}

// Settings is what the client was made from.
func (c *Client) Settings() config.BackendTLS { return c.settings }

// Config returns the settings for one connection to an endpoint, on which a protocol is to be spoken; empty leaves the
// choice to the endpoint. Sessions are resumed with the same endpoint only: others could not decrypt its tickets.
func (c *Client) Config(endpoint string, protocol config.BackendProtocol) *tls.Config {
	own := c.config.Clone()
	own.NextProtos = offers(protocol)
	own.ClientSessionCache = endpointSessions{c.sessions, endpoint}
	return own
}

// endpointSessions is the part of a cache that belongs to one endpoint.
type endpointSessions struct {
	all      tls.ClientSessionCache
	endpoint string
}

// Get implements tls.ClientSessionCache.
func (s endpointSessions) Get(string) (*tls.ClientSessionState, bool) { return s.all.Get(s.endpoint) }

// Put implements tls.ClientSessionCache.
func (s endpointSessions) Put(_ string, session *tls.ClientSessionState) {
	s.all.Put(s.endpoint, session)
}

// verify does what crypto/tls does, but compares the names of the certificate with SubjectAltNames.
func (c *Client) verify(state tls.ConnectionState) error {
	if len(state.PeerCertificates) == 0 {
		return errors.New("the back end has sent no certificate")
	}
	intermediates := x509.NewCertPool()
	for _, one := range state.PeerCertificates[1:] {
		intermediates.AddCert(one)
	}
	leaf := state.PeerCertificates[0]
	if _, err := leaf.Verify(x509.VerifyOptions{Roots: c.config.RootCAs, Intermediates: intermediates}); err != nil {
		return &tls.CertificateVerificationError{UnverifiedCertificates: state.PeerCertificates, Err: err}
	}
	for _, name := range c.settings.SubjectAltNames {
		if has(leaf, name) {
			return nil
		}
	}
	return &tls.CertificateVerificationError{UnverifiedCertificates: state.PeerCertificates, Err: &nameError{leaf}}
}

// has reports whether a certificate is for a name. A certificate for *.example.com is for a.example.com too (RFC 9525
// section 6.3).
func has(leaf *x509.Certificate, name config.SubjectAltName) bool {
	if name.URI != "" {
		for _, uri := range leaf.URIs {
			if uri.String() == name.URI {
				return true
			}
		}
		return false
	}
	if name.Hostname[0] == '*' {
		return slices.Contains(leaf.DNSNames, name.Hostname)
	}
	return leaf.VerifyHostname(name.Hostname) == nil
}

// nameError says that a certificate has none of the names that it should have.
type nameError struct{ leaf *x509.Certificate }

func (e *nameError) Error() string {
	return fmt.Sprintf("the certificate has none of the expected names, but %q and %q", e.leaf.DNSNames, e.leaf.URIs)
}

// Problem is a token for logs and metrics that says why a handshake with a back end has failed.
func Problem(err error) string {
	switch {
	case is[x509.UnknownAuthorityError](err):
		return "tls_certificate_unknown_authority"
	case is[x509.HostnameError](err), is[*nameError](err):
		return "tls_certificate_wrong_name"
	case is[*tls.CertificateVerificationError](err):
		if invalid, ok := errors.AsType[x509.CertificateInvalidError](err); ok && invalid.Reason == x509.Expired {
			return "tls_certificate_expired"
		}
		return "tls_certificate_invalid"
	case is[tls.RecordHeaderError](err):
		return "tls_not_spoken"
	}
	if Refused(err) {
		return "tls_refused_by_back_end"
	}
	return "tls_handshake_failed"
}

// Refused reports whether err is an alert of the other side. In TLS 1.3 the refusal of a client certificate, or of having
// none, comes when the handshake is over for the client (RFC 8446 section 4.4.2.4).
func Refused(err error) bool {
	alert, ok := errors.AsType[*net.OpError](err) // crypto/tls hides the type of alerts
	return ok && alert.Op == "remote error"
}

func is[E error](err error) bool {
	_, ok := errors.AsType[E](err)
	return ok
}
