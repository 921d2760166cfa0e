package manifests

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/yaml"

	cluster "rauta.io/rauta/test/cluster"
)

// operatorGroup is the group of PodMonitors and PrometheusRules.
const operatorGroup = "monitoring.coreos.com/"

func TestTheAPIServerTakesEveryManifest(t *testing.T) {
	w := deployed(t)
	operator := true
	if err := installPrometheusOperator(t, w); err != nil {
		operator = false
		t.Logf("what is for the Prometheus operator is not checked: %v", err)
	}
	files, err := filepath.Glob(filepath.Join(deployFolder, "*", "*.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	checked := 0
	for _, file := range files {
		if strings.HasSuffix(file, "kustomization.yaml") {
			continue
		}
		if !operator && strings.Contains(manifest(strings.TrimPrefix(file, deployFolder+"/")), "\napiVersion: "+operatorGroup) {
			continue
		}
		checked++
		if err := w.DryRun(t.Context(), manifest(strings.TrimPrefix(file, deployFolder+"/"))); err != nil {
			t.Errorf("%s: %v", file, err)
		}
	}
	if checked < 7 {
		t.Errorf("only %d files were found", checked)
	}
}

// The definitions of the Prometheus operator come from its module, which nothing else needs: it is in no go.mod, and its sum
// is compared here.
const (
	operatorModule = "github.com/prometheus-operator/prometheus-operator@v0.85.0"
	operatorSum    = "h1:M5xLCLEoaW2IJfnuCwFzzpL+jSVQu3KGT84Pye+fW8s="
)

// installPrometheusOperator installs the definitions of the kinds that deploy/observability has.
func installPrometheusOperator(t *testing.T, w *world) error {
	t.Helper()
	out, err := exec.CommandContext(t.Context(), "go", "mod", "download", "-json", operatorModule).Output()
	if err != nil {
		return fmt.Errorf("go mod download %s: %w", operatorModule, err)
	}
	var module struct{ Dir, Sum string }
	if err := json.Unmarshal(out, &module); err != nil {
		return err
	}
	if module.Sum != operatorSum {
		t.Fatalf("%s has the sum %s, want %s", operatorModule, module.Sum, operatorSum)
	}
	folder := t.TempDir()
	for _, kind := range []string{"podmonitors", "prometheusrules"} {
		name := "monitoring.coreos.com_" + kind + ".yaml"
		text, err := os.ReadFile(filepath.Join(module.Dir, "example", "prometheus-operator-crd", name))
		if err != nil {
			return err
		}
		if err := os.WriteFile(filepath.Join(folder, name), text, 0o644); err != nil {
			return err
		}
	}
	return w.InstallDefinitions(t.Context(), folder)
}

func TestThePodsFitTheLevelOfPodSecurityThatTheirNamespaceEnforces(t *testing.T) {
	w := deployed(t)
	var d appsv1.Deployment
	if err := yaml.Unmarshal([]byte(manifest("deployment/deployment.yaml")), &d); err != nil {
		t.Fatal(err)
	}
	ns := w.namespace(t)
	w.Apply(t, fmt.Sprintf("apiVersion: v1\nkind: Namespace\nmetadata: {name: %s, labels: {pod-security.kubernetes.io/enforce: restricted}}", ns))
	pod := corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: "rauta"}, Spec: d.Spec.Template.Spec}
	pod.Spec.ServiceAccountName, pod.Spec.PriorityClassName = "default", ""
	if _, err := w.Client().CoreV1().Pods(ns).Create(t.Context(), &pod, metav1.CreateOptions{DryRun: []string{metav1.DryRunAll}}); err != nil {
		t.Errorf("the pod of the Deployment: %v", err)
	}
	pod.Spec.Containers[0].SecurityContext.Capabilities.Add = []corev1.Capability{"BPF"}
	if _, err := w.Client().CoreV1().Pods(ns).Create(t.Context(), &pod, metav1.CreateOptions{DryRun: []string{metav1.DryRunAll}}); err == nil {
		t.Error("the test sees nothing: a pod with a capability is let in")
	}
}

func TestAnUpdateOfTheDaemonSetRefusesNoConnection(t *testing.T) {
	w := deployed(t)
	ns := w.namespace(t)
	w.Apply(t, fmt.Sprintf(app, ns, "first", 2, "1")+"---"+fmt.Sprintf(gateway, ns)+"---"+fmt.Sprintf(route, ns, "1", "[{name: first, port: 80}]"))
	w.awaitPods(t, ns, 2)
	served(t, ns)
	before := w.ready(t)

	f := send(t, ns, steady, nil)
	patch := fmt.Appendf(nil, `{"spec":{"template":{"metadata":{"annotations":{"example.com/update-of":%q}}}}}`, before.UID)
	if _, err := w.Client().AppsV1().DaemonSets(system).Patch(t.Context(), "rauta", "application/strategic-merge-patch+json", patch, metav1.PatchOptions{}); err != nil {
		t.Fatal(err)
	}
	overlap, nudged := false, time.Now()
	cluster.Eventually(t, "another pod alone", func() error {
		pods := w.pods(t, t.Context(), system)
		if time.Since(nudged) > nudgeTime {
			nudged = time.Now()
			w.nudge(t)
		}
		overlap = overlap || len(pods) == 2
		if len(pods) != 1 || pods[0].UID == before.UID || !isReady(&pods[0]) {
			return fmt.Errorf("there are %d pods", len(pods))
		}
		return nil
	})
	f.end(t)
	if !overlap {
		t.Error("there were never two pods: the new one waited for the end of the old one")
	}
}

// nudgeTime is longer than an update takes as a rule.
const nudgeTime = 20 * time.Second

// nudge has the controller of DaemonSets look at RAUTA's again. When a pod has become ready it means to look after
// minReadySeconds and one more, but if it was to look sooner already, because another pod had become ready shortly before, it
// forgets the later time, and leaves the old pod beside the new one until something happens (Kubernetes 1.37).
func (w *world) nudge(t *testing.T) {
	t.Helper()
	t.Logf("the controller of DaemonSets is nudged: it does not go on by itself")
	patch := fmt.Appendf(nil, `{"metadata":{"annotations":{"example.com/nudged":%q}}}`, time.Now())
	if _, err := w.Client().AppsV1().DaemonSets(system).Patch(t.Context(), "rauta", "application/merge-patch+json", patch, metav1.PatchOptions{}); err != nil {
		t.Error(err)
	}
}

// served waits until a request is answered.
func served(t *testing.T, namespace string) {
	t.Helper()
	client := newClient(false)
	cluster.Eventually(t, "the route to be served", func() error {
		_, err := ask(t.Context(), client, namespace)
		return err
	})
}
