package main

import (
	"errors"
	"os"

	"rauta.io/rauta/loadtest/selfsigned"
)

// writeCertificate makes the one certificate that all contenders serve.
func writeCertificate(certificateFile, keyFile string) error {
	certificate, key, err := selfsigned.New("loadtest.test", "*.example.test")
	if err != nil {
		return err
	}
	return errors.Join(os.WriteFile(certificateFile, certificate, 0o644), os.WriteFile(keyFile, key, 0o600))
}
