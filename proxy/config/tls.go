package config

import (
	"encoding/pem"
	"errors"
	"fmt"
	"slices"
	"strings"
)

// Certificate is a certificate chain with its private key. Listeners refer to it by Name.
type Certificate struct {
	// Name is unique: "namespace/secret".
	Name string `json:"name"`
	// Chain is PEM: the certificate of the server first, then those that lead to a root (RFC 8446 section 4.4.2).
	Chain string `json:"chain"`
	// Key is the private key of the first certificate as PEM: PKCS #8, PKCS #1 or SEC 1; RSA, ECDSA or Ed25519.
	Key Secret `json:"key"`
	// OCSPStaple is a DER response (RFC 6960) that is sent along; empty for none.
	OCSPStaple []byte `json:"ocspStaple,omitempty"`
	// StapleUntil is when OCSPStaple stops being sent, in Unix seconds; 0 for never.
	StapleUntil int64 `json:"stapleUntil,omitempty"`
}

// TLSVersion is "1.2" or "1.3"; older ones are not spoken (RFC 8996).
type TLSVersion string

// TLS versions.
const (
	TLS12 TLSVersion = "1.2"
	TLS13 TLSVersion = "1.3"
)

// TLS is how a listener with ProtocolHTTPS terminates TLS.
type TLS struct {
	// Certificates are names in Config.Certificates, of which the client gets the first that it supports. With none, every
	// handshake for the listener is refused: that is how a listener whose certificate is missing stays closed, without
	// another listener taking its clients.
	Certificates []string `json:"certificates,omitempty"`
	// Hosts have certificates of their own, in order of Hostname. Names not among them get Certificates.
	Hosts []TLSHost `json:"hosts,omitempty"`
	// MinVersion is the oldest version to speak; "" means TLS 1.2. MaxVersion is the newest; "" means no limit.
	MinVersion TLSVersion `json:"minVersion,omitempty"`
	MaxVersion TLSVersion `json:"maxVersion,omitempty"`
	// CipherSuites restricts TLS 1.2 to these of CipherSuiteNames; those of TLS 1.3 are all safe and not negotiable here.
	CipherSuites []string `json:"cipherSuites,omitempty"`
	// ClientAuth, if set, asks clients for a certificate; Hosts have their own say.
	ClientAuth *ClientAuth `json:"clientAuth,omitempty"`
	// TicketKeys names the one of Config.TicketKeySets that counts instead of Config.TicketKeys; "" for none.
	TicketKeys string `json:"ticketKeys,omitempty"`
}

// TLSHost is a server name with certificates of its own.
type TLSHost struct {
	// Hostname is lower case, exact or "*.suffix".
	Hostname string `json:"hostname"`
	// Certificates as in TLS: with none the name is refused.
	Certificates []string `json:"certificates,omitempty"`
	// ClientAuth, if set, asks clients of this name for a certificate, whatever TLS.ClientAuth says.
	ClientAuth *ClientAuth `json:"clientAuth,omitempty"`
}

// CipherSuiteNames returns the suites of TLS 1.2 that may be offered, by their IANA names: those with forward secrecy
// and authenticated encryption, which are also all that HTTP/2 allows (RFC 9113 section 9.2.2).
func CipherSuiteNames() []string {
	return []string{
		"TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256", "TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256",
		"TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384", "TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384",
		"TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256", "TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256",
	}
}

// CheckTLSVersions says what is wrong with the versions of a listener, or nil.
func CheckTLSVersions(oldest, newest TLSVersion) error {
	for _, v := range []TLSVersion{oldest, newest} {
		if v != "" && v != TLS12 && v != TLS13 {
			return fmt.Errorf("TLS version %q is not %s or %s", v, TLS12, TLS13)
		}
	}
	if oldest == TLS13 && newest == TLS12 {
		return fmt.Errorf("the oldest TLS version, %s, is above the newest, %s", oldest, newest)
	}
	return nil
}

// CheckCipherSuite says what is wrong with the name of a cipher suite, or nil.
func CheckCipherSuite(name string) error {
	if !slices.Contains(CipherSuiteNames(), name) {
		return fmt.Errorf("cipher suite %q is not one of %s; those of TLS 1.3 can't be chosen", name, strings.Join(CipherSuiteNames(), ", "))
	}
	return nil
}

// CertificatesOnly returns the certificates in PEM text and drops everything else: comments, and keys that somebody has
// put into the wrong file.
func CertificatesOnly(text []byte) string {
	var out strings.Builder
	for {
		block, rest := pem.Decode(text)
		if block == nil {
			return out.String()
		}
		if block.Type == pemCertificate {
			block.Headers = nil
			out.Write(pem.EncodeToMemory(block))
		}
		text = rest
	}
}

// pemCertificate is the label of a certificate (RFC 7468 section 5.1).
const pemCertificate = "CERTIFICATE"

func checkTLS(l *Listener) (field string, err error) {
	t := l.TLS
	switch {
	case t == nil && l.Protocol == ProtocolHTTPS:
		return "tls", fmt.Errorf("protocol %s needs tls", ProtocolHTTPS)
	case (t != nil) == l.Passthrough && l.Protocol == ProtocolTLS:
		return "tls", fmt.Errorf("protocol %s needs either tls or passthrough", ProtocolTLS)
	case t == nil:
		return "", nil
	case l.Protocol != ProtocolHTTPS && l.Protocol != ProtocolTLS:
		return "tls", fmt.Errorf("only the protocols %s and %s have tls", ProtocolHTTPS, ProtocolTLS)
	}
	if err := CheckTLSVersions(t.MinVersion, t.MaxVersion); err != nil {
		return "tls.minVersion", err
	}
	for i, name := range t.CipherSuites {
		if err := CheckCipherSuite(name); err != nil {
			return fmt.Sprintf("tls.cipherSuites[%d]", i), err
		}
	}
	if field, err := checkClientAuth(t.ClientAuth); err != nil {
		return "tls.clientAuth." + field, err
	}
	seen := make(map[string]bool, len(t.Hosts))
	for i := range t.Hosts {
		h := t.Hosts[i].Hostname
		if err := CheckHostname(h, true); err != nil {
			return fmt.Sprintf("tls.hosts[%d].hostname", i), err
		}
		if seen[h] {
			return fmt.Sprintf("tls.hosts[%d].hostname", i), fmt.Errorf("hostname %q is there twice", h)
		}
		seen[h] = true
		if field, err := checkClientAuth(t.Hosts[i].ClientAuth); err != nil {
			return fmt.Sprintf("tls.hosts[%d].clientAuth.%s", i, field), err
		}
	}
	return "", nil
}

func (v *validator) certificates() {
	v.certificateNames = make(map[string]bool, len(v.config.Certificates))
	for i := range v.config.Certificates {
		c := &v.config.Certificates[i]
		err := checkUnique(v.certificateNames, c.Name)
		path := fmt.Sprintf("certificates[%d].name", i)
		if err == nil && (c.Chain == "" || len(c.Key) == 0) {
			err, path = errors.New("the chain or the key is empty"), fmt.Sprintf("certificates[%q]", c.Name)
		}
		if err != nil {
			v.report(Error{Part: PartCertificate, Index: i, Path: path, Err: err})
		}
	}
}

// references reports the names of certificates that do not exist. The listener goes without them.
func (v *validator) references(index int, l *Listener) {
	if l.TLS == nil {
		return
	}
	check := func(names []string, field string) {
		for i, name := range names {
			if !v.certificateNames[name] {
				v.report(Error{Part: PartTLSReference, Index: index, Path: fmt.Sprintf("listeners[%q].tls.%s[%d]", l.Name, field, i),
					Err: fmt.Errorf("certificate %q does not exist", name)})
			}
		}
	}
	if name := l.TLS.TicketKeys; name != "" && !v.ticketKeySetNames[name] {
		v.report(Error{Part: PartTLSReference, Index: index, Path: fmt.Sprintf("listeners[%q].tls.ticketKeys", l.Name),
			Err: fmt.Errorf("ticketKeySet %q does not exist", name)})
	}
	check(l.TLS.Certificates, "certificates")
	for i := range l.TLS.Hosts {
		check(l.TLS.Hosts[i].Certificates, fmt.Sprintf("hosts[%d].certificates", i))
	}
}

// TicketKeySet are keys as in Config.TicketKeys for the listeners that name it. Without any each process has its own.
type TicketKeySet struct {
	// Name is unique: "namespace/secret".
	Name string   `json:"name"`
	Keys []Secret `json:"keys,omitempty"`
}

// TicketKeyBytesMin and TicketKeyBytesMax bound the material of a session ticket key: 256 bits are what AES-256 takes.
const (
	TicketKeyBytesMin = 32
	TicketKeyBytesMax = 1024
)

// CheckTicketKey says what is wrong with the material of a session ticket key, or nil. It never shows it.
func CheckTicketKey(key []byte) error {
	if len(key) < TicketKeyBytesMin || len(key) > TicketKeyBytesMax {
		return fmt.Errorf("a key for session tickets has %d to %d random bytes, this one has %d", TicketKeyBytesMin, TicketKeyBytesMax, len(key))
	}
	return nil
}

func (v *validator) ticketKeys() {
	for i, key := range v.config.TicketKeys {
		if err := CheckTicketKey(key.Reveal()); err != nil {
			v.report(Error{Part: PartTicketKey, Index: i, Path: fmt.Sprintf("ticketKeys[%d]", i), Err: err})
		}
	}
	v.ticketKeySetNames = make(map[string]bool, len(v.config.TicketKeySets))
	for i := range v.config.TicketKeySets {
		s := &v.config.TicketKeySets[i]
		if err := checkUnique(v.ticketKeySetNames, s.Name); err != nil {
			v.report(Error{Part: PartTicketKeySet, Index: i, Path: fmt.Sprintf("ticketKeySets[%d].name", i), Err: err})
			continue
		}
		for j, key := range s.Keys {
			if err := CheckTicketKey(key.Reveal()); err != nil {
				v.report(Error{Part: PartTicketKeySet, Index: i, Path: fmt.Sprintf("ticketKeySets[%q].keys[%d]", s.Name, j), Err: err})
				break
			}
		}
	}
}
