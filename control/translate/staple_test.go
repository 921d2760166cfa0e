package translate

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"math/big"
	"strings"
	"testing"
	"time"

	"golang.org/x/crypto/ocsp"
	corev1 "k8s.io/api/core/v1"
)

func TestAStapleIsUsedIfItIsAGoodOneForTheCertificate(t *testing.T) {
	issuerKey, key := must(ecdsa.GenerateKey(elliptic.P256(), rand.Reader)), must(ecdsa.GenerateKey(elliptic.P256(), rand.Reader))
	from, to := time.Unix(1_500_000_000, 0), time.Unix(1_600_000_000, 0)
	issuer := must(x509.ParseCertificate(must(x509.CreateCertificate(rand.Reader, &x509.Certificate{
		SerialNumber: big.NewInt(1), IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
		NotBefore: from, NotAfter: to,
	}, &x509.Certificate{SerialNumber: big.NewInt(1)}, issuerKey.Public(), issuerKey))))
	leafDER := must(x509.CreateCertificate(rand.Reader, &x509.Certificate{SerialNumber: big.NewInt(7), NotBefore: from, NotAfter: to},
		issuer, key.Public(), issuerKey))
	staple := func(serial int64, status int, signer *ecdsa.PrivateKey) []byte {
		return must(ocsp.CreateResponse(issuer, issuer, ocsp.Response{
			Status: status, SerialNumber: big.NewInt(serial), ThisUpdate: time.Unix(1_550_000_000, 0),
			NextUpdate: time.Unix(1_560_000_000, 0), RevokedAt: from,
		}, signer))
	}
	alone := block("CERTIFICATE", leafDER, nil)
	chain := alone + block("CERTIFICATE", issuer.Raw, nil)
	within := time.Unix(1_555_000_000, 0)
	for _, c := range []struct {
		what, chain string
		staple      []byte
		now         time.Time
		defect      string // "" if it is used
	}{
		{"a good one", chain, staple(7, ocsp.Good, issuerKey), within, ""},
		{"the present is not known", chain, staple(7, ocsp.Good, issuerKey), time.Time{}, ""},
		{"the issuer is not known", alone, staple(7, ocsp.Good, key), within, ""},
		{"another certificate's", chain, staple(8, ocsp.Good, issuerKey), within, "something else than an OCSP response for its certificate"},
		{"somebody else's signature", chain, staple(7, ocsp.Good, key), within, "issuer of its certificate has not signed"},
		{"a revoked one", chain, staple(7, ocsp.Revoked, issuerKey), within, "is revoked"},
		{"an unknown one", chain, staple(7, ocsp.Unknown, issuerKey), within, "is not known"},
		{"an expired one", chain, staple(7, ocsp.Good, issuerKey), time.Unix(1_560_000_000, 0), "that expired on 2019-06-08T13:20:00Z"},
		{"one of the future", chain, staple(7, ocsp.Good, issuerKey), time.Unix(1_549_999_999, 0), "not valid before 2019-02-12T19:33:20Z"},
		{"garbage", chain, []byte("garbage"), within, "something else than an OCSP response"},
		{"no success", chain, ocsp.UnauthorizedErrorResponse, within, "something else than an OCSP response"},
	} {
		one := &certificate{}
		one.read(&corev1.Secret{Type: corev1.SecretTypeTLS, StringData: map[string]string{"tls.crt": c.chain, "tls.key": key8(key)},
			Data: map[string][]byte{secretOCSPStaple: c.staple}})
		if one.failure != "" {
			t.Fatal(one.failure)
		}
		one.checkStaple(c.now)
		got := strings.Join(one.defects, ";")
		if (got == "") != (c.defect == "") || !strings.Contains(got, c.defect) {
			t.Errorf("%s: %q, want %q", c.what, got, c.defect)
		}
		if used := len(one.config.OCSPStaple) > 0 && one.config.StapleUntil == 1_560_000_000; used != (c.defect == "") {
			t.Errorf("%s: used %v, until %d", c.what, used, one.config.StapleUntil)
		}
	}
}
