package cluster

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	authentication "k8s.io/api/authentication/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/yaml"
)

// tokenSeconds is how long tokens of service accounts are valid; longer than any test.
const tokenSeconds = 6 * 60 * 60

// authority is the file of the certificate that the API server is trusted by.
func (p *Plane) authority() string { return p.path("certs/apiserver.crt") }

// Kubeconfig returns the file that lets programs act as an administrator.
func (p *Plane) Kubeconfig() string { return p.path("kubeconfig") }

// KubeconfigOf returns a file that lets programs act as a service account and no more; RBAC decides what they may do.
func (p *Plane) KubeconfigOf(t testing.TB, namespace, serviceAccount string) string {
	t.Helper()
	token, err := p.tokenOf(t.Context(), namespace, serviceAccount)
	path := filepath.Join(t.TempDir(), "kubeconfig")
	if err == nil {
		err = p.writeKubeconfig(path, token)
	}
	if err != nil {
		t.Fatal(err)
	}
	return path
}

func (p *Plane) writeKubeconfig(path, token string) error {
	type object map[string]any
	text, err := yaml.Marshal(object{
		"apiVersion": "v1", "kind": "Config", "current-context": "test",
		"clusters": []object{{"name": "test", "cluster": object{
			"server": "https://" + NodeAddress + ":" + apiServerPort, "certificate-authority": p.authority(),
		}}},
		"users":    []object{{"name": "test", "user": object{"token": token}}},
		"contexts": []object{{"name": "test", "context": object{"cluster": "test", "user": "test"}}},
	})
	if err != nil {
		return err
	}
	return os.WriteFile(path, text, 0o600)
}

// tokenOf asks the API server for a token, as kubelets do.
func (p *Plane) tokenOf(ctx context.Context, namespace, serviceAccount string) (string, error) {
	seconds := int64(tokenSeconds)
	request := &authentication.TokenRequest{Spec: authentication.TokenRequestSpec{ExpirationSeconds: &seconds}}
	answer, err := p.clients.CoreV1().ServiceAccounts(namespace).CreateToken(ctx, serviceAccount, request, metav1.CreateOptions{})
	if err != nil {
		return "", fmt.Errorf("get a token of service account %s/%s: %w", namespace, serviceAccount, err)
	}
	return answer.Status.Token, nil
}

// serviceAccountMade: pods are refused before the controller has made the default service account of their namespace.
func (p *Plane) serviceAccountMade(ctx context.Context) error {
	_, err := p.clients.CoreV1().ServiceAccounts("default").Get(ctx, "default", metav1.GetOptions{})
	return err
}
