package config

import (
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strings"
)

// BackendTLS is how connections to the endpoints of a cluster are secured, and who the endpoints have to be. Exactly one
// of CA, SystemRoots and Unverified says what makes a certificate one to trust.
type BackendTLS struct {
	// CA are the certificates of authorities as PEM: the chain of an endpoint must lead to one of them.
	CA string `json:"ca,omitempty"`
	// SystemRoots stands for the authorities that the machine trusts.
	SystemRoots bool `json:"systemRoots,omitempty"`
	// Unverified accepts every certificate: whoever is between can read and change everything. Control sets it only where
	// the user has asked for it in so many words.
	Unverified bool `json:"unverified,omitempty"`
	// ServerName is what is asked for (SNI, RFC 6066 section 3). The certificate must be valid for it, unless SubjectAltNames
	// says otherwise. Only with Unverified it may be empty.
	ServerName string `json:"serverName,omitempty"`
	// SubjectAltNames, if there are any, are the names of which the certificate must have one. ServerName is then not
	// compared.
	SubjectAltNames []SubjectAltName `json:"subjectAltNames,omitempty"`
	// ClientCertificate is the name in Config.Certificates of what is shown to endpoints that ask for one; "" for nothing.
	ClientCertificate string `json:"clientCertificate,omitempty"`
}

// SubjectAltName is a name in a certificate (RFC 5280 section 4.2.1.6): exactly one of its fields is set.
type SubjectAltName struct {
	// Hostname is lower case. "*.example.com" is a name of its own: it is met by a certificate with that very name.
	Hostname string `json:"hostname,omitempty"`
	// URI is compared byte for byte, such as "spiffe://example.com/ns/a/sa/b".
	URI string `json:"uri,omitempty"`
}

// Equal reports whether two settings, which may be nil, are the same.
func (t *BackendTLS) Equal(o *BackendTLS) bool {
	if t == nil || o == nil {
		return t == o
	}
	return t.CA == o.CA && t.SystemRoots == o.SystemRoots && t.Unverified == o.Unverified && t.ServerName == o.ServerName &&
		t.ClientCertificate == o.ClientCertificate && slices.Equal(t.SubjectAltNames, o.SubjectAltNames)
}

// CheckURIName says what is wrong with SubjectAltName.URI, or nil.
func CheckURIName(text string) error {
	u, err := url.Parse(text)
	if err != nil || u.Scheme == "" || strings.TrimPrefix(text[len(u.Scheme):], ":") == "" {
		return fmt.Errorf("%q is not a URI with a scheme, such as spiffe://example.com/ns/a/sa/b", text)
	}
	return nil
}

// backendTLS checks the TLS settings of a cluster.
func (v *validator) backendTLS(t *BackendTLS) (field string, err error) {
	if t == nil {
		return "", nil
	}
	trusted := 0
	for _, set := range []bool{t.CA != "", t.SystemRoots, t.Unverified} {
		if set {
			trusted++
		}
	}
	switch {
	case trusted != 1:
		return "tls", errors.New("exactly one of ca, systemRoots and unverified must be set")
	case t.CA != "" && CertificatesOnly([]byte(t.CA)) == "":
		return "tls.ca", errors.New("no PEM data of a certificate")
	case t.ServerName == "" && !t.Unverified:
		return "tls.serverName", errors.New("empty; nobody could say whose certificate is right")
	case t.Unverified && len(t.SubjectAltNames) > 0:
		return "tls.subjectAltNames", errors.New("names of a certificate that is not verified prove nothing")
	}
	if t.ServerName != "" {
		if err := CheckHostname(t.ServerName, false); err != nil {
			return "tls.serverName", err
		}
	}
	for i, name := range t.SubjectAltNames {
		field := fmt.Sprintf("tls.subjectAltNames[%d]", i)
		switch {
		case (name.Hostname == "") == (name.URI == ""):
			return field, errors.New("exactly one of hostname and uri must be set")
		case name.Hostname != "":
			err = CheckHostname(name.Hostname, true)
		default:
			err = CheckURIName(name.URI)
		}
		if err != nil {
			return field, err
		}
	}
	if t.ClientCertificate != "" && !v.certificateNames[t.ClientCertificate] {
		return "tls.clientCertificate", fmt.Errorf("certificate %q does not exist", t.ClientCertificate)
	}
	return "", nil
}
