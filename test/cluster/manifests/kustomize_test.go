package manifests

import (
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
