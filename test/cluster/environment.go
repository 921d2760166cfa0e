package cluster

import (
	"fmt"
	"regexp"
	"strings"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// environment returns the variables of a container. POD_IP is there always: it is the address to listen on.
func (c *container) environment() ([]string, error) {
	all := []string{
		"PATH=/usr/local/bin:/usr/bin:/bin", "HOSTNAME=" + c.pod.object.Name, "POD_IP=" + c.pod.address,
		"KUBERNETES_SERVICE_HOST=" + NodeAddress, "KUBERNETES_SERVICE_PORT=" + apiServerPort,
	}
	for _, e := range c.spec.Env {
		value := expand(e.Value, all)
		if e.ValueFrom != nil {
			var err error
			if value, err = c.valueFrom(e.ValueFrom); err != nil {
				return nil, fmt.Errorf("variable %s: %w", e.Name, err)
			}
		}
		all = append(all, e.Name+"="+c.local(value))
	}
	return all, nil
}

var reference = regexp.MustCompile(`\$\(([A-Za-z_][A-Za-z0-9_]*)\)`)

// expand replaces $(NAME) by variables; what is not known stays.
func expand(text string, environment []string) string {
	return reference.ReplaceAllStringFunc(text, func(match string) string {
		name := match[2 : len(match)-1]
		for i := len(environment) - 1; i >= 0; i-- {
			if value, ok := strings.CutPrefix(environment[i], name+"="); ok {
				return value
			}
		}
		return match
	})
}

func (c *container) valueFrom(source *corev1.EnvVarSource) (string, error) {
	core := c.pod.node.plane.clients.CoreV1()
	namespace := c.pod.object.Namespace
	switch {
	case source.FieldRef != nil:
		return c.pod.field(source.FieldRef.FieldPath)
	case source.ResourceFieldRef != nil:
		return c.resource(source.ResourceFieldRef)
	case source.ConfigMapKeyRef != nil:
		o, err := core.ConfigMaps(namespace).Get(c.pod.ctx, source.ConfigMapKeyRef.Name, metav1.GetOptions{})
		if err != nil {
			return "", err
		}
		return o.Data[source.ConfigMapKeyRef.Key], nil
	case source.SecretKeyRef != nil:
		o, err := core.Secrets(namespace).Get(c.pod.ctx, source.SecretKeyRef.Name, metav1.GetOptions{})
		if err != nil {
			return "", err
		}
		return string(o.Data[source.SecretKeyRef.Key]), nil
	}
	return "", fmt.Errorf("this node cannot do %v", source)
}

// resource returns a limit or request of the container, rounded up to the divisor; 0 where there is none.
func (c *container) resource(selector *corev1.ResourceFieldSelector) (string, error) {
	kind, name, _ := strings.Cut(selector.Resource, ".")
	list := map[string]corev1.ResourceList{"limits": c.spec.Resources.Limits, "requests": c.spec.Resources.Requests}[kind]
	quantity := list[corev1.ResourceName(name)]
	divisor := selector.Divisor.MilliValue()
	if divisor == 0 {
		divisor = 1000
	}
	return fmt.Sprint((quantity.MilliValue() + divisor - 1) / divisor), nil
}

// field returns a field of the pod, as the downward API does.
func (p *pod) field(path string) (string, error) {
	o := p.object
	if name, key, ok := strings.Cut(strings.TrimSuffix(path, "']"), "['"); ok {
		values := map[string]map[string]string{"metadata.labels": o.Labels, "metadata.annotations": o.Annotations}[name]
		return values[key], nil
	}
	values := map[string]string{
		"metadata.name": o.Name, "metadata.namespace": o.Namespace, "metadata.uid": string(o.UID), "spec.nodeName": p.node.name,
		"spec.serviceAccountName": o.Spec.ServiceAccountName, "status.podIP": p.address, "status.podIPs": p.address,
		"status.hostIP": p.node.address, "status.hostIPs": p.node.address,
	}
	value, ok := values[path]
	if !ok {
		return "", fmt.Errorf("this node does not know the field %s", path)
	}
	return value, nil
}
