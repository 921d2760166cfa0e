package manifests

import (
	"sync"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"sigs.k8s.io/yaml"
)

// warned collects what the API server remarks.
type warned struct {
	mu   sync.Mutex
	text []string
}

func (w *warned) HandleWarningHeader(_ int, _ string, text string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.text = append(w.text, text)
}

// Warnings returns what the API server remarks on a Service, which it does not keep.
func (w *world) Warnings(t *testing.T, manifest string) []string {
	t.Helper()
	var service corev1.Service
	if err := yaml.Unmarshal([]byte(manifest), &service); err != nil {
		t.Fatal(err)
	}
	config, heard := w.Config(), &warned{}
	config.WarningHandler = heard
	client, err := kubernetes.NewForConfig(config)
	if err == nil {
		_, err = client.CoreV1().Services(service.Namespace).Create(t.Context(), &service, metav1.CreateOptions{DryRun: []string{metav1.DryRunAll}})
	}
	if err != nil {
		t.Fatal(err)
	}
	return heard.text
}
