package certs

import (
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"net/url"
	"strings"
	"testing"
	"time"

	"rauta.io/rauta/proxy/config"
)

// authority issues certificates for back ends and clients.
type authority struct {
	t    *testing.T
	cert *x509.Certificate
	pair tls.Certificate
	pem  string
}

func newAuthority(t *testing.T) *authority {
	t.Helper()
	a := &authority{t: t}
	a.pair = a.sign(&x509.Certificate{Subject: pkix.Name{CommonName: "authority"}, IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign})
	a.cert = a.pair.Leaf
	a.pem = string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: a.cert.Raw}))
	return a
}

// sign completes a template; without an authority the certificate signs itself.
func (a *authority) sign(template *x509.Certificate) tls.Certificate {
	a.t.Helper()
	key := newKey(a.t, "ecdsa")
	template.SerialNumber = big.NewInt(1)
	template.NotBefore = time.Now().Add(-time.Hour)
	if template.NotAfter.IsZero() {
		template.NotAfter = time.Now().Add(time.Hour)
	}
	parent, signer := template, any(key)
	if a.cert != nil {
		parent, signer = a.cert, a.pair.PrivateKey
	}
	der, err := x509.CreateCertificate(rand.Reader, template, parent, key.Public(), signer)
	if err != nil {
		a.t.Fatal(err)
	}
	leaf, err := x509.ParseCertificate(der)
	if err != nil {
		a.t.Fatal(err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key, Leaf: leaf}
}

// serve is the side of a back end that has a certificate for names; those with a colon are URIs.
func (a *authority) serve(names ...string) *tls.Config {
	template := &x509.Certificate{}
	for _, name := range names {
		if strings.Contains(name, ":") {
			uri, err := url.Parse(name)
			if err != nil {
				a.t.Fatal(err)
			}
			template.URIs = append(template.URIs, uri)
		} else {
			template.DNSNames = append(template.DNSNames, name)
		}
	}
	return &tls.Config{Certificates: []tls.Certificate{a.sign(template)}}
}

func client(t *testing.T, settings config.BackendTLS) *Client {
	t.Helper()
	c, err := NewClient(nil, new(Store), &settings)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func TestABackEndMustProveWhoItIs(t *testing.T) {
	ours, other := newAuthority(t), newAuthority(t)
	expired := &tls.Config{Certificates: []tls.Certificate{ours.sign(&x509.Certificate{
		DNSNames: []string{"a.example.com"}, NotAfter: time.Now().Add(-time.Minute),
	})}}
	forClients := &tls.Config{Certificates: []tls.Certificate{ours.sign(&x509.Certificate{
		DNSNames: []string{"a.example.com"}, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
	})}}
	const spiffe = "spiffe://example.com/ns/a/sa/b"
	named := func(names ...config.SubjectAltName) config.BackendTLS {
		return config.BackendTLS{CA: ours.pem, ServerName: "a.example.com", SubjectAltNames: names}
	}
	for what, c := range map[string]struct {
		server   *tls.Config
		settings config.BackendTLS
		problem  string // "" if it is accepted
	}{
		"the right name":                       {ours.serve("a.example.com"), named(), ""},
		"a wildcard for the name":              {ours.serve("*.example.com"), named(), ""},
		"one of two authorities":               {ours.serve("a.example.com"), config.BackendTLS{CA: other.pem + ours.pem, ServerName: "a.example.com"}, ""},
		"another authority":                    {other.serve("a.example.com"), named(), "tls_certificate_unknown_authority"},
		"an authority that the system lacks":   {ours.serve("a.example.com"), config.BackendTLS{SystemRoots: true, ServerName: "a.example.com"}, "tls_certificate_unknown_authority"},
		"another name":                         {ours.serve("b.example.com"), named(), "tls_certificate_wrong_name"},
		"an expired one":                       {expired, named(), "tls_certificate_expired"},
		"one for clients":                      {forClients, named(), "tls_certificate_invalid"},
		"everybody":                            {other.serve("b.example.com"), config.BackendTLS{Unverified: true}, ""},
		"an expected URI":                      {ours.serve(spiffe), named(config.SubjectAltName{URI: spiffe}), ""},
		"an expected host":                     {ours.serve("b.example.com"), named(config.SubjectAltName{Hostname: "b.example.com"}), ""},
		"a wildcard for an expected host":      {ours.serve("*.example.com"), named(config.SubjectAltName{Hostname: "b.example.com"}), ""},
		"the second of two expected names":     {ours.serve(spiffe), named(config.SubjectAltName{Hostname: "b.example.com"}, config.SubjectAltName{URI: spiffe}), ""},
		"an expected wildcard":                 {ours.serve("*.example.com"), named(config.SubjectAltName{Hostname: "*.example.com"}), ""},
		"a host below an expected wildcard":    {ours.serve("b.example.com"), named(config.SubjectAltName{Hostname: "*.example.com"}), "tls_certificate_wrong_name"},
		"another URI":                          {ours.serve(spiffe + "c"), named(config.SubjectAltName{URI: spiffe}), "tls_certificate_wrong_name"},
		"the server name, which is not enough": {ours.serve("a.example.com"), named(config.SubjectAltName{URI: spiffe}), "tls_certificate_wrong_name"},
		"the URI, by another authority":        {other.serve(spiffe), named(config.SubjectAltName{URI: spiffe}), "tls_certificate_unknown_authority"},
		"the URI, in an expired one": {
			&tls.Config{Certificates: []tls.Certificate{ours.sign(&x509.Certificate{
				URIs: []*url.URL{{Scheme: "spiffe", Host: "example.com", Path: "/ns/a/sa/b"}}, NotAfter: time.Now().Add(-time.Minute),
			})}}, named(config.SubjectAltName{URI: spiffe}), "tls_certificate_expired",
		},
	} {
		for _, version := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
			c.server.MaxVersion = version
			_, err := meet(c.server, client(t, c.settings).Config("10.0.0.1:443", ""))
			if (err == nil) != (c.problem == "") || err != nil && Problem(err) != c.problem {
				t.Errorf("%s, version %x: %v (%s), want %q", what, version, err, Problem(err), c.problem)
			}
		}
	}
}

func TestTheServerNameIsAskedFor(t *testing.T) {
	ca := newAuthority(t)
	server, asked := ca.serve("a.example.com"), ""
	server.GetConfigForClient = func(hello *tls.ClientHelloInfo) (*tls.Config, error) {
		asked = hello.ServerName
		return nil, nil
	}
	if _, err := meet(server, client(t, config.BackendTLS{CA: ca.pem, ServerName: "a.example.com"}).Config("", "")); err != nil || asked != "a.example.com" {
		t.Errorf("%q was asked for: %v", asked, err)
	}
}

func TestTheProtocolDecidesWhatIsOffered(t *testing.T) {
	ca := newAuthority(t)
	for _, c := range []struct {
		protocol  config.BackendProtocol
		speaks    []string
		agreed    string
		refused   bool
		situation string
	}{
		{"", []string{"h2", "http/1.1"}, "h2", false, "both speak both"},
		{"", []string{"http/1.1"}, "http/1.1", false, "the back end is older"},
		{"", nil, "", false, "the back end does not say"},
		{config.BackendHTTP1, []string{"h2", "http/1.1"}, "http/1.1", false, "HTTP/1.1 is wanted"},
		{config.BackendH2, []string{"h2", "http/1.1"}, "h2", false, "HTTP/2 is wanted"},
		{config.BackendH2, []string{"http/1.1"}, "", true, "HTTP/2 is wanted of one that has it not"},
	} {
		server := ca.serve("a.example.com")
		server.NextProtos = c.speaks
		one, err := NewClient(nil, new(Store), &config.BackendTLS{CA: ca.pem, ServerName: "a.example.com"})
		if err != nil {
			t.Fatal(err)
		}
		state, err := meet(server, one.Config("", c.protocol))
		if (err != nil) != c.refused || state.NegotiatedProtocol != c.agreed {
			t.Errorf("%s: %q, %v", c.situation, state.NegotiatedProtocol, err)
		}
		if c.refused && Problem(err) != "tls_refused_by_back_end" {
			t.Errorf("%s: problem %q", c.situation, Problem(err))
		}
	}
}

// TestAClientCertificateIsShownToWhoAsks: also when the back end lists authorities that do not include ours, since
// otherwise nobody could tell why it refuses.
func TestAClientCertificateIsShownToWhoAsks(t *testing.T) {
	ca := newAuthority(t)
	own := issue(t, "default/client", "ecdsa", "rauta")
	settings := config.BackendTLS{CA: ca.pem, ServerName: "a.example.com", ClientCertificate: own.Name}
	with, err := NewClient(nil, store(t, own), &settings)
	if err != nil {
		t.Fatal(err)
	}
	settings.ClientCertificate = ""
	for what, c := range map[string]struct {
		client *Client
		shown  string
	}{
		"with one": {with, "rauta"}, "without": {client(t, settings), ""},
	} {
		server, shown := ca.serve("a.example.com"), ""
		server.ClientAuth, server.ClientCAs = tls.RequestClientCert, x509.NewCertPool()
		server.ClientCAs.AddCert(ca.cert)
		server.VerifyConnection = func(state tls.ConnectionState) error {
			if len(state.PeerCertificates) > 0 {
				shown = state.PeerCertificates[0].DNSNames[0]
			}
			return nil
		}
		if _, err := meet(server, c.client.Config("", "")); err != nil || shown != c.shown {
			t.Errorf("%s: %q was shown, %v", what, shown, err)
		}
	}
	for _, version := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
		server := ca.serve("a.example.com")
		server.ClientAuth, server.MaxVersion = tls.RequireAnyClientCert, version
		if _, err := meet(server, client(t, settings).Config("", "")); Problem(err) != "tls_refused_by_back_end" {
			t.Errorf("version %x: a back end that demands a certificate: %v (%s)", version, err, Problem(err))
		}
	}
}

func TestSessionsAreResumedWithTheSameEndpointUnderTheSameSettings(t *testing.T) {
	ca := newAuthority(t)
	own := issue(t, "default/client", "ecdsa", "rauta")
	certificates := store(t, own)
	settings := config.BackendTLS{CA: ca.pem, ServerName: "a.example.com"}
	first := client(t, settings)
	byName := settings
	byName.SubjectAltNames = []config.SubjectAltName{{Hostname: "a.example.com"}}
	for _, version := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
		server := ca.serve("a.example.com")
		server.MaxVersion = version
		resumes := func(c *Client, endpoint string) bool {
			state, err := meet(server, c.Config(endpoint, ""))
			if err != nil {
				t.Fatal(err)
			}
			return state.DidResume
		}
		if resumes(first, "10.0.0.1:443") {
			t.Errorf("version %x: the first connection is a resumption", version)
		}
		if !resumes(first, "10.0.0.1:443") {
			t.Errorf("version %x: the second connection is none", version)
		}
		if resumes(first, "10.0.0.2:443") {
			t.Errorf("version %x: a session is offered to another endpoint", version)
		}
		named := client(t, byName)
		if resumes(named, "10.0.0.1:443") || !resumes(named, "10.0.0.1:443") {
			t.Errorf("version %x: with expected names", version)
		}
		settings.ClientCertificate = own.Name
		next, err := NewClient(first, certificates, &settings)
		if err != nil || next == first || resumes(next, "10.0.0.1:443") {
			t.Errorf("version %x: the session of another identity is resumed (%v)", version, err)
		}
		settings.ClientCertificate = ""
	}
}

func TestAClientIsKeptWhileNothingChanges(t *testing.T) {
	ca, other := newAuthority(t), newAuthority(t)
	own := issue(t, "default/client", "ecdsa", "rauta")
	certificates := store(t, own)
	settings := func() *config.BackendTLS {
		return &config.BackendTLS{CA: ca.pem, ServerName: "a.example.com", ClientCertificate: own.Name,
			SubjectAltNames: []config.SubjectAltName{{Hostname: "a.example.com"}}}
	}
	first, err := NewClient(nil, certificates, settings())
	if err != nil {
		t.Fatal(err)
	}
	again, err := NewClient(first, certificates, settings())
	if err != nil || again != first {
		t.Errorf("equal settings make another client: %v", err)
	}
	renewed := store(t, issue(t, own.Name, "ecdsa", "rauta"))
	for what, change := range map[string]func(s *config.BackendTLS) *Store{
		"authority":          func(s *config.BackendTLS) *Store { s.CA = other.pem; return certificates },
		"server name":        func(s *config.BackendTLS) *Store { s.ServerName = "b"; return certificates },
		"expected names":     func(s *config.BackendTLS) *Store { s.SubjectAltNames[0].Hostname = "b"; return certificates },
		"client certificate": func(s *config.BackendTLS) *Store { return renewed },
	} {
		s := settings()
		store := change(s)
		if next, err := NewClient(first, store, s); err != nil || next == first {
			t.Errorf("another %s makes the same client: %v", what, err)
		}
	}
}

func TestSettingsThatCannotBeUsedMakeNoClient(t *testing.T) {
	ca := newAuthority(t)
	broken := string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: []byte("nonsense")}))
	for want, settings := range map[string]config.BackendTLS{
		"no PEM data of a certificate":            {CA: "nonsense", ServerName: "a"},
		"read certificate 2 of the authorities":   {CA: ca.pem + broken, ServerName: "a"},
		`the client certificate "x" does not exi`: {CA: ca.pem, ServerName: "a", ClientCertificate: "x"},
	} {
		if c, err := NewClient(nil, new(Store), &settings); c != nil || err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, want %q", err, want)
		}
	}
}
