package watch

import (
	"fmt"

	corev1 "k8s.io/api/core/v1"
)

// dataBytesMax bounds what is kept of one Secret or ConfigMap, in bytes of its entries that are looked at. API servers take
// 1 MiB, which hundreds of objects would make a heap of. The bundle of all public authorities has about 230 KiB.
const dataBytesMax = 512 << 10

// tooLarge completes a sentence about an object with more than that; empty if there is not.
func tooLarge(bytes int) string {
	if bytes <= dataBytesMax {
		return ""
	}
	return fmt.Sprintf("has %d bytes of data, and not more than %d are read", bytes, dataBytesMax)
}

func largeSecret(s *corev1.Secret) string { return tooLarge(bytesOf(s.Data)) }

func largeConfigMap(m *corev1.ConfigMap) string {
	return tooLarge(bytesOf(m.Data) + bytesOf(m.BinaryData))
}

// bytesOf is the size of entries with their names.
func bytesOf[V string | []byte](entries map[string]V) (n int) {
	for name, value := range entries {
		n += len(name) + len(value)
	}
	return n
}
