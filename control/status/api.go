package status

import (
	"context"
	"encoding/json"
	"fmt"
	"sync"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/discovery"
	"k8s.io/client-go/discovery/cached/memory"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/restmapper"
)

// fieldManager is who the API server says has written.
const fieldManager = "rauta"

// requestTimeMax bounds each request to the API server: one that hangs must not keep a worker for longer.
const requestTimeMax = 30 * time.Second

// live is what the API server has of an object, as far as writing its status needs it.
type live struct {
	uid        types.UID
	version    string
	generation int64
	status     json.RawMessage
}

// api is the API server.
type api interface {
	get(ctx context.Context, o id) (live, error)
	// patch changes the fields of an object's status that are given, if the object still has the version.
	patch(ctx context.Context, o id, version string, status map[string]any) error
}

// cluster is an API server behind the dynamic client: which version of a kind is served shows at run time, and fields that
// this program does not know survive.
type cluster struct {
	client dynamic.Interface
	mapper meta.ResettableRESTMapper

	mu    sync.Mutex
	reset time.Time // when what is known of the served versions was last forgotten
}

func newCluster(cfg *rest.Config) (*cluster, error) {
	client, err := dynamic.NewForConfig(cfg)
	if err != nil {
		return nil, fmt.Errorf("prepare the client for statuses: %w", err)
	}
	versions, err := discovery.NewDiscoveryClientForConfig(cfg)
	if err != nil {
		return nil, fmt.Errorf("prepare the client for API versions: %w", err)
	}
	return &cluster{client: client, mapper: restmapper.NewDeferredDiscoveryRESTMapper(memory.NewMemCacheClient(versions))}, nil
}

func (c *cluster) resource(o id) (dynamic.ResourceInterface, error) {
	kind := schema.GroupKind{Group: groupOf(o.Kind), Kind: o.Kind}
	mapping, err := c.mapper.RESTMapping(kind)
	if meta.IsNoMatchError(err) { // its definition may have been made since
		c.forget(kindsAfter)
		mapping, err = c.mapper.RESTMapping(kind)
	}
	if err != nil {
		return nil, fmt.Errorf("find the API version of %s: %w", o.Kind, err)
	}
	if mapping.Scope.Name() == meta.RESTScopeNameNamespace {
		return c.client.Resource(mapping.Resource).Namespace(o.Namespace), nil
	}
	return c.client.Resource(mapping.Resource), nil
}

func (c *cluster) get(ctx context.Context, o id) (live, error) {
	ctx, cancel := context.WithTimeout(ctx, requestTimeMax)
	defer cancel()
	r, err := c.resource(o)
	if err != nil {
		return live{}, err
	}
	object, err := r.Get(ctx, o.Name, metav1.GetOptions{})
	if err != nil {
		c.lookAgain(err)
		return live{}, err
	}
	return liveOf(object)
}

func liveOf(object *unstructured.Unstructured) (live, error) {
	out := live{uid: object.GetUID(), version: object.GetResourceVersion(), generation: object.GetGeneration()}
	if status, ok := object.Object["status"]; ok {
		text, err := json.Marshal(status)
		if err != nil {
			return live{}, fmt.Errorf("read the status: %w", err)
		}
		out.status = text
	}
	return out, nil
}

func (c *cluster) patch(ctx context.Context, o id, version string, status map[string]any) error {
	ctx, cancel := context.WithTimeout(ctx, requestTimeMax)
	defer cancel()
	r, err := c.resource(o)
	if err != nil {
		return err
	}
	body, err := json.Marshal(map[string]any{"metadata": map[string]any{"resourceVersion": version}, "status": status})
	if err != nil {
		return fmt.Errorf("write the status: %w", err)
	}
	_, err = r.Patch(ctx, o.Name, types.MergePatchType, body, metav1.PatchOptions{FieldManager: fieldManager}, "status")
	c.lookAgain(err)
	return err
}

// What is known of the served versions is looked up again after kindsAfter at most where a kind is not known, and after
// versionsAfter where an object is not found: most of those have only been deleted.
const (
	kindsAfter    = 5 * time.Second
	versionsAfter = time.Minute
)

// lookAgain: what is not found may be a version that is not served any more.
func (c *cluster) lookAgain(err error) {
	if apierrors.IsNotFound(err) {
		c.forget(versionsAfter)
	}
}

// forget makes the served versions be looked up again if that has not happened for some time.
func (c *cluster) forget(after time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if now := time.Now(); now.Sub(c.reset) > after {
		c.reset = now
		c.mapper.Reset()
	}
}
