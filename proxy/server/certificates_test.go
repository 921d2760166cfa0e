package server

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"log/slog"
	"math/big"
	"strings"
	"testing"
	"time"

	"rauta.io/rauta/proxy/config"
	"rauta.io/rauta/proxy/observe"
)

func newCertificate(t *testing.T, name string, expires int64) config.Certificate {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: time.Unix(expires, 0)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	private, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	return config.Certificate{
		Name: name, Chain: string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})),
		Key: pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: private}),
	}
}

func TestMetricsTellWhenCertificatesExpireAndWhatIsClosed(t *testing.T) {
	reg := observe.NewRegistry(observe.Options{})
	s, err := New(Options{Workers: 1, Registry: reg, Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	s.registerMetrics()
	broken := newCertificate(t, "d/broken", 1)
	broken.Key = config.Secret("broken")
	stapled := newCertificate(t, "d/soon", 2_000_000_000)
	stapled.OCSPStaple, stapled.StapleUntil = []byte{0x30, 0}, 1_900_000_000
	cfg := &config.Config{
		Certificates: []config.Certificate{broken, newCertificate(t, "d/late", 3_000_000_000), stapled},
		Clusters: []config.Cluster{
			{Name: "a", TLS: &config.BackendTLS{SystemRoots: true, ServerName: "a.test", ClientCertificate: "d/late"}},
			{Name: "b", TLS: &config.BackendTLS{SystemRoots: true, ServerName: "b.test", ClientCertificate: "d/late"}}, {Name: "c"},
		},
		Listeners: []config.Listener{
			{Name: "both", Port: 443, Protocol: config.ProtocolHTTPS, Hostname: "a.test", TLS: &config.TLS{Certificates: []string{"d/late", "d/soon", "d/broken"}}},
			{Name: "closed", Port: 443, Protocol: config.ProtocolHTTPS, Hostname: "b.test", TLS: &config.TLS{Certificates: []string{"d/broken"}}},
			{Name: "empty", Port: 443, Protocol: config.ProtocolHTTPS, Hostname: "c.test", TLS: &config.TLS{}},
			{Name: "hosts", Port: 443, Protocol: config.ProtocolHTTPS, TLS: &config.TLS{Hosts: []config.TLSHost{
				{Hostname: "d.test", Certificates: []string{"d/soon"}}, {Hostname: "e.test"}, {Hostname: "f.test", Certificates: []string{"d/soon"}},
				{Hostname: "g.test", Certificates: []string{"d/soon"}, ClientAuth: &config.ClientAuth{Mode: config.ClientAuthRequire}},
			}}},
			{Name: "plain", Port: 80, Protocol: config.ProtocolHTTP},
		},
	}
	if _, _, _, err := s.live.Publish(cfg, nil); err == nil || !strings.Contains(err.Error(), "d/broken") {
		t.Errorf("reported: %v", err)
	}
	var text strings.Builder
	reg.WritePrometheus(&text)
	var got []string
	for line := range strings.SplitSeq(text.String(), "\n") {
		if strings.HasPrefix(line, "rauta_certificate_expiry_") || strings.HasPrefix(line, "rauta_tls_names_closed") ||
			strings.HasPrefix(line, "rauta_backend_client_") || strings.HasPrefix(line, "rauta_ocsp_") {
			got = append(got, line)
		}
	}
	want := []string{
		`rauta_backend_client_certificate_expiry_timestamp_seconds{name="d/late"} 3000000000`,
		`rauta_certificate_expiry_timestamp_seconds{listener="both",name="d/soon"} 2000000000`,
		`rauta_certificate_expiry_timestamp_seconds{listener="hosts",name="d/soon"} 2000000000`,
		`rauta_certificate_expiry_timestamp_seconds{listener="both",name="d/late"} 3000000000`,
		`rauta_ocsp_staple_expiry_timestamp_seconds{name="d/soon"} 1900000000`,
		`rauta_tls_names_closed{listener="both"} 0`,
		`rauta_tls_names_closed{listener="closed"} 1`,
		`rauta_tls_names_closed{listener="empty"} 1`,
		`rauta_tls_names_closed{listener="hosts"} 2`,
	}
	if strings.Join(got, "\n") != strings.Join(want, "\n") {
		t.Errorf("got:\n%s\nwant:\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}
