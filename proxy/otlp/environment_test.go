package otlp

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"rauta.io/rauta/internal/testrig/collector"
)

func TestWhatTheEnvironmentSaysWronglyIsAnError(t *testing.T) {
	c := collector.Start(t)
	folder := t.TempDir()
	nothing := filepath.Join(folder, "nothing.pem")
	if err := os.WriteFile(nothing, []byte("no certificate"), 0o600); err != nil {
		t.Fatal(err)
	}
	absent := filepath.Join(folder, "absent.pem")
	for _, of := range []struct {
		endpoint string
		env      map[string]string
		want     string
	}{
		{c.GRPC, map[string]string{"TIMEOUT": "10s"}, `OTEL_EXPORTER_OTLP_TIMEOUT: "10s" is not a number of milliseconds from 1 to 60000`},
		{c.GRPC, map[string]string{"TRACES_TIMEOUT": "0", "TIMEOUT": "1"}, `OTEL_EXPORTER_OTLP_TRACES_TIMEOUT: "0" is not`},
		{c.GRPC, map[string]string{"TIMEOUT": "60001"}, `"60001" is not`},
		{c.GRPC, map[string]string{"TIMEOUT": "-1"}, `"-1" is not`},
		{c.GRPC, map[string]string{"CERTIFICATE": c.CA}, "OTEL_EXPORTER_OTLP_CERTIFICATE is set, but the collector is to be reached in plain text: begin its URL with grpcs:// or https://"},
		{c.HTTP, map[string]string{"TRACES_CLIENT_KEY": c.CA}, "OTEL_EXPORTER_OTLP_TRACES_CLIENT_KEY is set, but"},
		{c.GRPCS, map[string]string{"CERTIFICATE": absent}, "OTEL_EXPORTER_OTLP_CERTIFICATE: open " + absent},
		{c.HTTPS, map[string]string{"CERTIFICATE": nothing}, "OTEL_EXPORTER_OTLP_CERTIFICATE: " + nothing + ": has no certificate in PEM form"},
		{c.HTTPS, map[string]string{"CLIENT_CERTIFICATE": c.CA}, "set both or neither"},
		{c.GRPCS, map[string]string{"CLIENT_CERTIFICATE": c.CA, "CLIENT_KEY": nothing}, "OTEL_EXPORTER_OTLP_CLIENT_CERTIFICATE, OTEL_EXPORTER_OTLP_CLIENT_KEY: tls:"},
	} {
		t.Run(of.want, func(t *testing.T) {
			for name, value := range of.env {
				t.Setenv("OTEL_EXPORTER_OTLP_"+name, value)
			}
			if _, err := New(Options{Endpoint: of.endpoint}); err == nil || !strings.Contains(err.Error(), of.want) {
				t.Errorf("%v, want %s", err, of.want)
			}
		})
	}
}

func TestTheTimeForABatchIsTheEnvironments(t *testing.T) {
	for env, want := range map[string]time.Duration{"": 5 * time.Second, "250": 250 * time.Millisecond, "60000": time.Minute} {
		t.Setenv("OTEL_EXPORTER_OTLP_TIMEOUT", env)
		e, err := New(Options{Endpoint: "grpc://127.0.0.1"})
		if err != nil || e.wait != want {
			t.Errorf("%q: %v, %s, want %s", env, err, e.wait, want)
		}
	}
}

// TestACollectorMayAskForACertificate which is read anew for each connection.
func TestACollectorMayAskForACertificate(t *testing.T) {
	c := collector.Start(t)
	asked := make(chan []*x509.Certificate, 8)
	s := httptest.NewUnstartedServer(c)
	s.TLS = &tls.Config{ClientAuth: tls.RequireAnyClientCert, VerifyPeerCertificate: func(raw [][]byte, _ [][]*x509.Certificate) error {
		leaf, err := x509.ParseCertificate(raw[0])
		asked <- []*x509.Certificate{leaf}
		return err
	}}
	s.Config.SetKeepAlivesEnabled(false)
	s.StartTLS()
	defer s.Close()
	folder := t.TempDir()
	write := func(name, kind string, der []byte) string {
		path := filepath.Join(folder, name)
		if err := os.WriteFile(path, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	key, err := x509.MarshalPKCS8PrivateKey(s.TLS.Certificates[0].PrivateKey)
	if err != nil {
		t.Fatal(err)
	}
	certificate := write("crt.pem", "CERTIFICATE", s.Certificate().Raw)
	t.Setenv("OTEL_EXPORTER_OTLP_CERTIFICATE", certificate)
	t.Setenv("OTEL_EXPORTER_OTLP_CLIENT_CERTIFICATE", certificate)
	t.Setenv("OTEL_EXPORTER_OTLP_CLIENT_KEY", write("key.pem", "PRIVATE KEY", key))
	e, shard, _ := started(t, s.URL)
	shard.Finish(record())
	wantRecord(t, c)
	if got := <-asked; !got[0].Equal(s.Certificate()) {
		t.Error("another certificate")
	}
	if err := os.Remove(certificate); err != nil {
		t.Fatal(err)
	}
	shard.Finish(record())
	e.Close()
	if e.Exported() != 1 || e.Failed() != 1 {
		t.Errorf("%d exported, %d failed after the file was gone", e.Exported(), e.Failed())
	}
}

func TestTheResourceSaysWhichProcessItIs(t *testing.T) {
	attributes := func(opt Options) map[string]string {
		t.Helper()
		r, err := resourceOf(context.Background(), opt)
		if err != nil {
			t.Fatal(err)
		}
		out := map[string]string{}
		for _, a := range r.Attributes() {
			out[string(a.Key)] = a.Value.String()
		}
		return out
	}
	got := attributes(Options{Version: "7", Place: Place{Node: "n1", Namespace: "edge", Pod: "rauta-x1"}})
	for name, want := range map[string]string{
		"service.name": "rauta", "service.version": "7", "service.instance.id": "edge.rauta-x1.rauta",
		"k8s.node.name": "n1", "k8s.namespace.name": "edge", "k8s.pod.name": "rauta-x1",
	} {
		if got[name] != want {
			t.Errorf("%s is %q, want %q", name, got[name], want)
		}
	}
	var ids []string
	for range 3 {
		got := attributes(Options{Version: "7"})
		id := got["service.instance.id"]
		if _, known := got["k8s.pod.name"]; known || slices.Contains(ids, id) || !regexp.MustCompile(`^[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$`).MatchString(id) {
			t.Errorf("outside of a cluster: %v", got)
		}
		ids = append(ids, id)
	}
	t.Setenv("OTEL_RESOURCE_ATTRIBUTES", "service.instance.id=mine,k8s.pod.name=other,service.name=env,service.version=env")
	got = attributes(Options{Version: "7", Service: "flag", Place: Place{Namespace: "edge", Pod: "rauta-x1"}})
	for name, want := range map[string]string{"service.instance.id": "mine", "k8s.pod.name": "other", "service.name": "flag", "service.version": "7"} {
		if got[name] != want {
			t.Errorf("with the environment %s is %q, want %q", name, got[name], want)
		}
	}
}
