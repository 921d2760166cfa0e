package cluster

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// readOnly is an account that may read what RAUTA reads, and change nothing.
const readOnly = `
apiVersion: v1
kind: ServiceAccount
metadata: {name: reader, namespace: %[1]s}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRole
metadata: {name: %[1]s}
rules:
- {apiGroups: ["", discovery.k8s.io, networking.k8s.io, gateway.networking.k8s.io], resources: ["*"], verbs: [list, watch]}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRoleBinding
metadata: {name: %[1]s}
roleRef: {apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: %[1]s}
subjects: [{kind: ServiceAccount, name: reader, namespace: %[1]s}]
`

// asked is a configuration whose ConfigMap is one that RAUTA learns of only from a policy.
const asked = `
---
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: shop, namespace: %[1]s}
spec:
  parentRefs: [{name: web}]
  hostnames: [shop.example.com]
  rules:
  - matches: [{path: {type: PathPrefix, value: /cart}, headers: [{name: X-Canary, value: "yes"}]}]
    backendRefs: [{name: secure, port: 443}]
  - backendRefs: [{name: app, port: 80}, {name: absent, port: 80}]
---
apiVersion: v1
kind: Service
metadata: {name: secure, namespace: %[1]s}
spec: {ports: [{name: https, port: 443}]}
---
apiVersion: gateway.networking.k8s.io/v1
kind: BackendTLSPolicy
metadata: {name: secure, namespace: %[1]s}
spec:
  targetRefs: [{group: "", kind: Service, name: secure}]
  validation: {hostname: secure.example.com, caCertificateRefs: [{group: "", kind: ConfigMap, name: authority}]}
---
apiVersion: v1
kind: ConfigMap
metadata: {name: authority, namespace: %[1]s}
data: {ca.crt: %[2]q}
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: secure-1, namespace: %[1]s, labels: {kubernetes.io/service-name: secure}}
addressType: IPv4
ports: [{name: https, port: 9443}]
endpoints: [{addresses: [10.244.0.77]}]
`

// says is what a command writes, and its exit code.
func says(t *testing.T, arguments ...string) string {
	t.Helper()
	var out bytes.Buffer
	c := exec.CommandContext(t.Context(), Path("rauta"), arguments...)
	c.Stdout, c.Stderr = &out, &out
	err := c.Run()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		t.Fatal(err)
	}
	return fmt.Sprintf("%s(%d)", out.String(), c.ProcessState.ExitCode())
}

func TestExplainAndCheckSayOfAClusterWhatTheySayOfFiles(t *testing.T) {
	p := plane(t)
	permitted(t, p)
	ns := namespace(t, p)
	authority, err := os.ReadFile(p.authority())
	if err != nil {
		t.Fatal(err)
	}
	objects := fmt.Sprintf(served, ns) + fmt.Sprintf(asked, ns, authority)
	p.Apply(t, objects+"---"+fmt.Sprintf(readOnly, ns))
	kubeconfig := p.KubeconfigOf(t, ns, "reader")
	reader, err := clientOf(kubeconfig)
	if err != nil {
		t.Fatal(err)
	}
	Eventually(t, "listing secrets", func() error { // the authorizer learns of the role a moment later
		_, err := reader.CoreV1().Secrets("").List(t.Context(), metav1.ListOptions{})
		return err
	})

	file := filepath.Join(t.TempDir(), "all.yaml")
	class, err := os.ReadFile("../../deploy/base/classes.yaml")
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(file, []byte(string(class)+"---"+objects), 0o600); err != nil {
		t.Fatal(err)
	}
	live := []string{"--kubeconfig=" + kubeconfig, "--watch-namespace=" + ns}
	for _, question := range [][]string{
		{"GET", "http://shop.example.com:8085/cart/1", "-H", "X-Canary: yes"},
		{"GET", "http://shop.example.com:8085/"},
		{"GET", "http://other.example.com:8085/"},
		{"GET", "http://other.example.com/"},
	} {
		fromFiles := says(t, append([]string{"explain", "--config", file}, question...)...)
		fromCluster := says(t, append(append([]string{"explain"}, live...), question...)...)
		if fromCluster != fromFiles || !strings.HasSuffix(fromFiles, "(0)") {
			t.Errorf("%q: of files it says\n%s\nof the cluster\n%s", question, fromFiles, fromCluster)
		}
	}
	checked := says(t, append([]string{"check"}, live...)...)
	if !strings.Contains(checked, "HTTPRoute "+ns+"/shop: spec.rules[1].backendRefs[1]") || !strings.HasSuffix(checked, "(1)") {
		t.Errorf("check says %s", checked)
	}
	if strings.Contains(checked, "BackendTLSPolicy") {
		t.Errorf("the ConfigMap was not read: %s", checked)
	}
	if r := routes(t, p, ns)["shop"]; len(r.Status.Parents) > 0 {
		t.Errorf("a status was written: %+v", r.Status)
	}
}
