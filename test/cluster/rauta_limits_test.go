package cluster

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// asking is an Ingress that asks clients for certificates of the authorities in a ConfigMap.
const asking = `
---
apiVersion: networking.k8s.io/v1
kind: Ingress
metadata: {name: %[2]s, namespace: %[1]s, annotations: {rauta.io/client-ca: configmap/%[2]s}}
spec:
  ingressClassName: rauta
  rules: [{host: %[2]s.%[1]s.example.com, http: {paths: [{path: /, pathType: Prefix, backend: {service: {name: app, port: {number: 80}}}}]}}]
`

// loser is an Ingress with a default back end, as oldIngress is, which is older.
const loser = `
---
apiVersion: networking.k8s.io/v1
kind: Ingress
metadata: {name: young, namespace: %[1]s}
spec: {ingressClassName: rauta, defaultBackend: {service: {name: app, port: {number: 80}}}}
`

// notes returns what Events say of the Ingresses of a namespace, by name.
func notes(t *testing.T, p *Plane, namespace string) map[string]string {
	t.Helper()
	events, err := p.Client().EventsV1().Events(namespace).List(t.Context(), metav1.ListOptions{})
	if err != nil {
		t.Fatal(err)
	}
	out := map[string]string{}
	for _, e := range events.Items {
		if e.Regarding.Kind == "Ingress" {
			out[e.Regarding.Name] += e.Note + "\n"
		}
	}
	return out
}

// TestWhatIsBeyondALimitIsToldToWhoeverRefersToItAndTheRestIsServed has more ConfigMaps in one namespace than are read in the
// whole cluster, and one that is too large.
func TestWhatIsBeyondALimitIsToldToWhoeverRefersToItAndTheRestIsServed(t *testing.T) {
	const readMax, many, largeBytes = 500, 510, 600 << 10 // see docs/limits.md
	p := plane(t)
	kubeconfig := permitted(t, p)
	bundle, _, err := SelfSigned()
	if err != nil {
		t.Fatal(err)
	}
	ns := namespace(t, p)
	crowded, quiet := "a-crowded", "z-quiet"
	answering(t, "10.244.3.1")
	var text strings.Builder
	fmt.Fprintf(&text, plainIngress, ns)
	for _, name := range []string{crowded, quiet} {
		fmt.Fprintf(&text, "---\napiVersion: v1\nkind: Namespace\nmetadata: {name: %s}\n---"+appService, name, name)
		t.Cleanup(func() {
			_ = p.Client().CoreV1().Namespaces().Delete(context.Background(), name, metav1.DeleteOptions{})
		})
	}
	for i := range many {
		fmt.Fprintf(&text, asking, crowded, fmt.Sprintf("m-%03d", i))
	}
	for _, name := range []string{"fine", "large"} {
		fmt.Fprintf(&text, asking, quiet, name)
	}
	p.Apply(t, text.String())
	configMap := func(namespace, name, authorities string) {
		t.Helper()
		m := &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: name}, Data: map[string]string{"ca.crt": authorities, "other": strings.Repeat("x", 300<<10)}}
		if _, err := p.Client().CoreV1().ConfigMaps(namespace).Create(t.Context(), m, metav1.CreateOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	for i := range many {
		configMap(crowded, fmt.Sprintf("m-%03d", i), bundle)
	}
	configMap(quiet, "fine", bundle)
	configMap(quiet, "large", strings.Repeat("x", largeBytes))
	time.Sleep(1100 * time.Millisecond) // the age of objects has whole seconds
	p.Apply(t, fmt.Sprintf(loser, quiet))

	defer alone(t, kubeconfig, "--http-port=8087", "--https-port=8447", "--publish-address=198.51.100.4")()
	Eventually(t, "whoever is concerned to be told", func() error {
		beyond := 0
		for name, note := range notes(t, p, crowded) {
			if strings.Contains(note, "does not exist") {
				t.Errorf("%s is told %s", name, note)
			}
			if strings.Contains(note, "is not read, because more than 500 of its kind are referred to in this cluster") {
				beyond++
			}
		}
		told := notes(t, p, quiet)
		if !strings.Contains(told["large"], "ConfigMap z-quiet/large has 614406 bytes of data, and not more than 524288 are read") ||
			!strings.Contains(told["young"], "the default back end gets no requests") || strings.Contains(told["fine"], "exist") {
			return fmt.Errorf("in the other namespace is told %v", told)
		}
		if want := many + 2 - readMax; beyond != want { // two are read for the other namespace
			return fmt.Errorf("%d are told that their ConfigMap is not read, want %d", beyond, want)
		}
		return nil
	})
	Eventually(t, "requests to be served beside them", func() error {
		body, err := get(&http.Client{Timeout: time.Minute}, "http://"+NodeAddress+":8087/")
		if err == nil && body != "10.244.3.1" {
			err = errors.New(body)
		}
		return err
	})
}
