package translate

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rsa"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"maps"
	"net"
	"slices"
	"strings"
	"time"

	"golang.org/x/crypto/ocsp"
	corev1 "k8s.io/api/core/v1"

	"rauta.io/rauta/proxy/config"
)

// secretOCSPStaple is the key of a Secret under which an OCSP response (RFC 6960, DER) may be.
const secretOCSPStaple = "tls.ocsp-staple"

// InCertificate reports whether an entry of a Secret of type kubernetes.io/tls is one that is looked at.
func InCertificate(entry string) bool {
	switch entry {
	case corev1.TLSCertKey, corev1.TLSPrivateKeyKey, secretOCSPStaple, AuthorityEntry:
		return true
	}
	return false
}

// certificate is what a Secret holds, read once.
type certificate struct {
	config config.Certificate
	leaf   namesAndDates
	// failure says why the Secret can't be used, as the end of a sentence about it; it never shows what is there.
	failure string
	staple  *ocsp.Response // nil without one that can be used
	// defects do not keep it from being used.
	defects []string
	used    bool
}

// certificate reads a Secret; reading it again gives the same. Everybody who asks is noted: of the routes that need the Secret
// the first may be gone in the next run, in which the others are not compiled again.
func (t *translator) certificate(k key) *certificate {
	s := t.secret(k)
	if c := t.certificates[k]; c != nil {
		return c
	}
	c := t.opt.Memo.read(s)
	if s == nil {
		c.failure = t.missing(kindSecret, k)
	}
	c.config.Name = k.namespace + "/" + k.name
	if c.failure == "" {
		c.defects = slices.Concat(c.defects, c.validity(t.opt.Now))
		c.checkStaple(t.opt.Now)
	}
	t.certificates[k] = c
	return c
}

// use puts the certificate into the configuration and returns its name there.
func (c *certificate) use() string {
	c.used = true
	return c.config.Name
}

func (t *translator) keepUsedCertificates() {
	for _, c := range t.certificates {
		if c.used {
			t.config.Certificates = append(t.config.Certificates, c.config)
		}
	}
	slices.SortFunc(t.config.Certificates, func(a, b config.Certificate) int { return strings.Compare(a.Name, b.Name) })
}

func (c *certificate) read(s *corev1.Secret) {
	switch {
	case s == nil:
		c.failure = "does not exist"
		return
	case s.Type != corev1.SecretTypeTLS:
		c.failure = fmt.Sprintf("has type %q instead of %s", s.Type, corev1.SecretTypeTLS)
		return
	}
	c.config.Chain = config.CertificatesOnly(secretData(s, corev1.TLSCertKey))
	if c.config.Chain == "" {
		c.failure = "has no PEM data of a certificate in " + corev1.TLSCertKey
		return
	}
	block, _ := pem.Decode([]byte(c.config.Chain))
	leaf, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		c.failure = fmt.Sprintf("has a certificate in %s that can't be read", corev1.TLSCertKey)
		return
	}
	private, err := privateKey(secretData(s, corev1.TLSPrivateKeyKey))
	if err != nil {
		c.failure = fmt.Sprintf("%v in %s", err, corev1.TLSPrivateKeyKey)
		return
	}
	if public, ok := private.Public().(interface{ Equal(crypto.PublicKey) bool }); !ok || !public.Equal(leaf.PublicKey) {
		c.failure = fmt.Sprintf("has a key in %s that does not belong to the certificate in %s", corev1.TLSPrivateKeyKey, corev1.TLSCertKey)
		return
	}
	der, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		c.failure = fmt.Sprintf("has a key that can't be used in %s", corev1.TLSPrivateKeyKey)
		return
	}
	c.config.Key = pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der})
	if staple := secretData(s, secretOCSPStaple); len(staple) > 0 {
		c.readStaple(staple, leaf)
	}
	c.leaf = namesAndDates{leaf.DNSNames, leaf.IPAddresses, leaf.NotBefore, leaf.NotAfter}
}

// namesAndDates is as much of a certificate as is needed once it has been checked. The rest is some kilobytes that the Memo
// would keep for each.
type namesAndDates struct {
	dnsNames            []string
	ipAddresses         []net.IP
	notBefore, notAfter time.Time
}

// covers reports whether a client that asks for hostname accepts the names.
func (n *namesAndDates) covers(hostname string) bool {
	asked := x509.Certificate{DNSNames: n.dnsNames, IPAddresses: n.ipAddresses}
	return asked.VerifyHostname(hostname) == nil
}

// secretData reads one entry; stringData wins, as it does when an API server takes a Secret.
func secretData(s *corev1.Secret, name string) []byte {
	if text, ok := s.StringData[name]; ok {
		return []byte(text)
	}
	return s.Data[name]
}

// privateKey reads the first key in PEM text, in the forms that crypto/tls reads: PKCS #8, PKCS #1 and SEC 1. Its errors
// complete "the Secret ... in tls.key".
func privateKey(text []byte) (crypto.Signer, error) {
	for {
		block, rest := pem.Decode(text)
		switch {
		case block == nil:
			return nil, errors.New("has no PEM data of a private key")
		case block.Type == "ENCRYPTED PRIVATE KEY":
			return nil, errors.New("has an encrypted key, which can't be used,")
		case block.Type == "PRIVATE KEY" || strings.HasSuffix(block.Type, " PRIVATE KEY"):
			return parseKey(block.Bytes)
		}
		text = rest
	}
}

func parseKey(der []byte) (crypto.Signer, error) {
	unreadable := errors.New("has a private key that can't be read")
	var parsed any
	parsed, err := x509.ParsePKCS8PrivateKey(der)
	if err != nil {
		parsed, err = x509.ParsePKCS1PrivateKey(der)
	}
	if err != nil {
		parsed, err = x509.ParseECPrivateKey(der)
	}
	if err != nil {
		return nil, unreadable
	}
	switch k := parsed.(type) {
	case *rsa.PrivateKey:
		if k.N.BitLen() < rsaBitsMin {
			return nil, fmt.Errorf("has an RSA key of less than %d bits", rsaBitsMin)
		}
		return k, nil
	case *ecdsa.PrivateKey:
		if k.Curve == elliptic.P224() { // RFC 8446 section 4.2.7 does not have it
			return nil, errors.New("has a key on a curve that TLS doesn't know")
		}
		return k, nil
	case ed25519.PrivateKey:
		return k, nil
	}
	return nil, errors.New("has a key that is not RSA, ECDSA or Ed25519")
}

// rsaBitsMin is the shortest RSA key that clients accept (CA/Browser Forum, baseline requirements, section 6.1.5).
const rsaBitsMin = 2048

// validity compares the dates of the certificate with the present; it may be served all the same, clients decide.
func (c *certificate) validity(now time.Time) []string {
	day := func(at time.Time) string { return at.UTC().Format(time.RFC3339) }
	switch {
	case now.IsZero():
		return nil
	case now.After(c.leaf.notAfter):
		return []string{"has a certificate that expired on " + day(c.leaf.notAfter)}
	case now.Before(c.leaf.notBefore):
		return []string{"has a certificate that is not valid before " + day(c.leaf.notBefore)}
	}
	return nil
}

// covers reports whether a client that asks for hostname, which may be a wildcard, accepts the certificate's names.
func (c *certificate) covers(hostname string) bool {
	if suffix, wildcard := strings.CutPrefix(hostname, "*"); wildcard {
		return slices.Contains(c.leaf.dnsNames, hostname) || c.leaf.covers("any"+suffix)
	}
	return c.leaf.covers(hostname)
}

// describe names what the certificate is for.
func (c *certificate) describe() string {
	if len(c.leaf.dnsNames) == 0 {
		return "no DNS name"
	}
	return strings.Join(c.leaf.dnsNames, ", ")
}

// certificateHint is the way out of most failures.
const certificateHint = "create a Secret of type kubernetes.io/tls with tls.crt and tls.key in PEM"

// reportDefects reports what is wrong with a certificate that is used for hostname, "" for any.
func reportDefects(r reporter, field string, k key, c *certificate, hostname string) {
	for _, defect := range c.defects {
		r.warnf(field, "renew it", "Secret %s/%s %s", k.namespace, k.name, defect)
	}
	if hostname != "" && !c.covers(hostname) {
		r.warnf(field, "issue a certificate for "+hostname, "the certificate in Secret %s/%s is for %s, not for %s; clients will refuse it",
			k.namespace, k.name, c.describe(), hostname)
	}
}

// Options of a listener's tls (Gateway API, ListenerTLSConfig.options).
const (
	optionMinVersion   = annotationPrefix + "tls-min-version"
	optionMaxVersion   = annotationPrefix + "tls-max-version"
	optionCipherSuites = annotationPrefix + "tls-cipher-suites"
	optionClientDepth  = annotationClientDepth
	optionClientFacts  = annotationClientFacts
	optionTicketKeys   = annotationPrefix + "session-ticket-keys"
)

// readOptions reads the options of a listener. One that can't be read keeps the listener from being served: whoever
// wrote it wanted to restrict something.
func (l *listener) readOptions(t *translator) {
	tls := &config.TLS{}
	options := l.spec.TLS.Options
	for _, name := range slices.Sorted(maps.Keys(options)) {
		field, value := fmt.Sprintf("tls.options[%s]", name), string(options[name])
		var err error
		switch string(name) {
		case optionMinVersion:
			tls.MinVersion = config.TLSVersion(value)
			err = config.CheckTLSVersions(tls.MinVersion, "")
		case optionMaxVersion:
			tls.MaxVersion = config.TLSVersion(value)
			err = config.CheckTLSVersions("", tls.MaxVersion)
		case optionCipherSuites:
			for suite := range strings.SplitSeq(value, ",") {
				suite = strings.TrimSpace(suite)
				tls.CipherSuites = append(tls.CipherSuites, suite)
				err = errors.Join(err, config.CheckCipherSuite(suite))
			}
		case optionClientDepth:
			l.clients.set = true
			l.clients.depthMax, err = parseClientDepth(value)
		case optionClientFacts:
			l.clients.set = true
			l.clients.facts, err = parseClientFacts(value)
		case optionTicketKeys:
			tls.TicketKeys, err = t.ticketKeysOf(l, field, value)
		default:
			l.report.warnf(l.field+"."+field, "use one of "+strings.Join([]string{
				optionClientDepth, optionClientFacts, optionTicketKeys, optionCipherSuites, optionMaxVersion, optionMinVersion}, ", "),
				"the option %q is not known and has no effect", name)
		}
		if err != nil {
			l.reject(reasonInvalidOption, field, "correct it", err.Error())
		}
	}
	if err := config.CheckTLSVersions(tls.MinVersion, tls.MaxVersion); err != nil && l.refused == "" {
		l.reject(reasonInvalidOption, "tls.options", "correct them", err.Error())
	}
	l.tls = tls
}
