package watch

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"rauta.io/rauta/control/translate"
)

const service = "apiVersion: v1\nkind: Service\nmetadata:\n  name: app\n"

// folder writes files into a new folder.
func folder(t *testing.T, files map[string]string) string {
	t.Helper()
	dir := t.TempDir()
	for name, text := range files {
		write(t, filepath.Join(dir, name), text)
	}
	return dir
}

func write(t *testing.T, path, text string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}

// TestAnObjectMayBeRepeated: who keeps a folder for each application has the same Namespace in all of them.
func TestAnObjectMayBeRepeated(t *testing.T) {
	const namespace = "apiVersion: v1\nkind: Namespace\nmetadata:\n  name: shop\n"
	const otherOrder = "kind: Namespace\nmetadata: {name: shop}\napiVersion: v1\n"
	l := Load([]string{folder(t, map[string]string{
		"a.yaml": namespace, "b.yaml": otherOrder,
		"c.yaml": "apiVersion: v1\nkind: List\nitems:\n- " + strings.ReplaceAll(strings.TrimSpace(namespace), "\n", "\n  "),
	})})
	if len(l.Problems) > 0 || l.Broken() || len(l.Objects.Namespaces) != 1 {
		t.Errorf("problems %v, %d namespaces", l.Problems, len(l.Objects.Namespaces))
	}
}

func TestProblemsNamePlaceObjectFieldAndRemedy(t *testing.T) {
	for name, c := range map[string]struct{ text, want string }{
		"an unknown field": {
			service + "spec:\n  prots: []\n",
			`:1: Service default/app: spec.prots: unknown field (remove it or correct its spelling)`,
		},
		"a field given twice": {
			service + "spec: {}\nspec: {}\n",
			`:6: key "spec" already set in map (the document is not valid YAML)`,
		},
		"a value of the wrong type": {
			service + "spec:\n  ports: 80\n",
			`:1: Service default/app: spec.ports: a number is not allowed here (compare with the API reference of v1 Service)`,
		},
		"an object given twice, and not the same": {
			service + "---\n" + service + "spec: {type: ExternalName}\n",
			`:6: Service default/app: is defined a second time, and differently; the first is at `,
		},
		"the same object with and without the default namespace": {
			service + "---\n" + service + "  namespace: default\n",
			`:6: Service default/app: is defined a second time, and differently; the first is at `,
		},
		"a wrong version of a known kind": {
			"apiVersion: gateway.networking.k8s.io/v1alpha2\nkind: HTTPRoute\nmetadata:\n  name: r\n",
			`:1: HTTPRoute r: apiVersion: gateway.networking.k8s.io/v1alpha2 is not supported for HTTPRoute (use gateway.networking.k8s.io/v1)`,
		},
		"a document that is no object": {
			"# only\nname: x\n",
			`:2: apiVersion and kind are missing (every document must be a Kubernetes object)`,
		},
		"an object without a name": {
			"apiVersion: v1\nkind: Service\nmetadata: {}\n",
			`:1: Service : metadata.name: is missing (give the object a name)`,
		},
		"broken YAML in a later document": {
			service + "---\n# comment\n\napiVersion: v1\nkind: [\n",
			`(the document is not valid YAML)`,
		},
		"a document that begins within a line": {
			service + "--- {apiVersion: v1, kind: Service, metadata: {name: b}}\n",
			`:1: invalid Yaml document separator: {apiVersion: v1, kind: Service, metadata: {name: b}}`,
		},
		"a document after an end mark": {
			"# x\n" + service + "...\n\napiVersion: v1\nkind: Service\nmetadata: {name: b}\n",
			`:8: another document follows after ... (separate documents by lines with ---)`,
		},
	} {
		t.Run(name, func(t *testing.T) {
			dir := folder(t, map[string]string{"a.yaml": c.text})
			l := Load([]string{dir})
			if len(l.Problems) != 1 || !l.Broken() {
				t.Fatalf("want one error, got %v", l.Problems)
			}
			got := strings.TrimPrefix(l.Problems[0].Error(), filepath.Join(dir, "a.yaml"))
			if !strings.HasPrefix(got, c.want) && !strings.HasSuffix(got, c.want) {
				t.Errorf("got  %s\nwant %s", got, c.want)
			}
		})
	}
}

func TestLinesCountAcrossDocumentsCommentsAndSeparators(t *testing.T) {
	dir := folder(t, map[string]string{"a.yaml": "# head\n---\n# more\n\n" + service + // line 5
		"---\n---\n\n" + strings.Replace(service, "app", "two", 1) + // line 12
		"--- # three\n" + strings.Replace(service, "app", "three", 1)}) // line 17
	l := Load([]string{dir})
	if l.Broken() {
		t.Fatal(l.Err())
	}
	for name, line := range map[string]int{"app": 5, "two": 12, "three": 17} {
		at := l.Positions[translate.ObjectRef{Kind: "Service", Namespace: "default", Name: name}]
		if at.Line != line {
			t.Errorf("Service %s is at line %d, want %d", name, at.Line, line)
		}
	}
}

func TestAListCountsAsItsItems(t *testing.T) {
	dir := folder(t, map[string]string{"list.json": `{"apiVersion": "v1", "kind": "List", "items": [
		{"apiVersion": "v1", "kind": "Service", "metadata": {"name": "a"}},
		{"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "n", "namespace": "ignored"}},
		{"apiVersion": "v1", "kind": "Service", "metadata": {"name": "b"}, "nonsense": 1}]}`})
	l := Load([]string{dir})
	if len(l.Objects.Services) != 2 || len(l.Objects.Namespaces) != 1 || l.Objects.Namespaces[0].Namespace != "" {
		t.Errorf("got %d services, namespaces %v", len(l.Objects.Services), l.Objects.Namespaces)
	}
	if len(l.Problems) != 1 || l.Problems[0].Object.Name != "b" || l.Problems[0].Field != "nonsense" {
		t.Errorf("got %v, want one problem of Service b", l.Problems)
	}
}

func TestObjectsOfOtherAPIsAreLeftAlone(t *testing.T) {
	dir := folder(t, map[string]string{
		"a.yaml": "apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: d}\nspec: {anything: goes}\n",
		"b.yaml": "apiVersion: gateway.networking.x-k8s.io/v1alpha1\nkind: XBackendTrafficPolicy\nmetadata: {name: p}\n",
	})
	l := Load([]string{dir})
	if l.Broken() || len(l.Problems) != 1 || l.Problems[0].Severity != translate.Warning ||
		!strings.Contains(l.Problems[0].Error(), "XBackendTrafficPolicy is not supported yet") {
		t.Errorf("got %v, want one warning about the policy", l.Problems)
	}
}

func TestPoliciesAndTheirAuthoritiesAreRead(t *testing.T) {
	policy := `kind: BackendTLSPolicy
metadata: {name: p}
spec:
  targetRefs: [{group: "", kind: Service, name: web}]
  validation: {caCertificateRefs: [{group: "", kind: ConfigMap, name: ca}], hostname: web.example.com}
`
	l := Load([]string{folder(t, map[string]string{
		"a.yaml": "apiVersion: gateway.networking.k8s.io/v1\n" + policy,
		"b.yaml": "apiVersion: gateway.networking.k8s.io/v1alpha3\n" + strings.Replace(policy, "name: p}", "name: q}", 1),
		"c.yaml": "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: ca}\ndata: {ca.crt: x}\n",
	})})
	if l.Err() != nil || len(l.Objects.BackendTLSPolicies) != 2 || len(l.Objects.ConfigMaps) != 1 {
		t.Fatalf("%d policies, %d ConfigMaps, %v", len(l.Objects.BackendTLSPolicies), len(l.Objects.ConfigMaps), l.Err())
	}
}

func TestAFolderStandsForItsVisibleYAMLAndJSONFiles(t *testing.T) {
	dir := folder(t, map[string]string{
		"b.yaml": service, "sub/a.yml": "", "sub/deep/c.json": "{}", ".hidden.yaml": "[", ".git/x.yaml": "[", "notes.txt": "[",
	})
	link := filepath.Join(t.TempDir(), "link")
	if err := os.Symlink(dir, link); err != nil {
		t.Fatal(err)
	}
	for _, paths := range [][]string{{dir}, {dir + "/", filepath.Join(dir, "b.yaml")}, {link}} {
		files, err := List(paths)
		if err != nil {
			t.Fatal(err)
		}
		for i := range files {
			files[i] = strings.TrimPrefix(strings.TrimPrefix(files[i], dir+"/"), link+"/")
		}
		if got := strings.Join(files, " "); got != "b.yaml sub/a.yml sub/deep/c.json" {
			t.Errorf("%v: got %s", paths, got)
		}
	}
}

func TestAPathThatDoesNotExistIsAnError(t *testing.T) {
	l := Load([]string{filepath.Join(t.TempDir(), "missing")})
	if !l.Broken() || !strings.Contains(l.Err().Error(), "no such file") {
		t.Errorf("got %v", l.Err())
	}
}

func TestAnObjectWithAnUnknownFieldIsStillKnown(t *testing.T) {
	dir := folder(t, map[string]string{"a.yaml": service + "nonsense: 1\n"})
	if l := Load([]string{dir}); len(l.Objects.Services) != 1 || !l.Broken() {
		t.Errorf("got %d services, broken %v", len(l.Objects.Services), l.Broken())
	}
}
