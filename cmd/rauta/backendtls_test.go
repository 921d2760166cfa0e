package main

import (
	"encoding/base64"
	"encoding/pem"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
)

// TestAPolicyDecidesAboutABackEndWithTLS: from the files to the connection, and when they change.
func TestAPolicyDecidesAboutABackEndWithTLS(t *testing.T) {
	backend := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprintf(w, "%s for %q", r.Proto, r.TLS.ServerName)
	}))
	backend.EnableHTTP2 = true
	backend.StartTLS()
	t.Cleanup(backend.Close)
	addr := backend.Listener.Addr().String()
	i := start(t, addr)
	ask := func() string {
		resp, err := http.Get(i.url("/"))
		if err != nil {
			return err.Error()
		}
		defer resp.Body.Close()
		body, _ := io.ReadAll(resp.Body)
		return fmt.Sprint(resp.StatusCode, " ", strings.TrimSpace(string(body)))
	}
	policy := func(hostname string) string {
		return "---\napiVersion: gateway.networking.k8s.io/v1\nkind: BackendTLSPolicy\nmetadata: {name: app}\nspec:\n" +
			"  targetRefs: [{group: \"\", kind: Service, name: app}]\n" +
			"  validation: {caCertificateRefs: [{group: \"\", kind: ConfigMap, name: ca}], hostname: " + hostname + "}\n"
	}
	bundle := func(certificate string) string {
		return "---\napiVersion: v1\nkind: ConfigMap\nmetadata: {name: ca}\ndata:\n  ca.crt: |\n    " +
			strings.ReplaceAll(strings.TrimSpace(certificate), "\n", "\n    ") + "\n"
	}
	// The certificate of httptest is for example.com, and signs itself.
	right := bundle(string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: backend.Certificate().Raw})))
	secret, _ := tlsSecret(t, "other", "example.com", 0)
	_, encoded, _ := strings.Cut(secret, "tls.crt: ")
	encoded, _, _ = strings.Cut(encoded, ",")
	other, err := base64.StdEncoding.DecodeString(encoded)
	if err != nil {
		t.Fatal(err)
	}

	i.write(configuration(i.port, addr, "trusted") + policy("example.com") + right)
	i.until("TLS to the back end", func() bool { return ask() == `200 HTTP/2.0 for "example.com"` })
	i.write(configuration(i.port, addr, "another name") + policy("other.test") + right)
	i.until("the refusal of a name that the certificate lacks", func() bool { return strings.HasPrefix(ask(), "502 ") })
	i.until("the metric that tells why", func() bool {
		return strings.Contains(i.get(i.metrics, "/metrics"), `rauta_exchange_reasons_total{reason="tls_certificate_wrong_name"}`)
	})
	i.until("the line in the log that tells why", func() bool {
		return strings.Contains(i.log.String(), "valid for") && strings.Contains(i.log.String(), "cluster=default/app:80")
	})
	i.write(configuration(i.port, addr, "another authority") + policy("example.com") + bundle(string(other)))
	i.until("the refusal of an authority that is not trusted", func() bool {
		return strings.HasPrefix(ask(), "502 ") &&
			strings.Contains(i.get(i.metrics, "/metrics"), `rauta_exchange_reasons_total{reason="tls_certificate_unknown_authority"}`)
	})
	i.write(configuration(i.port, addr, "withdrawn") + policy("example.com"))
	i.until("the end of requests without authorities", func() bool { return strings.HasPrefix(ask(), "500 ") })
	i.write(configuration(i.port, addr, "trusted again") + policy("example.com") + right)
	i.until("TLS again", func() bool { return ask() == `200 HTTP/2.0 for "example.com"` })
}
