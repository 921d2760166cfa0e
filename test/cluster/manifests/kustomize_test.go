package manifests

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"sigs.k8s.io/kustomize/api/krusty"
	"sigs.k8s.io/kustomize/kyaml/filesys"

	cluster "rauta.io/rauta/test/cluster"
)

// kustomized returns what `kubectl apply -k` sends of a folder of deploy.
func kustomized(folder string) (string, error) {
	built, err := krusty.MakeKustomizer(krusty.MakeDefaultOptions()).Run(filesys.MakeFsOnDisk(), filepath.Join(deployFolder, folder))
	if err != nil {
		return "", err
	}
	text, err := built.AsYaml()
	return string(text), err
}

// TestWhatNobodyCanTryHereCanBeBuilt: the kinds of the Prometheus operator are not there, and deploy/infrastructure is a
// component, which only together with something else is a whole.
func TestWhatNobodyCanTryHereCanBeBuilt(t *testing.T) {
	text, err := kustomized("observability")
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"kind: PodMonitor", "kind: PrometheusRule", "kind: ConfigMap", `grafana_dashboard: "1"`, "rauta_request_stage_seconds_sum"} {
		if !strings.Contains(text, want) {
			t.Errorf("observability: %q is missing", want)
		}
	}
	absolute, err := filepath.Abs(deployFolder)
	if err != nil {
		t.Fatal(err)
	}
	folder := t.TempDir()
	relative := func(name string) string {
		path, err := filepath.Rel(folder, filepath.Join(absolute, name))
		if err != nil {
			t.Fatal(err)
		}
		return path
	}
	whole := "apiVersion: kustomize.config.k8s.io/v1beta1\nkind: Kustomization\nresources: [" + relative("deployment") + "]\ncomponents: [" +
		relative("infrastructure") + "]\n"
	if err := os.WriteFile(filepath.Join(folder, "kustomization.yaml"), []byte(whole), 0o600); err != nil {
		t.Fatal(err)
	}
	built, err := krusty.MakeKustomizer(krusty.MakeDefaultOptions()).Run(filesys.MakeFsOnDisk(), folder)
	if err != nil {
		t.Fatal(err)
	}
	with, err := built.AsYaml()
	if err != nil {
		t.Fatal(err)
	}
	without, err := kustomized("deployment")
	if err != nil {
		t.Fatal(err)
	}
	if len(with) <= len(without) || !strings.Contains(string(with), "kind: Deployment") {
		t.Error("deploy/infrastructure adds nothing to deploy/deployment")
	}
}

func TestWhatKustomizeBuildsIsTaken(t *testing.T) {
	w := deployed(t)
	for folder, level := range map[string]string{"daemonset": "privileged", "deployment": "restricted"} {
		text, err := kustomized(folder)
		if err != nil {
			t.Errorf("%s: %v", folder, err)
			continue
		}
		if err := w.DryRun(t.Context(), text); err != nil {
			t.Errorf("%s: %v", folder, err)
		}
		objects, err := cluster.Objects(text)
		if err != nil {
			t.Fatal(err)
		}
		kinds := map[string]int{}
		for _, o := range objects {
			kinds[o.GetKind()]++
			if o.GetKind() != "Namespace" {
				continue
			}
			if got := o.GetLabels()["pod-security.kubernetes.io/enforce"]; got != level {
				t.Errorf("%s: the namespace enforces the level %q, want %s", folder, got, level)
			}
		}
		if want := map[string]string{"daemonset": "DaemonSet", "deployment": "Deployment"}[folder]; kinds[want] != 1 || kinds["ClusterRole"] != 1 ||
			kinds["ValidatingAdmissionPolicy"] != 2 || kinds["GatewayClass"] != 1 {
			t.Errorf("%s: it builds %v", folder, kinds)
		}
		if !strings.Contains(text, "image: rauta:dev\n") {
			t.Errorf("%s: the image is not the one that docs/kubernetes.md builds", folder)
		}
	}
}
