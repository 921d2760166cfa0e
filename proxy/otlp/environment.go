package otlp

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"os"
	"strconv"
	"time"
)

const (
	// exportWaitDefault bounds one batch, with what is sent again because the collector was busy; exportWaitMax what may be
	// asked for instead: a batch that waits longer has lost those behind it.
	exportWaitDefault = 5 * time.Second
	exportWaitMax     = time.Minute
)

// settings are what the environment says about the way to the collector. What is wrong there is an error: the exporters of
// OpenTelemetry would go on without it, which for an authority or a key is a surprise.
type settings struct {
	wait time.Duration
	tls  *tls.Config // nil for plain text
}

// readSettings reads the variables of OTLP exporters; secure says that the collector is to be reached by TLS.
func readSettings(secure bool) (settings, error) {
	s := settings{wait: exportWaitDefault}
	if text, name := variable("TIMEOUT"); text != "" {
		ms, err := strconv.ParseInt(text, 10, 32)
		if s.wait = time.Duration(ms) * time.Millisecond; err != nil || s.wait < 1 || s.wait > exportWaitMax {
			return s, fmt.Errorf("%s: %q is not a number of milliseconds from 1 to %d", name, text, exportWaitMax.Milliseconds())
		}
	}
	authority, authorityName := variable("CERTIFICATE")
	certificate, certificateName := variable("CLIENT_CERTIFICATE")
	key, keyName := variable("CLIENT_KEY")
	if !secure {
		for _, name := range []string{authorityName, certificateName, keyName} {
			if name != "" {
				return s, fmt.Errorf("%s is set, but the collector is to be reached in plain text: begin its URL with grpcs:// or https://, or unset it", name)
			}
		}
		return s, nil
	}
	s.tls = &tls.Config{}
	if authority != "" {
		pool, err := readAuthorities(authority)
		if err != nil {
			return s, fmt.Errorf("%s: %w", authorityName, err)
		}
		s.tls.RootCAs = pool
	}
	if certificate == "" && key == "" {
		return s, nil
	}
	if certificate == "" || key == "" {
		return s, errors.New("OTEL_EXPORTER_OTLP_CLIENT_CERTIFICATE and OTEL_EXPORTER_OTLP_CLIENT_KEY: set both or neither")
	}
	load := func() (*tls.Certificate, error) {
		c, err := tls.LoadX509KeyPair(certificate, key)
		return &c, err
	}
	if _, err := load(); err != nil {
		return s, fmt.Errorf("%s, %s: %w", certificateName, keyName, err)
	}
	// Read again for each connection: certificates are renewed while RAUTA runs.
	s.tls.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return load() }
	return s, nil
}

func readAuthorities(path string) (*x509.CertPool, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(text) {
		return nil, fmt.Errorf("%s: has no certificate in PEM form", path)
	}
	return pool, nil
}

// variable returns the value of a variable for exporters, and its name; both are empty if there is none. That for traces
// comes first.
func variable(what string) (value, name string) {
	for _, name := range []string{"OTEL_EXPORTER_OTLP_TRACES_" + what, "OTEL_EXPORTER_OTLP_" + what} {
		if v := os.Getenv(name); v != "" {
			return v, name
		}
	}
	return "", ""
}
