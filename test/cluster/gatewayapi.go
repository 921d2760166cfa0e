package cluster

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	gatewayv1 "sigs.k8s.io/gateway-api/apis/v1"
)

// Channel is one of the two sets of definitions that the Gateway API is released in.
type Channel string

// The channels. The policy that comes with them refuses to replace one by the other: start another control plane.
const (
	Standard     Channel = "standard"
	Experimental Channel = "experimental"
)

// InstallGatewayAPI installs the definitions of the Gateway API, in the version that the module of the caller needs, and waits
// until the API server serves them.
func (p *Plane) InstallGatewayAPI(ctx context.Context, channel Channel) error {
	folder, err := moduleFolder(gatewayModule)
	if err != nil {
		return err
	}
	return p.InstallDefinitions(ctx, filepath.Join(folder, "config/crd", string(channel)))
}

// gatewayModule is where the definitions are.
const gatewayModule = "sigs.k8s.io/gateway-api"

// InstallDefinitions applies a folder with CustomResourceDefinitions, and what else is there, and waits until the API server
// serves all of them.
func (p *Plane) InstallDefinitions(ctx context.Context, folder string) error {
	if err := p.ApplyFolder(ctx, folder); err != nil {
		return err
	}
	files, err := manifestsIn(folder)
	if err != nil {
		return err
	}
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			return err
		}
		objects, err := Objects(string(text))
		if err != nil {
			return fmt.Errorf("%s: %w", file, err)
		}
		for _, o := range objects {
			if o.GetKind() != "CustomResourceDefinition" {
				continue
			}
			if err := p.awaitDefinition(ctx, o); err != nil {
				return err
			}
		}
	}
	return nil
}

// awaitDefinition waits until a definition is established and its kind is served in every version that is.
func (p *Plane) awaitDefinition(ctx context.Context, definition *unstructured.Unstructured) error {
	group, _, _ := unstructured.NestedString(definition.Object, "spec", "group")
	kind, _, _ := unstructured.NestedString(definition.Object, "spec", "names", "kind")
	versions, _, err := unstructured.NestedSlice(definition.Object, "spec", "versions")
	if err != nil || group == "" || kind == "" {
		return errors.Join(err, fmt.Errorf("%s has no group, kind or versions", describe(definition)))
	}
	for _, v := range versions {
		version, ok := v.(map[string]any)
		if !ok || version["served"] != true {
			continue
		}
		name, _ := version["name"].(string)
		if err := p.AwaitKind(ctx, schema.GroupVersionKind{Group: group, Version: name, Kind: kind}); err != nil {
			return err
		}
	}
	return nil
}

// HasGatewayAPI reports whether Gateways are served.
func (p *Plane) HasGatewayAPI() bool {
	resources, err := p.clients.Discovery().ServerResourcesForGroupVersion(gatewayv1.GroupVersion.String())
	return err == nil && len(resources.APIResources) > 0
}

// UninstallGatewayAPI deletes the definitions, and with them every object of theirs.
func (p *Plane) UninstallGatewayAPI(ctx context.Context) error {
	return await(ctx, "the end of the Gateway API", p.apiServer, func(ctx context.Context) error {
		left, err := p.deleteDefinitions(ctx)
		switch {
		case err != nil:
			return err
		case len(left) > 0:
			return fmt.Errorf("still there: %s", strings.Join(left, ", "))
		case p.HasGatewayAPI():
			return errors.New("it is still served")
		}
		return nil
	})
}

// deleteDefinitions deletes every definition of the Gateway API and returns those that were there.
func (p *Plane) deleteDefinitions(ctx context.Context) (left []string, err error) {
	definitions := p.dynamic.Resource(schema.GroupVersionResource{
		Group: "apiextensions.k8s.io", Version: "v1", Resource: "customresourcedefinitions",
	})
	all, err := definitions.List(ctx, metav1.ListOptions{})
	if err != nil {
		return nil, err
	}
	for i := range all.Items {
		group, _, _ := unstructured.NestedString(all.Items[i].Object, "spec", "group")
		if !strings.HasPrefix(group, "gateway.networking.") { // also x-k8s.io
			continue
		}
		left = append(left, all.Items[i].GetName())
		if all.Items[i].GetDeletionTimestamp() != nil {
			// The API server tries again after pauses that grow to minutes, at once only when the object changes.
			poke := fmt.Appendf(nil, `{"metadata":{"annotations":{"test":"%d"}}}`, time.Now().Unix())
			_, err := definitions.Patch(ctx, all.Items[i].GetName(), types.MergePatchType, poke, metav1.PatchOptions{})
			if err != nil && !notFound(err) {
				return left, err
			}
			continue
		}
		if err := definitions.Delete(ctx, all.Items[i].GetName(), metav1.DeleteOptions{}); err != nil && !notFound(err) {
			return left, err
		}
	}
	return left, nil
}

func notFound(err error) bool { return apierrors.IsNotFound(err) }
