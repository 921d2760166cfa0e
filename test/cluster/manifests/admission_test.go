package manifests

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	corev1 "k8s.io/api/core/v1"

	cluster "rauta.io/rauta/test/cluster"
)

// values are texts that somebody may write into an annotation, good ones and bad ones of every type.
func values() []string {
	all := []string{
		"", " ", "0", "1", "5", "-1", "+7", "007", "16", "17", "1024", "1000000", "1000001", "1e3", "99999999999999999999",
		"0s", "1ms", "1s", "1.5h", ".5s", "5.s", "1h30m", "24h", "24h1ms", "999us", "1d", "1 s", "-5s", "+5s", "1µs5s", "99999999999h",
		"512Ki", "10Mi", "1.5Gi", "100m", "10MB", "99E", "ten", "1k",
		"p2c", "round-robin", "random", "maglev", "P2C", "source-ip", "path", "source-ip:x", "header:", "header:X-User", "header:a b",
		"cookie:session", "cookie:ä", "cookie:a`b|c~d", "query:x", "true", "false", "force", "True", "on", "off",
		"HTTP", "HTTPS", "H2C", "GRPC", "GRPCS", "http", "require", "optional", "unverified",
		"certificate", "certificate, chain ,pem", "subject,,issuer", "serial,nothing", "fingerprint,fingerprint",
		"configmap/ca", "secret/a.b-c", "secret/", "configmap/A", "secret/a/b", "ca", "a_b", "a..b", "-a", "a-",
		strings.Repeat("a", 63) + ".example", strings.Repeat("a", 64) + ".example", strings.Repeat("a.", 126) + "a", strings.Repeat("a.", 127) + "a",
		"web.example.com", "*.example.com", "10.0.0.1", "999.1.1.1", "::1",
		"10.0.0.0/8", "10.0.0.1/8", "10.0.0.0/33", "10.0.0.0/8, 192.168.0.0/16", "2001:db8::/32", "2001:db8::1/32", "10.0.0.0/8,",
		strings.Repeat("10.0.0.0/8,", 63) + "10.0.0.0/8", strings.Repeat("10.0.0.0/8,", 64) + "10.0.0.0/8",
		"max-age=0", "max-age=31536000; includeSubDomains", "MAX-AGE = \"60\" ;preload", "max-age", "max-age=x", "includeSubDomains",
		"max-age=1; max-age=2", "max-age=316224000", "max-age=316224001", "max-age=1; includeSubDomains; includeSubDomains", "max-age=1; other",
		"*", "https://example.com", "https://*.example.com", "http://a.example:8080, https://b.example", "https://example.com/path",
		"500", "500,503", "399", "502, 504", "app:80", "app:http", "app:0", ":80", "GET", "GET, POST", "X-Request-Id",
		"0.5", "12.3456", "12.34567", "100.0000", "100.0001", "099.9", "0100", ".5", "5.", "1e2", "0x1p3", "NaN", "Inf", "+5.5",
		"max-age=1;", "\n", "a\nb", "\x01", "$(reboot)", "' || true || '", "\"]", "日本", "${jndi:ldap://x}",
	}
	return all
}

// kinds are one object of each kind that has annotations, with a name and an annotation to fill in.
func kinds() map[string]string {
	const gateway, route = "gateway.networking.k8s.io/v1", "{parentRefs: [{name: absent}], rules: [{backendRefs: [{name: absent, port: 80}]}]}"
	object := func(version, kind, spec string) string {
		return "apiVersion: " + version + "\nkind: " + kind + "\nmetadata: {name: %s, namespace: default, annotations: {%q: %s}}\nspec: " + spec + "\n"
	}
	return map[string]string{
		"Service":   object("v1", "Service", "{ports: [{port: 80}]}"),
		"Ingress":   object("networking.k8s.io/v1", "Ingress", "{ingressClassName: rauta, defaultBackend: {service: {name: absent, port: {number: 80}}}}"),
		"Gateway":   object(gateway, "Gateway", "{gatewayClassName: rauta, listeners: [{name: a, port: 80, protocol: HTTP}]}"),
		"HTTPRoute": object(gateway, "HTTPRoute", route), "GRPCRoute": object(gateway, "GRPCRoute", route),
		"TCPRoute": object(gateway, "TCPRoute", route), "UDPRoute": object(gateway, "UDPRoute", route),
		"TLSRoute": object(gateway, "TLSRoute", strings.Replace(route, "{parent", "{hostnames: [a.example.com], parent", 1)),
	}
}

var annotationOfKinds = regexp.MustCompile("(?m)^\\| \\[`(rauta\\.io/[a-z-]+)`\\]\\([^)]*\\) \\| ([A-Za-z, ]+) \\|")

// TestAdmissionRefusesTheValuesThatRAUTAWouldReport compares the expressions with the code that reads the values.
func TestAdmissionRefusesTheValuesThatRAUTAWouldReport(t *testing.T) {
	w := deployed(t)
	awaitAdmission(t, w)
	page, err := os.ReadFile("../../../docs/annotations.md")
	if err != nil {
		t.Fatal(err)
	}
	rows := annotationOfKinds.FindAllStringSubmatch(string(page), -1)
	if len(rows) < 20 {
		t.Fatalf("only %d annotations were found", len(rows))
	}
	templates := kinds()
	type attempt struct{ annotation, value, manifest string }
	attempts := map[string]attempt{} // by object name
	var file strings.Builder
	for i, row := range rows {
		kind, _, _ := strings.Cut(row[2], ",")
		template, ok := templates[strings.TrimSpace(kind)]
		if !ok {
			t.Fatalf("%s is for %s, of which the test has no object", row[1], kind)
		}
		for j, value := range values() {
			name, quoted := fmt.Sprintf("a%d-%d", i, j), string(must(json.Marshal(value)))
			manifest := fmt.Sprintf(template, name, row[1], quoted)
			attempts[kind+" default/"+name] = attempt{row[1], value, manifest}
			file.WriteString("---\n" + manifest)
		}
	}
	reported := problems(t, file.String())
	refusals, differences := map[string]int{}, 0
	for name, a := range attempts {
		err := w.DryRun(t.Context(), a.manifest)
		if err != nil && !strings.Contains(err.Error(), "rauta-annotation-values") {
			t.Errorf("%s with %q: %v", a.annotation, a.value, err)
			continue
		}
		if err != nil {
			refusals[a.annotation]++
			if !strings.Contains(err.Error(), a.annotation) {
				t.Errorf("the refusal of %q does not name %s: %v", a.value, a.annotation, err)
			}
		}
		if (err != nil) != reported[name+" "+a.annotation] {
			if differences++; differences < 20 {
				t.Errorf("%s with %q: RAUTA reports it: %v; the API server says %v", a.annotation, a.value, reported[name+" "+a.annotation], err)
			}
		}
	}
	for _, row := range rows {
		if n := refusals[row[1]]; n < 10 || n == len(values()) {
			t.Errorf("%s: %d of %d values are refused", row[1], n, len(values()))
		}
	}
}

func must(text []byte, err error) []byte {
	if err != nil {
		panic(err)
	}
	return text
}

// problems says of which annotations of which objects rauta check reports that they cannot be read: "kind namespace/name annotation".
func problems(t *testing.T, text string) map[string]bool {
	t.Helper()
	path := filepath.Join(t.TempDir(), "all.yaml")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	out, err := exec.Command(cluster.Path("rauta"), "check", "-o", "json", path).Output()
	var report struct {
		Unreadable bool
		Problems   []struct {
			Severity, Field, Message string
			Object                   struct{ Kind, Namespace, Name string }
		}
	}
	if jsonErr := json.Unmarshal(out, &report); jsonErr != nil || report.Unreadable {
		t.Fatalf("rauta check: %v, %v, unreadable %v", err, jsonErr, report.Unreadable)
	}
	found := map[string]bool{}
	for _, p := range report.Problems {
		if field, ok := strings.CutPrefix(p.Field, "metadata.annotations["); ok && p.Severity == "Error" && strings.Contains(p.Message, "; in effect is: ") {
			found[fmt.Sprintf("%s %s/%s %s", p.Object.Kind, p.Object.Namespace, p.Object.Name, strings.TrimSuffix(field, "]"))] = true
		}
	}
	return found
}

// awaitAdmission waits until the policies are in force, which the API server takes a while for.
func awaitAdmission(t *testing.T, w *world) {
	t.Helper()
	bad := fmt.Sprintf(kinds()["Service"], "bad", "rauta.io/load-balancer", "nonsense")
	cluster.Eventually(t, "a bad annotation to be refused", func() error {
		if w.DryRun(t.Context(), bad) == nil {
			return fmt.Errorf("it is let in")
		}
		return nil
	})
}

func TestAnObjectFromBeforeThePoliciesCanStillBeChangedInOtherRespects(t *testing.T) {
	w := deployed(t)
	awaitAdmission(t, w)
	services := w.Client().CoreV1().Services("default")
	policies := w.Client().AdmissionregistrationV1().ValidatingAdmissionPolicyBindings()
	if err := policies.Delete(t.Context(), "rauta-annotation-values", metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	object := &corev1.Service{
		ObjectMeta: metav1.ObjectMeta{Name: "old", Annotations: map[string]string{"rauta.io/max-pending": "many"}},
		Spec:       corev1.ServiceSpec{Ports: []corev1.ServicePort{{Port: 80}}},
	}
	cluster.Eventually(t, "the policy to be out of force", func() error {
		_, err := services.Create(t.Context(), object, metav1.CreateOptions{})
		return err
	})
	defer w.Delete(t, "apiVersion: v1\nkind: Service\nmetadata: {name: old, namespace: default}")
	w.Apply(t, manifest("base/admission.yaml"))
	awaitAdmission(t, w)

	patch := func(text string) error {
		_, err := services.Patch(t.Context(), "old", "application/merge-patch+json", []byte(text), metav1.PatchOptions{})
		return err
	}
	if err := patch(`{"metadata":{"labels":{"a":"b"}}}`); err != nil {
		t.Errorf("a label cannot be set: %v", err)
	}
	if err := patch(`{"metadata":{"annotations":{"rauta.io/max-pending":"a few"}}}`); err == nil {
		t.Error("another bad value is let in")
	}
	if err := patch(`{"metadata":{"annotations":{"rauta.io/max-pending":"7"}}}`); err != nil {
		t.Errorf("a good value is refused: %v", err)
	}
}

func TestAnAnnotationWithoutEffectIsLetInWithAWarning(t *testing.T) {
	w := deployed(t)
	awaitAdmission(t, w)
	for annotation, wanted := range map[string]bool{"rauta.io/nonsense": true, "rauta.io/hsts": true, "rauta.io/max-pending": false} {
		warnings := w.Warnings(t, fmt.Sprintf(kinds()["Service"], "warned", annotation, `"5"`))
		got := slices.ContainsFunc(warnings, func(text string) bool {
			return strings.Contains(text, annotation) && strings.Contains(text, "no effect on objects of kind Service")
		})
		if got != wanted {
			t.Errorf("%s: warnings %q", annotation, warnings)
		}
	}
}
