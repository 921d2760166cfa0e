package status

import (
	"context"
	"encoding/json"
	"fmt"

	eventsv1 "k8s.io/api/events/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	eventsclient "k8s.io/client-go/kubernetes/typed/events/v1"
	"k8s.io/client-go/rest"
)

// clusterEvents sends Events to an API server.
type clusterEvents struct{ client eventsclient.EventsGetter }

func newEventClient(cfg *rest.Config) (*clusterEvents, error) {
	client, err := eventsclient.NewForConfig(cfg)
	if err != nil {
		return nil, fmt.Errorf("prepare the client for events: %w", err)
	}
	return &clusterEvents{client: client}, nil
}

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
