package translate

import (
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"slices"
	"time"

	"golang.org/x/crypto/ocsp"
)

// readStaple reads an OCSP response (RFC 6960). What is not a good one for the certificate, signed in the name of its
// issuer, is left out: clients refuse a certificate with a wrong staple, and take one without.
func (c *certificate) readStaple(der []byte, leaf *x509.Certificate) {
	unusable := func(why string) {
		c.defects = append(c.defects, fmt.Sprintf("has %s in %s; it is left out", why, secretOCSPStaple))
	}
	response, err := ocsp.ParseResponseForCert(der, leaf, nil)
	if err != nil {
		unusable("something else than an OCSP response for its certificate")
		return
	}
	// Without the issuer in the chain its signature can't be checked; clients do.
	if issuer := c.issuer(leaf); issuer != nil {
		if _, err := ocsp.ParseResponseForCert(der, leaf, issuer); err != nil {
			unusable("an OCSP response that the issuer of its certificate has not signed")
			return
		}
	}
	switch response.Status {
	case ocsp.Good:
		c.staple = response
		c.config.OCSPStaple = slices.Clone(der)
		if !response.NextUpdate.IsZero() {
			c.config.StapleUntil = response.NextUpdate.Unix()
		}
	case ocsp.Revoked:
		unusable("an OCSP response that says the certificate is revoked")
	default:
		unusable("an OCSP response that says the certificate is not known")
	}
}

// issuer is the second certificate of the chain, if it has signed the first, leaf.
func (c *certificate) issuer(leaf *x509.Certificate) *x509.Certificate {
	_, rest := pem.Decode([]byte(c.config.Chain))
	block, _ := pem.Decode(rest)
	if block == nil {
		return nil
	}
	issuer, err := x509.ParseCertificate(block.Bytes)
	if err != nil || leaf.CheckSignatureFrom(issuer) != nil {
		return nil
	}
	return issuer
}

// checkStaple compares the dates of the staple with the present, if it is known.
func (c *certificate) checkStaple(now time.Time) {
	if c.staple == nil || now.IsZero() {
		return
	}
	why := ""
	switch next := c.staple.NextUpdate; {
	case !next.IsZero() && !now.Before(next):
		why = "expired on " + next.UTC().Format(time.RFC3339)
	case now.Before(c.staple.ThisUpdate):
		why = "is not valid before " + c.staple.ThisUpdate.UTC().Format(time.RFC3339)
	default:
		return
	}
	c.config.OCSPStaple, c.config.StapleUntil = nil, 0
	c.defects = append(slices.Clip(c.defects), fmt.Sprintf("has an OCSP response in %s that %s; it is left out", secretOCSPStaple, why))
}
