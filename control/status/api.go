package status

import (
	"context"
	"encoding/json"
	"fmt"
	"sync"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/runtime/serializer"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/rest"
	gatewayv1 "sigs.k8s.io/gateway-api/apis/v1"

	"rauta.io/rauta/control/kube"
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

// cluster is an API server. Which version of a kind is served shows at run time, and objects are read and written as JSON, so
// that fields that this program does not know survive.
type cluster struct {
	client rest.Interface

	mu     sync.Mutex
	groups map[string][]kube.Version // by name, as far as they have been looked up
	reset  time.Time                 // when what is known of the served versions was last forgotten
}

func newCluster(cfg *rest.Config) (*cluster, error) {
	// Of kinds that it does not know, the client needs errors only.
	connection, err := kube.Connect(cfg, serializer.NewCodecFactory(kube.Scheme(nil)).WithoutConversion())
	if err != nil {
		return nil, err
	}
	client, err := connection.Group(schema.GroupVersion(gatewayv1.GroupVersion), false)
	if err != nil {
		return nil, err
	}
	return &cluster{client: client, groups: map[string][]kube.Version{}}, nil
}

// path is where a kind is served.
type path struct {
	prefix, plural string
	namespaced     bool
}

// about fills in what a request is about.
func (p *path) about(r *rest.Request, o id) *rest.Request {
	return r.AbsPath(p.prefix).NamespaceIfScoped(o.Namespace, p.namespaced).Resource(p.plural).Name(o.Name)
}

func (c *cluster) path(ctx context.Context, o id) (*path, error) {
	p, err := c.find(ctx, o)
	if meta.IsNoMatchError(err) { // its definition may have been made since
		c.forget(kindsAfter)
		p, err = c.find(ctx, o)
	}
	if err != nil {
		return nil, fmt.Errorf("find the API version of %s: %w", o.Kind, err)
	}
	return p, nil
}

// find looks for a kind in the versions of its group, of which the server's order decides. Whoever needs the same group
// meanwhile waits for the answer.
func (c *cluster) find(ctx context.Context, o id) (*path, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	group := groupOf(o.Kind)
	versions, known := c.groups[group]
	if !known {
		var err error
		if versions, err = kube.Versions(ctx, c.client, group); err != nil {
			return nil, err
		}
		c.groups[group] = versions
	}
	for _, v := range versions {
		for i := range v.Kinds {
			if r := &v.Kinds[i]; r.Kind == o.Kind {
				return &path{prefix: "/apis/" + group + "/" + v.Name, plural: r.Name, namespaced: r.Namespaced}, nil
			}
		}
	}
	return nil, &meta.NoKindMatchError{GroupKind: schema.GroupKind{Group: group, Kind: o.Kind}}
}

func (c *cluster) get(ctx context.Context, o id) (live, error) {
	ctx, cancel := context.WithTimeout(ctx, requestTimeMax)
	defer cancel()
	p, err := c.path(ctx, o)
	if err != nil {
		return live{}, err
	}
	text, err := p.about(c.client.Get(), o).Do(ctx).Raw()
	if err != nil {
		c.lookAgain(err)
		return live{}, err
	}
	var object struct {
		Metadata struct {
			UID             types.UID
			ResourceVersion string
			Generation      int64
		}
		Status json.RawMessage
	}
	if err := json.Unmarshal(text, &object); err != nil {
		return live{}, fmt.Errorf("read the status: %w", err)
	}
	m := &object.Metadata
	return live{uid: m.UID, version: m.ResourceVersion, generation: m.Generation, status: object.Status}, nil
}

func (c *cluster) patch(ctx context.Context, o id, version string, status map[string]any) error {
	ctx, cancel := context.WithTimeout(ctx, requestTimeMax)
	defer cancel()
	p, err := c.path(ctx, o)
	if err != nil {
		return err
	}
	body, err := json.Marshal(map[string]any{"metadata": map[string]any{"resourceVersion": version}, "status": status})
	if err != nil {
		return fmt.Errorf("write the status: %w", err)
	}
	err = p.about(c.client.Patch(types.MergePatchType), o).SubResource("status").Param("fieldManager", fieldManager).Body(body).Do(ctx).Error()
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
		clear(c.groups)
	}
}
