package manifests

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"regexp"
	"strings"
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	cluster "rauta.io/rauta/test/cluster"
)

// kubectl runs the program that people use, with input, and returns what it prints; the test ends if it fails.
func (w *world) kubectl(t *testing.T, input string, args ...string) string {
	t.Helper()
	path, err := exec.LookPath("kubectl")
	if err != nil {
		t.Skip("kubectl is not installed (https://kubernetes.io/docs/tasks/tools/, or Debian: package kubernetes-client)")
	}
	command := exec.CommandContext(t.Context(), path, args...)
	command.Env = append(os.Environ(), "KUBECONFIG="+w.Kubeconfig(), "HOME="+t.TempDir())
	command.Stdin = strings.NewReader(input)
	var out, complaints bytes.Buffer
	command.Stdout, command.Stderr = &out, &complaints
	if err := command.Run(); err != nil {
		t.Fatalf("kubectl %s: %v\n%s%s", strings.Join(args, " "), err, out.String(), complaints.String())
	}
	return out.String()
}

// guide returns the objects that docs/kubernetes.md has in the step with a title.
func guide(t *testing.T, title string) string {
	t.Helper()
	page, err := os.ReadFile("../../../docs/kubernetes.md")
	if err != nil {
		t.Fatal(err)
	}
	_, step, found := strings.Cut(string(page), "**"+title+"**")
	_, step, begins := strings.Cut(step, "```yaml\n")
	text, _, ends := strings.Cut(step, "   ```\n")
	if !found || !begins || !ends {
		t.Fatalf("docs/kubernetes.md has no objects in the step %q", title)
	}
	return regexp.MustCompile(`(?m)^   `).ReplaceAllString(text, "")
}

// TestTheGuideLeadsToTheFirstRoute does with kubectl what docs/kubernetes.md says, and looks at what people look at then.
func TestTheGuideLeadsToTheFirstRoute(t *testing.T) {
	w := deployed(t)
	w.kubectl(t, "", "apply", "--dry-run=server", "-k", deployFolder+"/daemonset")
	w.kubectl(t, "", "apply", "-k", deployFolder+"/base")
	for line := range strings.Lines(w.kubectl(t, "", "apply", "-k", deployFolder+"/base")) {
		if !strings.HasSuffix(line, " unchanged\n") { // a default that the manifest does not have looks like a change for ever
			t.Errorf("applied again: %s", line)
		}
	}

	const ns = "first-route"
	w.kubectl(t, "", "create", "namespace", ns)
	t.Cleanup(func() {
		_ = w.Client().CoreV1().Namespaces().Delete(context.Background(), ns, metav1.DeleteOptions{})
	})
	objects := guide(t, "A route.")
	container := regexp.MustCompile(`image: [^,]+, args: \[[^\]]*\]`)
	if !container.MatchString(objects) {
		t.Fatal("the step has no image with arguments")
	}
	objects = container.ReplaceAllString(objects, "image: backend") // which serves the same port, and is there
	objects += `
---
apiVersion: networking.k8s.io/v1
kind: Ingress
metadata: {name: hello}
spec:
  ingressClassName: rauta
  rules:
  - host: ingress.example.com
    http:
      paths:
      - {path: /, pathType: Prefix, backend: {service: {name: hello, port: {number: 80}}}}
`
	w.kubectl(t, objects, "-n", ns, "apply", "-f", "-")
	for _, host := range []string{"hello.example.com", "ingress.example.com"} {
		cluster.Eventually(t, "an answer for "+host, func() error { return w.answers(t.Context(), host) })
	}

	// Name, class, address and state of a Gateway; class, host, address and ports of an Ingress; the route's hostname.
	columns := map[string]string{
		"gateway":   `(?m)^web +rauta +` + regexp.QuoteMeta(cluster.NodeAddress) + ` +True `,
		"httproute": `(?m)^hello +\["hello\.example\.com"\] `,
		"ingress":   `(?m)^hello +rauta +ingress\.example\.com +` + regexp.QuoteMeta(cluster.NodeAddress) + ` +80 `,
	}
	for kind, want := range columns {
		cluster.Eventually(t, "the columns of "+kind, func() error {
			if table := w.kubectl(t, "", "-n", ns, "get", kind); !regexp.MustCompile(want).MatchString(table) {
				return fmt.Errorf("kubectl get prints\n%s", table)
			}
			return nil
		})
	}
	// What became of a route has no column: the guide says to describe it; scripts wait for its conditions.
	parent := `jsonpath={.status.parents[0].conditions[?(@.type=="Accepted")].status}=True`
	w.kubectl(t, "", "-n", ns, "wait", "--timeout=60s", "--for="+parent, "httproute/hello")
	w.kubectl(t, "", "-n", ns, "wait", "--timeout=60s", "--for=condition=Programmed", "gateway/web")
	for _, want := range []string{"Accepted", "ResolvedRefs", "rauta.io/gateway-controller"} {
		if text := w.kubectl(t, "", "-n", ns, "describe", "httproute", "hello"); !strings.Contains(text, want) {
			t.Errorf("kubectl describe does not say %s:\n%s", want, text)
		}
	}
	w.gone(t, ns)
	if text := w.kubectl(t, "", "get", "gatewayclass"); !regexp.MustCompile(`(?m)^rauta +rauta\.io/gateway-controller +True `).MatchString(text) {
		t.Errorf("kubectl get gatewayclass prints\n%s", text)
	}
}

// gone does what docs/kubernetes.md begins the removal with, looks at what is left of statuses, and takes it back.
func (w *world) gone(t *testing.T, ns string) {
	t.Helper()
	page, err := os.ReadFile("../../../docs/kubernetes.md")
	if err != nil {
		t.Fatal(err)
	}
	const removal = "delete gatewayclass,ingressclass rauta"
	if !strings.Contains(string(page), "kubectl "+removal+"\n") {
		t.Fatalf("docs/kubernetes.md does not say kubectl %s", removal)
	}
	w.kubectl(t, "", strings.Fields(removal)...)
	for kind, want := range map[string]string{"gateway": `(?m)^web +rauta +Unknown `, "ingress": `(?m)^hello +rauta +ingress\.example\.com +80 `} {
		cluster.Eventually(t, "nothing of RAUTA in "+kind, func() error {
			if table := w.kubectl(t, "", "-n", ns, "get", kind); !regexp.MustCompile(want).MatchString(table) {
				return fmt.Errorf("kubectl get prints\n%s", table)
			}
			return nil
		})
	}
	w.kubectl(t, "", "apply", "-k", deployFolder+"/base")
	w.kubectl(t, "", "-n", ns, "wait", "--timeout=60s", "--for=condition=Programmed", "gateway/web")
	w.kubectl(t, "", "wait", "--timeout=60s", "--for=condition=Accepted", "gatewayclass/rauta")
}

// answers asks the node for a host.
func (w *world) answers(ctx context.Context, host string) error {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+cluster.NodeAddress+"/", nil)
	if err != nil {
		return err
	}
	request.Host = host
	response, err := newClient(false).Do(request)
	if err != nil {
		return err
	}
	if err := response.Body.Close(); err != nil {
		return err
	}
	if response.StatusCode != http.StatusOK {
		return errors.New(response.Status)
	}
	return nil
}
