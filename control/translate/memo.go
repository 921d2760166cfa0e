package translate

import (
	"crypto/sha256"
	"encoding/binary"

	corev1 "k8s.io/api/core/v1"
)

// Memo remembers what the Secrets of the last run held, and what its routes came to and where they attached: checking
// an RSA key takes some tenths of a millisecond, and compiling a route some hundredths, which a cluster with thousands of
// them would pay for every change of any object. It knows objects by their addresses: whoever uses it never changes one, nor a list
// of them. It changes how long a run takes and nothing else. The zero value is empty; one Memo serves one run at a time.
type Memo struct {
	last, present map[[sha256.Size]byte]*certificate
	bundlesLast   map[any]bundle // by object
	bundles       map[any]bundle
	byRoute       routeMemo
	lists         map[string]any // *orderedList by kind
	standing      *standing      // the last run; nil if it can't be gone on with
}

// begin forgets what the last run did not use.
func (m *Memo) begin() {
	if m != nil {
		if m.lists == nil {
			m.lists = map[string]any{}
		}
		m.last, m.present = m.present, map[[sha256.Size]byte]*certificate{}
		m.bundlesLast, m.bundles = m.bundles, map[any]bundle{}
	}
}

// bundle is what a Secret or ConfigMap with authorities holds.
type bundle struct {
	pem     string
	failure error
}

// bundle returns that of an object, which is read if it is not known: hundreds of Ingresses may name one object, and each
// of the hundreds of certificates in it takes some microseconds.
func (m *Memo) bundle(object any, read func() (string, error)) (string, error) {
	if m == nil {
		return read()
	}
	known, ok := m.bundles[object]
	if !ok {
		known, ok = m.bundlesLast[object]
	}
	if !ok {
		known.pem, known.failure = read()
	}
	m.bundles[object] = known
	return known.pem, known.failure
}

// read returns what a Secret holds, for the caller to change.
func (m *Memo) read(s *corev1.Secret) *certificate {
	fresh := &certificate{}
	if m == nil || s == nil {
		fresh.read(s)
		return fresh
	}
	k := contentHash(s)
	known := m.present[k]
	if known == nil {
		known = m.last[k]
	}
	if known == nil {
		known = fresh
		known.read(s)
	}
	m.present[k] = known
	own := *known
	return &own
}

// contentHash covers what certificate.read looks at.
func contentHash(s *corev1.Secret) (sum [sha256.Size]byte) {
	h := sha256.New()
	for _, part := range [][]byte{
		[]byte(s.Type), secretData(s, corev1.TLSCertKey), secretData(s, corev1.TLSPrivateKeyKey), secretData(s, secretOCSPStaple),
	} {
		var length [8]byte
		binary.BigEndian.PutUint64(length[:], uint64(len(part)))
		h.Write(length[:])
		h.Write(part)
	}
	copy(sum[:], h.Sum(nil))
	return sum
}
