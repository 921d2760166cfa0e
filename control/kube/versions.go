package kube

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/rest"
)

// Version is one version of an API group.
type Version struct {
	Name string
	// Kinds are those that the API server has in it, without subresources.
	Kinds []metav1.APIResource
}

// Versions asks for the versions of a group, the preferred one first; none if the API server does not have the group. client
// is one of any group.
func Versions(ctx context.Context, client rest.Interface, group string) ([]Version, error) {
	var about metav1.APIGroup
	switch data, err := client.Get().AbsPath("/apis/" + group).DoRaw(ctx); {
	case apierrors.IsNotFound(err):
		return nil, nil
	case err != nil:
		return nil, err
	default:
		if err := json.Unmarshal(data, &about); err != nil {
			return nil, fmt.Errorf("read the versions of %s: %w", group, err)
		}
	}
	var out []Version
	for _, v := range about.Versions {
		var list metav1.APIResourceList
		data, err := client.Get().AbsPath("/apis/" + v.GroupVersion).DoRaw(ctx)
		if apierrors.IsNotFound(err) {
			continue
		}
		if err == nil {
			err = json.Unmarshal(data, &list)
		}
		if err != nil {
			return nil, fmt.Errorf("read the kinds of %s: %w", v.GroupVersion, err)
		}
		kinds := slices.DeleteFunc(list.APIResources, func(r metav1.APIResource) bool { return strings.Contains(r.Name, "/") })
		out = append(out, Version{Name: v.Version, Kinds: kinds})
	}
	slices.SortStableFunc(out, func(a, b Version) int {
		switch preferred := about.PreferredVersion.Version; {
		case a.Name == b.Name, a.Name != preferred && b.Name != preferred:
			return 0
		case a.Name == preferred:
			return -1
		}
		return 1
	})
	return out, nil
}
