package watch

import (
	"errors"
	"fmt"

	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
)

// Access says which API server is used, and as whom.
type Access struct {
	// Kubeconfig is the path of a file; empty for the account of the pod that RAUTA runs in.
	Kubeconfig string
	// Context is one of the file's; empty for its current one.
	Context string
	// UserAgent is what the API server's audit log calls RAUTA.
	UserAgent string
	// QPS and Burst bound the requests per second of each client made from the configuration; 0 for the library's.
	QPS   float32
	Burst int
}

// errNoCluster ends a start outside a cluster that says of no other way to find objects.
var errNoCluster = errors.New("this is not a pod of a cluster: give --config PATH for files, or --kubeconfig FILE for a cluster")

// Config returns how to reach the API server. It asks nobody: whether the server is there shows later.
func (a *Access) Config() (*rest.Config, error) {
	cfg, err := a.load()
	if err != nil {
		return nil, err
	}
	cfg.UserAgent, cfg.QPS, cfg.Burst = a.UserAgent, a.QPS, a.Burst
	return cfg, nil
}

func (a *Access) load() (*rest.Config, error) {
	if a.Kubeconfig == "" {
		cfg, err := rest.InClusterConfig()
		if errors.Is(err, rest.ErrNotInCluster) {
			return nil, errNoCluster
		}
		if err != nil {
			return nil, fmt.Errorf("read the service account of the pod: %w", err)
		}
		return cfg, nil
	}
	rules := &clientcmd.ClientConfigLoadingRules{ExplicitPath: a.Kubeconfig}
	cfg, err := clientcmd.NewNonInteractiveDeferredLoadingClientConfig(rules, &clientcmd.ConfigOverrides{CurrentContext: a.Context}).ClientConfig()
	if err != nil {
		return nil, fmt.Errorf("read kubeconfig %s: %w", a.Kubeconfig, err)
	}
	return cfg, nil
}

// ParseSelector reads labels that namespaces must have.
func ParseSelector(text string) (labels.Selector, error) { return labels.Parse(text) }
