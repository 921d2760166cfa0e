package watch

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

const kubeconfig = `apiVersion: v1
kind: Config
current-context: one
clusters:
- {name: a, cluster: {server: "https://a.example.com:6443"}}
- {name: b, cluster: {server: "https://b.example.com:6443"}}
users: [{name: u, user: {token: t}}]
contexts:
- {name: one, context: {cluster: a, user: u}}
- {name: two, context: {cluster: b, user: u}}
`

func TestAKubeconfigGivesTheServerOfItsContext(t *testing.T) {
	path := filepath.Join(t.TempDir(), "kubeconfig")
	if err := os.WriteFile(path, []byte(kubeconfig), 0o600); err != nil {
		t.Fatal(err)
	}
	for context, host := range map[string]string{"": "https://a.example.com:6443", "two": "https://b.example.com:6443"} {
		cfg, err := (&Access{Kubeconfig: path, Context: context, UserAgent: "rauta/test", QPS: 7, Burst: 9}).Config()
		if err != nil {
			t.Fatal(err)
		}
		if cfg.Host != host || cfg.BearerToken != "t" || cfg.UserAgent != "rauta/test" || cfg.QPS != 7 || cfg.Burst != 9 {
			t.Errorf("context %q: got %v", context, cfg)
		}
	}
	_, err := (&Access{Kubeconfig: path, Context: "three"}).Config()
	if err == nil || !strings.Contains(err.Error(), path) || !strings.Contains(err.Error(), "three") {
		t.Errorf("an unknown context: got %v", err)
	}
}

func TestOutsideAClusterTheErrorSaysWhatToGive(t *testing.T) {
	t.Setenv("KUBERNETES_SERVICE_HOST", "")
	_, err := (&Access{}).Config()
	if !errors.Is(err, errNoCluster) || !strings.Contains(err.Error(), "--kubeconfig") {
		t.Errorf("got %v", err)
	}
}
