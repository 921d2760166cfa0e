package cluster

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	yamlreader "k8s.io/apimachinery/pkg/util/yaml"
	"k8s.io/client-go/dynamic"
	"sigs.k8s.io/yaml"
)

// fieldManager is who tests are in server-side apply.
const fieldManager = "rauta-test"

// Apply applies manifests, in their order, by server-side apply.
func (p *Plane) Apply(t testing.TB, manifests string) {
	t.Helper()
	if err := p.ApplyAll(t.Context(), manifests); err != nil {
		t.Fatal(err)
	}
}

// ApplyAll is Apply outside of a test.
func (p *Plane) ApplyAll(ctx context.Context, manifests string) error {
	objects, err := Objects(manifests)
	if err != nil {
		return err
	}
	for _, o := range objects {
		if err := p.apply(ctx, o, false); err != nil {
			return err
		}
	}
	return nil
}

// DryRun has the API server check manifests, admission and defaults included, and returns every error. Nothing changes, so
// that an object in a namespace of the same manifests is refused.
func (p *Plane) DryRun(ctx context.Context, manifests string) error {
	objects, err := Objects(manifests)
	for _, o := range objects {
		err = errors.Join(err, p.apply(ctx, o, true))
	}
	return err
}

// manifestsIn returns the YAML files of a folder, in the order of their names, without what is for kustomize.
func manifestsIn(folder string) ([]string, error) {
	files, err := filepath.Glob(filepath.Join(folder, "*.yaml"))
	files = slices.DeleteFunc(files, func(file string) bool { return filepath.Base(file) == "kustomization.yaml" })
	if err == nil && len(files) == 0 {
		err = fmt.Errorf("%s has no YAML files", folder)
	}
	return files, err
}

// ApplyFolder applies every YAML file of a folder, not of folders below it, in the order of their names.
func (p *Plane) ApplyFolder(ctx context.Context, folder string) error {
	files, err := manifestsIn(folder)
	if err != nil {
		return err
	}
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err == nil {
			err = p.ApplyAll(ctx, string(text))
		}
		if err != nil {
			return fmt.Errorf("apply %s: %w", file, err)
		}
	}
	return nil
}

// Delete deletes the objects of manifests, the last one first. What is gone already is no error.
func (p *Plane) Delete(t testing.TB, manifests string) {
	t.Helper()
	objects, err := Objects(manifests)
	if err != nil {
		t.Fatal(err)
	}
	for i := len(objects) - 1; i >= 0; i-- {
		resource, err := p.resourceOf(objects[i])
		if err == nil {
			err = resource.Delete(t.Context(), objects[i].GetName(), metav1.DeleteOptions{})
		}
		if err != nil && !notFound(err) {
			t.Fatalf("delete %s: %v", describe(objects[i]), err)
		}
	}
}

// Objects splits manifests into objects.
func Objects(manifests string) ([]*unstructured.Unstructured, error) {
	var objects []*unstructured.Unstructured
	documents := yamlreader.NewYAMLReader(bufio.NewReader(strings.NewReader(manifests)))
	for {
		document, err := documents.Read()
		if errors.Is(err, io.EOF) {
			return objects, nil
		}
		if err != nil {
			return nil, err
		}
		o := &unstructured.Unstructured{}
		if err := yaml.Unmarshal(document, &o.Object); err != nil {
			return nil, fmt.Errorf("%w in\n%s", err, bytes.TrimSpace(document))
		}
		if len(o.Object) > 0 { // more than comments
			objects = append(objects, o)
		}
	}
}

func (p *Plane) apply(ctx context.Context, o *unstructured.Unstructured, dry bool) error {
	resource, err := p.resourceOf(o)
	if err != nil {
		return err
	}
	options := metav1.ApplyOptions{FieldManager: fieldManager, Force: true}
	if dry {
		options.DryRun = []string{metav1.DryRunAll}
	}
	if _, err := resource.Apply(ctx, o.GetName(), o, options); err != nil {
		return fmt.Errorf("apply %s: %w", describe(o), err)
	}
	return nil
}

// resourceOf returns the client for an object, in the namespace default where it has to have one and names none.
func (p *Plane) resourceOf(o *unstructured.Unstructured) (dynamic.ResourceInterface, error) {
	kind := o.GroupVersionKind()
	mapping, err := p.mapper.RESTMapping(kind.GroupKind(), kind.Version)
	if meta.IsNoMatchError(err) { // a kind that is new
		p.mapper.Reset()
		mapping, err = p.mapper.RESTMapping(kind.GroupKind(), kind.Version)
	}
	if err != nil {
		return nil, fmt.Errorf("%s: %w", describe(o), err)
	}
	resource := p.dynamic.Resource(mapping.Resource)
	if mapping.Scope.Name() != meta.RESTScopeNameNamespace {
		return resource, nil
	}
	if o.GetNamespace() == "" {
		o.SetNamespace("default")
	}
	return resource.Namespace(o.GetNamespace()), nil
}

func describe(o *unstructured.Unstructured) string {
	return strings.TrimPrefix(fmt.Sprintf("%s %s/%s", o.GetKind(), o.GetNamespace(), o.GetName()), "/")
}

// AwaitKind waits until the API server serves a kind, which it does a moment after its CustomResourceDefinition is there.
func (p *Plane) AwaitKind(ctx context.Context, kind schema.GroupVersionKind) error {
	return await(ctx, fmt.Sprintf("%s in %s", kind.Kind, kind.GroupVersion()), p.apiServer, func(context.Context) error {
		resources, err := p.clients.Discovery().ServerResourcesForGroupVersion(kind.GroupVersion().String())
		if err != nil {
			return err
		}
		for _, r := range resources.APIResources {
			if r.Kind == kind.Kind {
				p.mapper.Reset()
				return nil
			}
		}
		return errors.New("it is not served yet")
	})
}
