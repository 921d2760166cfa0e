package main

import (
	"errors"
	"os"

	"rauta.io/rauta/internal/testrig"
)

// writeCertificate makes the one certificate that all contenders serve.
func writeCertificate(certificateFile, keyFile string) error {
	certificate, key, err := testrig.SelfSigned("loadtest.test", "*.example.test")
	if err != nil {
		return err
	}
	return errors.Join(os.WriteFile(certificateFile, certificate, 0o644), os.WriteFile(keyFile, key, 0o600))
}
