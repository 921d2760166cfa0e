package watch

import (
	"context"
	"log/slog"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/rest"

	"rauta.io/rauta/control/kube"
	"rauta.io/rauta/control/pause"
)

// zonePause is the time between two questions for a zone that has not been answered: what depends on it works without.
const zonePause = 10 * time.Second

// Zone asks for the zone of a node, which is a label of it, until there is an answer or ctx is done. It is empty for a node
// that has none. Zones of nodes do not change, so it is asked once.
func Zone(ctx context.Context, cfg *rest.Config, node string, log *slog.Logger) (string, error) {
	client, err := kube.New(cfg)
	if err != nil {
		return "", err
	}
	told := false
	for {
		object, err := client.Nodes().Get(ctx, node, metav1.GetOptions{})
		if err == nil {
			return object.Labels[corev1.LabelTopologyZone], nil
		}
		if !told && (apierrors.IsForbidden(err) || apierrors.IsNotFound(err)) {
			told = true
			log.Warn("the zone of this node is not known, and Services that prefer near endpoints are served from all zones; it is asked for again",
				"node", node, "error", err, "hint", "set --zone, or allow get of nodes")
		}
		if !pause.For(ctx, zonePause) {
			return "", ctx.Err()
		}
	}
}
