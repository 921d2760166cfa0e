package config

import (
	"bytes"
	"encoding/base64"
	"encoding/gob"
	"encoding/hex"
	"encoding/json"
	"encoding/xml"
	"fmt"
	"log/slog"
	"strings"
	"testing"

	"sigs.k8s.io/yaml"
)

func TestNoWayOfPrintingShowsASecret(t *testing.T) {
	const plain = "hunter2-hunter2"
	s := Secret(plain)
	holder := struct {
		S Secret
		P *Secret
		M map[string]Secret
		L []Secret
	}{s, &s, map[string]Secret{"k": s}, []Secret{s}}

	var outputs []string
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%X", "%d", "%o", "%b", "%c", "%U", "%t"} {
		outputs = append(outputs, fmt.Sprintf(verb, s), fmt.Sprintf(verb, &s), fmt.Sprintf(verb, holder))
	}
	outputs = append(outputs, fmt.Sprint(s), fmt.Sprintln(s), s.String(), s.GoString(), fmt.Errorf("wrap %v", s).Error())
	for name, marshal := range map[string]func(any) ([]byte, error){"json": json.Marshal, "xml": xmlMarshal, "yaml": func(v any) ([]byte, error) { return yaml.Marshal(v) }} {
		for _, v := range []any{s, &s, holder} {
			text, err := marshal(v)
			if err != nil && name != "xml" { // xml has no maps
				t.Errorf("%s of %T: %v", name, v, err)
			}
			outputs = append(outputs, string(text))
		}
	}
	var stream bytes.Buffer
	if err := gob.NewEncoder(&stream).Encode(struct{ S Secret }{s}); err != nil {
		t.Error(err)
	}
	outputs = append(outputs, stream.String())
	for _, handler := range []slog.Handler{slog.NewTextHandler(&stream, nil), slog.NewJSONHandler(&stream, nil)} {
		stream.Reset()
		slog.New(handler).Info("m", "secret", s, "holder", holder)
		outputs = append(outputs, stream.String())
	}

	forms := []string{plain, hex.EncodeToString(s.Reveal()), base64.StdEncoding.EncodeToString(s.Reveal()), "104 117 110", "68 75 6e", "150 165"}
	for _, out := range outputs {
		for _, form := range forms {
			if strings.Contains(strings.ToLower(out), strings.ToLower(form)) {
				t.Errorf("the secret is in %q", out)
			}
		}
	}
	if string(s.Reveal()) != plain {
		t.Error("Reveal does not return the secret")
	}
}

func xmlMarshal(v any) ([]byte, error) { return xml.Marshal(v) }

func TestASecretIsNotReadFromText(t *testing.T) {
	var s struct{ S Secret }
	if err := json.Unmarshal([]byte(`{"S":"[redacted]"}`), &s); err == nil {
		t.Fatal("a redacted dump was read as a secret")
	}
}

func TestRedactHidesCredentialsInHeaderEditsAndLeavesTheOriginal(t *testing.T) {
	edit := &HeaderEdit{
		Set: []Header{{"Authorization", "Basic c2VjcmV0"}, {"X-Plain", "shown"}},
		Add: []Header{{"X-Api-Key", "c2VjcmV0"}, {"set-cookie", "c2VjcmV0"}},
	}
	c := &Config{Routes: []*Route{{Rules: []Rule{{
		Filters:  []Filter{{RequestHeaders: edit}},
		Backends: []Backend{{Filters: []Filter{{ResponseHeaders: edit}}}},
	}}}}}
	before := Hash(c)
	text, err := json.Marshal(Redact(c))
	if err != nil {
		t.Fatal(err)
	}
	if strings.Contains(string(text), "c2VjcmV0") || strings.Count(string(text), "shown") != 2 || strings.Count(string(text), redacted) != 6 {
		t.Errorf("redacted: %s", text)
	}
	if Hash(c) != before {
		t.Error("the original has changed")
	}
}

func TestRedactShowsCertificatesWithoutKeys(t *testing.T) {
	const certificate = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"
	const misplaced = "-----BEGIN PRIVATE KEY-----\nc2VjcmV0\n-----END PRIVATE KEY-----\n"
	keys := []TicketKeySet{{Name: "a/tickets", Keys: []Secret{Secret("c2VjcmV0")}}}
	c := &Config{TicketKeySets: keys, TicketKeys: keys[0].Keys, Certificates: []Certificate{{Name: "a/b", Chain: "c2VjcmV0\n" + certificate + misplaced + certificate, Key: Secret("c2VjcmV0")}},
		Clusters: []Cluster{{TLS: &BackendTLS{CA: misplaced + certificate}}, {}}}
	shown := Redact(c)
	text, err := json.Marshal(shown)
	if err != nil {
		t.Fatal(err)
	}
	if strings.Contains(string(text), "c2VjcmV0") || !strings.Contains(string(text), redacted) || bytes.Contains(shown.Certificates[0].Key.Reveal(), []byte("c2Vj")) {
		t.Errorf("redacted: %s", text)
	}
	if shown.Certificates[0].Chain != certificate+certificate {
		t.Errorf("the chain is shown as %q", shown.Certificates[0].Chain)
	}
	if shown.Clusters[0].TLS.CA != certificate {
		t.Errorf("the authorities are shown as %q", shown.Clusters[0].TLS.CA)
	}
	for _, s := range append(shown.TicketKeys, shown.TicketKeySets[0].Keys...) {
		if string(s.Reveal()) != redacted {
			t.Errorf("a key of session tickets is %q", s.Reveal())
		}
	}
	if string(keys[0].Keys[0].Reveal()) != "c2VjcmV0" || string(c.Certificates[0].Key.Reveal()) != "c2VjcmV0" || c.Clusters[0].TLS.CA != misplaced+certificate {
		t.Error("the original has changed")
	}
}
