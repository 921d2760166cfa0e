package cluster

import (
	"context"
	"fmt"
	"os"
	"path/filepath"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// volumes makes a folder for each volume of the pod, and returns them by name. Later changes do not reach them.
func (p *pod) volumes(ctx context.Context) (map[string]string, error) {
	folders := map[string]string{}
	for _, v := range p.object.Spec.Volumes {
		folder := filepath.Join(p.folder, v.Name)
		if v.HostPath != nil {
			folder = v.HostPath.Path
		}
		folders[v.Name] = folder
		if err := os.MkdirAll(folder, 0o755); err != nil {
			return nil, err
		}
		files, err := p.content(ctx, v)
		if err != nil {
			return nil, fmt.Errorf("volume %s: %w", v.Name, err)
		}
		for name, text := range files {
			file := filepath.Join(folder, name)
			if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
				return nil, err
			}
			if err := os.WriteFile(file, text, 0o600); err != nil {
				return nil, err
			}
		}
	}
	return folders, nil
}

type files map[string][]byte

// content returns what is in a volume at its start.
func (p *pod) content(ctx context.Context, v corev1.Volume) (files, error) {
	switch {
	case v.Secret != nil:
		return p.secret(ctx, v.Secret.SecretName, v.Secret.Items, v.Secret.Optional)
	case v.ConfigMap != nil:
		return p.configMap(ctx, v.ConfigMap.Name, v.ConfigMap.Items, v.ConfigMap.Optional)
	case v.DownwardAPI != nil:
		return p.downward(v.DownwardAPI.Items)
	case v.Projected != nil:
		all := files{}
		for _, source := range v.Projected.Sources {
			some, err := p.projection(ctx, source)
			if err != nil {
				return nil, err
			}
			for name, text := range some {
				all[name] = text
			}
		}
		return all, nil
	case v.EmptyDir != nil, v.HostPath != nil:
		return nil, nil
	}
	return nil, fmt.Errorf("this node cannot mount it")
}

func (p *pod) projection(ctx context.Context, s corev1.VolumeProjection) (files, error) {
	switch {
	case s.Secret != nil:
		return p.secret(ctx, s.Secret.Name, s.Secret.Items, s.Secret.Optional)
	case s.ConfigMap != nil:
		return p.configMap(ctx, s.ConfigMap.Name, s.ConfigMap.Items, s.ConfigMap.Optional)
	case s.DownwardAPI != nil:
		return p.downward(s.DownwardAPI.Items)
	case s.ServiceAccountToken != nil:
		token, err := p.node.plane.tokenOf(ctx, p.object.Namespace, p.object.Spec.ServiceAccountName)
		return files{s.ServiceAccountToken.Path: []byte(token)}, err
	}
	return nil, fmt.Errorf("this node cannot project it")
}

func (p *pod) secret(ctx context.Context, name string, items []corev1.KeyToPath, optional *bool) (files, error) {
	o, err := p.node.plane.clients.CoreV1().Secrets(p.object.Namespace).Get(ctx, name, metav1.GetOptions{})
	if apierrors.IsNotFound(err) && optional != nil && *optional {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	return selected(o.Data, items)
}

func (p *pod) configMap(ctx context.Context, name string, items []corev1.KeyToPath, optional *bool) (files, error) {
	o, err := p.node.plane.clients.CoreV1().ConfigMaps(p.object.Namespace).Get(ctx, name, metav1.GetOptions{})
	if apierrors.IsNotFound(err) && optional != nil && *optional {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	all := files{}
	for key, text := range o.Data {
		all[key] = []byte(text)
	}
	for key, text := range o.BinaryData {
		all[key] = text
	}
	return selected(all, items)
}

// selected returns the items under their paths, or everything where none are named.
func selected(all files, items []corev1.KeyToPath) (files, error) {
	if len(items) == 0 {
		return all, nil
	}
	some := files{}
	for _, item := range items {
		text, ok := all[item.Key]
		if !ok {
			return nil, fmt.Errorf("there is no key %s", item.Key)
		}
		some[item.Path] = text
	}
	return some, nil
}

func (p *pod) downward(items []corev1.DownwardAPIVolumeFile) (files, error) {
	all := files{}
	for _, item := range items {
		if item.FieldRef == nil {
			return nil, fmt.Errorf("this node cannot tell %s", item.Path)
		}
		text, err := p.field(item.FieldRef.FieldPath)
		if err != nil {
			return nil, err
		}
		all[item.Path] = []byte(text)
	}
	return all, nil
}

func gone(err error) bool { return apierrors.IsNotFound(err) || apierrors.IsConflict(err) }
