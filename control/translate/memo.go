package translate

import (
	"crypto/sha256"
	"encoding/binary"

	corev1 "k8s.io/api/core/v1"
)

// Memo remembers what the Secrets of the last run held, and what its routes came to and where they attached: checking
// an RSA key takes some tenths of a millisecond, and compiling a route some hundredths, which a cluster with thousands of
// them would pay for every change of any object. It knows objects by their addresses: whoever uses it never changes one. It changes how long a run takes and nothing
// else. The zero value is empty; one Memo serves one run at a time.
type Memo struct {
	last, present map[[sha256.Size]byte]*certificate
	byRoute       routeMemo
	lists         map[string]any // *orderedList by kind
}

// begin forgets what the last run did not use.
func (m *Memo) begin() {
	if m != nil {
		if m.lists == nil {
			m.lists = map[string]any{}
		}
		m.last, m.present = m.present, map[[sha256.Size]byte]*certificate{}
	}
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
