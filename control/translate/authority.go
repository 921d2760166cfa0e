package translate

import (
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"strings"

	corev1 "k8s.io/api/core/v1"

	"rauta.io/rauta/proxy/config"
)

// AuthorityEntry is the entry of a ConfigMap or Secret that has certificates of authorities (Gateway API,
// BackendTLSPolicyValidation.caCertificateRefs).
const AuthorityEntry = "ca.crt"

// authorityHint is the way out of most failures.
const authorityHint = "put the certificates of the authorities into " + AuthorityEntry + " as PEM"

// Kinds of objects that may have authorities.
const (
	kindConfigMap = "ConfigMap"
	kindSecret    = "Secret"
)

// authority reads the certificates of authorities from a ConfigMap or Secret. Its errors complete a sentence about the
// object, and never show what is in it.
func (t *translator) authority(kind string, k key) (string, error) {
	if kind == kindSecret {
		s := t.secret(k)
		if s == nil {
			return "", errors.New(t.missing(kind, k))
		}
		return t.opt.Memo.bundle(s, func() (string, error) { return authorities(secretData(s, AuthorityEntry)) })
	}
	m := t.configMap(k)
	if m == nil {
		return "", errors.New(t.missing(kind, k))
	}
	return t.opt.Memo.bundle(m, func() (string, error) { return authorities(configMapData(m, AuthorityEntry)) })
}

func configMapData(m *corev1.ConfigMap, name string) []byte {
	if text, ok := m.Data[name]; ok {
		return []byte(text)
	}
	return m.BinaryData[name]
}

// authorities returns the certificates in PEM text, all of which must be readable: a bundle of which a part was dropped
// would refuse back ends for no visible reason.
func authorities(text []byte) (string, error) {
	if len(text) == 0 {
		return "", errors.New("has nothing in " + AuthorityEntry)
	}
	bundle := config.CertificatesOnly(text)
	if bundle == "" {
		return "", errors.New("has no PEM data of a certificate in " + AuthorityEntry)
	}
	for n, rest := 1, []byte(bundle); ; n++ {
		var block *pem.Block
		if block, rest = pem.Decode(rest); block == nil {
			return bundle, nil
		}
		if _, err := x509.ParseCertificate(block.Bytes); err != nil {
			return "", fmt.Errorf("has in %s a certificate that can't be read, number %d", AuthorityEntry, n)
		}
	}
}

// nameOf says an object for messages, such as "ConfigMap a/b".
func nameOf(kind string, k key) string { return kind + " " + k.namespace + "/" + k.name }

// joinAuthorities makes one bundle of several, each certificate once.
func joinAuthorities(bundles []string) string {
	var out strings.Builder
	seen := map[string]bool{}
	for _, bundle := range bundles {
		for rest := []byte(bundle); ; {
			var block *pem.Block
			if block, rest = pem.Decode(rest); block == nil {
				break
			}
			if one := string(block.Bytes); !seen[one] {
				seen[one] = true
				out.Write(pem.EncodeToMemory(block))
			}
		}
	}
	return out.String()
}
