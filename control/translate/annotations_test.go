package translate

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"rauta.io/rauta/proxy/config"
)

func TestTheDocumentationIsMadeFromTheTable(t *testing.T) {
	path := filepath.Join("..", "..", "docs", "annotations.md")
	if *update {
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	golden(t, path, []byte(AnnotationsMarkdown()))
}

func TestTheAdmissionPoliciesAreMadeFromTheTable(t *testing.T) {
	text := AdmissionPolicies()
	golden(t, filepath.Join("..", "..", "deploy", "base", "admission.yaml"), []byte(text))
	for _, kind := range []string{kindGateway, kindGRPCRoute, kindHTTPRoute, kindIngress, kindService, kindTCPRoute, kindTLSRoute, kindUDPRoute} {
		if !strings.Contains(text, strings.ToLower(kind)) || !strings.Contains(text, "\n      \""+kind+"\": [") {
			t.Errorf("no policy is about objects of kind %s", kind)
		}
	}
}

func TestTheTableIsCompleteAndInOrder(t *testing.T) {
	var names []string
	for _, a := range Annotations() {
		names = append(names, a.Name)
		if len(a.Kinds) == 0 || a.Type == "" || a.Default == "" || a.OnInvalid == "" || a.Doc == "" || a.validate == nil || !strings.Contains(a.admits, "@") {
			t.Errorf("%s: the row has gaps", a.Name)
		}
		if !strings.HasPrefix(a.Name, annotationPrefix) || strings.ContainsAny(a.Type+a.Default+a.OnInvalid, "|\n") {
			t.Errorf("%s: the row does not fit the table", a.Name)
		}
		if a.validate("\x00 no value of any type") == nil {
			t.Errorf("%s takes everything", a.Name)
		}
	}
	if !slices.IsSorted(names) || len(slices.Compact(slices.Clone(names))) != len(names) {
		t.Errorf("the names %q are not in order, or one is there twice", names)
	}
}

func TestTimeoutsHaveBoundsAndZeroMeansNoneWhereAllowed(t *testing.T) {
	for text, want := range map[string]config.Duration{
		"1ms": config.Duration(time.Millisecond), "24h": config.Duration(24 * time.Hour), "0s": config.NoTimeout,
	} {
		if got, err := parseTimeout(text, true); err != nil || got != want {
			t.Errorf("%q is %v, %v", text, got, err)
		}
	}
	for _, text := range []string{"", "5", "-1s", "999us", "24h1ms", "1d", "99999999999h"} {
		if got, err := parseTimeout(text, true); err == nil {
			t.Errorf("%q is %v", text, got)
		}
	}
	if got, err := parseTimeout("0s", false); err == nil {
		t.Errorf("0s is %v where there must be a timeout", got)
	}
}

func TestByteCountsAreWholeAndFitAnInt64(t *testing.T) {
	for text, want := range map[string]int64{"0": 0, "1": 1, "10Mi": 10 << 20, "1k": 1000, "2Gi": 2 << 30} {
		if got, err := parseBytes(text); err != nil || got != want {
			t.Errorf("%q is %v, %v", text, got, err)
		}
	}
	for _, text := range []string{"", "-1", "100m", "10MB", "99E", "ten", "9223372036854775808"} {
		if got, err := parseBytes(text); err == nil {
			t.Errorf("%q is %v", text, got)
		}
	}
}

func TestGatewayAPIDurationsAreNarrowerThanThoseOfGo(t *testing.T) {
	for text, want := range map[string]time.Duration{
		"0s": 0, "10s": 10 * time.Second, "1h30m": 90 * time.Minute, "500ms": 500 * time.Millisecond, "1m2s3ms": 62*time.Second + 3*time.Millisecond,
	} {
		if got, ok := parseDuration(text); !ok || got != want {
			t.Errorf("%q is %v, %v", text, got, ok)
		}
	}
	for _, text := range []string{"", "1", "1.5s", "-1s", "+1s", "1us", "1ns", "123456s", "1h1m1s1ms1s", "s", "1s ", "1S", "ms"} {
		if got, ok := parseDuration(text); ok {
			t.Errorf("%q is %v", text, got)
		}
	}
}
