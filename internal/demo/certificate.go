package demo

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"time"
)

const (
	// certificateTime is how long the demo's certificate is good for: it is made anew with every start.
	certificateTime = 7 * 24 * time.Hour
	// certificateAge allows for clients whose clock is a little late.
	certificateAge = time.Hour
)

// Certificate is a certificate that signs itself, in files.
type Certificate struct {
	// File has the certificate alone, in PEM, for clients that are to trust it.
	File string
	// Objects is a Secret in YAML with the certificate and its key.
	Objects string
}

// WriteCertificate makes a certificate for the names of the quick start, with a key that is nowhere else, in folder. The
// Secret is called name.
func WriteCertificate(folder, name string) (Certificate, error) {
	certificate, key, err := newCertificate()
	if err != nil {
		return Certificate{}, fmt.Errorf("make the demo's certificate: %w", err)
	}
	c := Certificate{File: filepath.Join(folder, "certificate.pem"), Objects: filepath.Join(folder, "secret.yaml")}
	secret := fmt.Sprintf("# Made by this start of the demo; gone when it ends.\napiVersion: v1\nkind: Secret\nmetadata:\n  name: %s\n"+
		"type: kubernetes.io/tls\ndata:\n  tls.crt: %s\n  tls.key: %s\n",
		name, base64.StdEncoding.EncodeToString(certificate), base64.StdEncoding.EncodeToString(key))
	if err := errors.Join(os.WriteFile(c.File, certificate, 0o644), os.WriteFile(c.Objects, []byte(secret), 0o600)); err != nil {
		return Certificate{}, fmt.Errorf("write the demo's certificate: %w", err)
	}
	return c, nil
}

// newCertificate returns both parts in PEM.
func newCertificate() (certificate, key []byte, err error) {
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, nil, err
	}
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 100))
	if err != nil {
		return nil, nil, err
	}
	now := time.Now()
	template := &x509.Certificate{
		SerialNumber: serial, Subject: pkix.Name{CommonName: "RAUTA quick start"},
		DNSNames: []string{"localhost", "shop.localhost", "grpc.localhost", "*.localhost"}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		NotBefore: now.Add(-certificateAge), NotAfter: now.Add(certificateTime),
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
		BasicConstraintsValid: true,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, private.Public(), private)
	if err != nil {
		return nil, nil, err
	}
	pkcs8, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		return nil, nil, err
	}
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: pkcs8}), nil
}
