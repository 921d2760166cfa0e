package archtest

import (
	"os/exec"
	"strings"
	"testing"
)

// heavy are packages that the binary must not link, because what they bring along is in everybody's memory; PERF.md says how
// much. One import far away is enough to have them back.
func heavy() map[string]string {
	const typed = "it registers every kind of Kubernetes before main begins, and links all of them: use control/kube"
	return map[string]string{
		"k8s.io/client-go/kubernetes":                typed,
		"k8s.io/client-go/kubernetes/scheme":         typed,
		"k8s.io/client-go/informers":                 typed,
		"k8s.io/client-go/applyconfigurations":       typed,
		"k8s.io/client-go/discovery":                 "it imports kubernetes/scheme: use Versions of control/kube",
		"k8s.io/client-go/restmapper":                "it imports discovery: use Versions of control/kube",
		"k8s.io/client-go/tools/leaderelection":      "it imports the clients of all kinds: control/lead elects",
		"github.com/google/gnostic-models":           "nobody reads OpenAPI here",
		"k8s.io/kube-openapi/pkg/validation":         "nobody reads OpenAPI here",
		"sigs.k8s.io/structured-merge-diff/v6/typed": "nobody applies on the server's side here",
	}
}

func TestTheBinaryLinksNoHeavyPackages(t *testing.T) {
	out, err := exec.CommandContext(t.Context(), "go", "list", "-deps", "-tags", "grpcnotrace", "../../cmd/rauta").Output()
	if err != nil {
		t.Fatalf("list what cmd/rauta imports: %v", err)
	}
	linked := strings.Fields(string(out))
	if len(linked) < 100 {
		t.Fatalf("only %d packages are listed", len(linked))
	}
	for _, one := range linked {
		for prefix, why := range heavy() {
			if covers(prefix+"/...", one) {
				t.Errorf("cmd/rauta links %s: %s; `go list -deps -f '{{.ImportPath}} {{.Imports}}' ./cmd/rauta` shows who imports it", one, why)
			}
		}
	}
}
