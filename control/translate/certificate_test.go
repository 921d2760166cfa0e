package translate

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/pem"
	"math/big"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"

	"rauta.io/rauta/proxy/certs"
	"rauta.io/rauta/proxy/config"
)

func block(kind string, der []byte, err error) string {
	if err != nil {
		panic(err)
	}
	return string(pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}))
}

func key8(key any) string {
	der, err := x509.MarshalPKCS8PrivateKey(key)
	return block("PRIVATE KEY", der, err)
}

func selfSigned(key crypto.Signer, names ...string) string {
	template := &x509.Certificate{SerialNumber: big.NewInt(1), DNSNames: names,
		NotBefore: time.Unix(1_000_000_000, 0), NotAfter: time.Unix(2_000_000_000, 0)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	return block("CERTIFICATE", der, err)
}

func must[K any](key K, err error) K {
	if err != nil {
		panic(err)
	}
	return key
}

func TestEveryFormOfKeyIsReadOrRefusedWithAReason(t *testing.T) {
	p256 := must(ecdsa.GenerateKey(elliptic.P256(), rand.Reader))
	p384 := must(ecdsa.GenerateKey(elliptic.P384(), rand.Reader))
	p224 := must(ecdsa.GenerateKey(elliptic.P224(), rand.Reader))
	strong, weak := must(rsa.GenerateKey(rand.Reader, 2048)), must(rsa.GenerateKey(rand.Reader, 1024))
	_, edwards, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	ec1, err := x509.MarshalECPrivateKey(p256)
	sec1 := block("EC PRIVATE KEY", ec1, err)
	parameters := block("EC PARAMETERS", []byte{6, 8, 42, 134, 72, 206, 61, 3, 1, 7}, nil)
	for _, c := range []struct{ what, chain, key, failure string }{
		{"PKCS #8, P-256", selfSigned(p256), key8(p256), ""},
		{"SEC 1 with parameters before it", selfSigned(p256), parameters + sec1, ""},
		{"P-384", selfSigned(p384), key8(p384), ""},
		{"PKCS #1", selfSigned(strong), block("RSA PRIVATE KEY", x509.MarshalPKCS1PrivateKey(strong), nil), ""},
		{"PKCS #8, RSA", selfSigned(strong), key8(strong), ""},
		{"Ed25519", selfSigned(edwards), key8(edwards), ""},
		{"the key within tls.crt", key8(p256) + selfSigned(p256), key8(p256), ""},
		{"a chain of two", selfSigned(p256) + selfSigned(p384), key8(p256), ""},
		{"a short RSA key", selfSigned(weak), key8(weak), "RSA key of less than 2048 bits"},
		{"P-224", selfSigned(p224), key8(p224), "a curve that TLS doesn't know"},
		{"the key of another certificate", selfSigned(p256), key8(p384), "does not belong to the certificate"},
		{"the chain in the wrong order", selfSigned(p384) + selfSigned(p256), key8(p256), "does not belong to the certificate"},
		{"an encrypted key", selfSigned(p256), block("ENCRYPTED PRIVATE KEY", []byte{1}, nil), "an encrypted key"},
		{"no key", selfSigned(p256), selfSigned(p256), "has no PEM data of a private key in tls.key"},
		{"garbage for a key", selfSigned(p256), block("PRIVATE KEY", []byte{1}, nil), "a private key that can't be read"},
		{"garbage for a certificate", block("CERTIFICATE", []byte{1}, nil), key8(p256), "a certificate in tls.crt that can't be read"},
		{"no certificate", key8(p256), key8(p256), "has no PEM data of a certificate in tls.crt"},
	} {
		one := &certificate{config: config.Certificate{Name: "n/s"}}
		one.read(&corev1.Secret{Type: corev1.SecretTypeTLS, Data: map[string][]byte{"tls.crt": []byte(c.chain), "tls.key": []byte(c.key)}})
		if (one.failure == "") != (c.failure == "") || !strings.Contains(one.failure, c.failure) {
			t.Errorf("%s: %q, want %q", c.what, one.failure, c.failure)
			continue
		}
		if strings.Contains(one.config.Chain, "PRIVATE") {
			t.Errorf("%s: a key went into the chain, which is shown", c.what)
		}
		if c.failure == "" {
			if _, errs := certs.NewStore(new(certs.Store), []config.Certificate{one.config}); errs[0] != nil {
				t.Errorf("%s: the data plane refuses what was taken here: %v", c.what, errs[0])
			}
		}
	}
}

func TestCertificatesAreComparedWithThePresentIfItIsKnown(t *testing.T) {
	key := must(ecdsa.GenerateKey(elliptic.P256(), rand.Reader))
	c := &certificate{}
	c.read(&corev1.Secret{Type: corev1.SecretTypeTLS, StringData: map[string]string{"tls.crt": selfSigned(key), "tls.key": key8(key)}})
	for at, want := range map[time.Time]string{
		{}:                            "",
		time.Unix(1_500_000_000, 0):   "",
		time.Unix(2_000_000_001, 0):   "has a certificate that expired on 2033-05-18T03:33:20Z",
		time.Unix(1_000_000_000-1, 0): "has a certificate that is not valid before 2001-09-09T01:46:40Z",
	} {
		if got := strings.Join(c.validity(at), ";"); got != want {
			t.Errorf("at %v: %q, want %q", at, got, want)
		}
	}
}

func TestACertificateCoversWhatAClientAccepts(t *testing.T) {
	key := must(ecdsa.GenerateKey(elliptic.P256(), rand.Reader))
	c := &certificate{}
	c.read(&corev1.Secret{Type: corev1.SecretTypeTLS, StringData: map[string]string{
		"tls.crt": selfSigned(key, "a.example.com", "*.b.example.com"), "tls.key": key8(key)}})
	for hostname, want := range map[string]bool{
		"a.example.com": true, "x.b.example.com": true, "*.b.example.com": true,
		"b.example.com": false, "x.y.b.example.com": false, "*.example.com": false, "*.a.example.com": false, "*.x.b.example.com": false,
	} {
		if got := c.covers(hostname); got != want {
			t.Errorf("%s: %v", hostname, got)
		}
	}
}

func TestWhatIsRememberedOfACertificateIsEnough(t *testing.T) {
	key := must(ecdsa.GenerateKey(elliptic.P256(), rand.Reader))
	secret := &corev1.Secret{Type: corev1.SecretTypeTLS, Data: map[string][]byte{
		corev1.TLSCertKey: []byte(selfSigned(key, "a.example", "*.b.example")), corev1.TLSPrivateKeyKey: []byte(key8(key)),
	}}
	memo := &Memo{}
	memo.begin()
	for range 2 { // the second time it is known
		c := memo.read(secret)
		if c.failure != "" || !c.covers("a.example") || !c.covers("x.b.example") || c.covers("c.example") || c.describe() != "a.example, *.b.example" {
			t.Fatalf("it is for %s, failure %q", c.describe(), c.failure)
		}
		if len(c.validity(time.Unix(2_000_000_001, 0))) == 0 || len(c.validity(time.Unix(1_500_000_000, 0))) != 0 {
			t.Error("its dates are lost")
		}
	}
}
