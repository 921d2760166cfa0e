package status

import (
	"context"
	"encoding/json"
	"fmt"

	eventsv1 "k8s.io/api/events/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"rauta.io/rauta/control/kube"
)

// clusterEvents sends Events to an API server.
type clusterEvents struct{ client *kube.Client }

func (c *clusterEvents) create(ctx context.Context, e *eventsv1.Event) error {
	ctx, cancel := context.WithTimeout(ctx, requestTimeMax)
	defer cancel()
	_, err := c.client.Events(e.Namespace).Create(ctx, e, metav1.CreateOptions{FieldManager: fieldManager})
	return err
}

func (c *clusterEvents) again(ctx context.Context, e *eventsv1.Event) error {
	ctx, cancel := context.WithTimeout(ctx, requestTimeMax)
	defer cancel()
	body, err := json.Marshal(map[string]any{"series": e.Series})
	if err != nil {
		return fmt.Errorf("write the event: %w", err)
	}
	_, err = c.client.Events(e.Namespace).Patch(ctx, e.Name, types.MergePatchType, body, metav1.PatchOptions{FieldManager: fieldManager})
	return err
}
