package cluster

import (
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
)

const moreListeners = `
---
apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata: {name: web, namespace: %[1]s}
spec:
  gatewayClassName: rauta
  allowedListeners: {namespaces: {from: Same}}
  listeners: [{name: http, port: 8085, protocol: HTTP}]
---
apiVersion: gateway.networking.k8s.io/v1
kind: ListenerSet
metadata: {name: more, namespace: %[1]s}
spec: {parentRef: {name: web}, listeners: [{name: more, protocol: HTTP, port: 8088}]}
---
apiVersion: gateway.networking.k8s.io/v1
kind: BackendTLSPolicy
metadata: {name: verified, namespace: %[1]s}
spec:
  targetRefs: [{group: "", kind: Service, name: app}]
  validation: {hostname: x.test, caCertificateRefs: [{group: "", kind: ConfigMap, name: not-there}]}
`

// told is what a status says to whoever reads it: addresses, conditions that are True or False, listeners, parents and
// ancestors. Nothing is left of it when nobody is responsible for the object.
func told(t *testing.T, p *Plane, group, plural, namespace, name string) string {
	t.Helper()
	o, err := p.Dynamic().Resource(schema.GroupVersionResource{Group: group, Version: "v1", Resource: plural}).Namespace(namespace).Get(t.Context(), name, metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	text, err := json.Marshal(o.Object["status"])
	if err != nil {
		t.Fatal(err)
	}
	var status struct {
		Addresses, Listeners, Parents, Ancestors []any
		Conditions                               []metav1.Condition
		LoadBalancer                             struct{ Ingress []any }
	}
	if err := json.Unmarshal(text, &status); err != nil && string(text) != "null" {
		t.Fatal(err)
	}
	says := len(status.Addresses)+len(status.Listeners)+len(status.Parents)+len(status.Ancestors)+len(status.LoadBalancer.Ingress) > 0
	for _, c := range status.Conditions {
		says = says || c.Status != metav1.ConditionUnknown
	}
	if !says {
		return ""
	}
	return string(text)
}

// TestWhoDeletesTheClassesGetsBackWhatRAUTAHasWritten is the way in which docs/kubernetes.md has RAUTA removed.
func TestWhoDeletesTheClassesGetsBackWhatRAUTAHasWritten(t *testing.T) {
	p := plane(t)
	kubeconfig := permitted(t, p)
	ns := namespace(t, p)
	const gatewayGroup = "gateway.networking.k8s.io"
	objects := []struct{ group, plural, name string }{
		{gatewayGroup, "gateways", "web"}, {gatewayGroup, "listenersets", "more"}, {gatewayGroup, "httproutes", "web"},
		{gatewayGroup, "backendtlspolicies", "verified"}, {"networking.k8s.io", "ingresses", "old"},
	}
	p.Apply(t, fmt.Sprintf(served, ns)+fmt.Sprintf(plainRoute, ns, "web", "app")+fmt.Sprintf(moreListeners, ns))
	defer alone(t, kubeconfig, "--http-port=8086", "--watch-namespace="+ns, "--publish-address=198.51.100.4")()
	Eventually(t, "statuses", func() (missing error) {
		for _, o := range objects {
			if told(t, p, o.group, o.plural, ns, o.name) == "" {
				missing = errors.Join(missing, fmt.Errorf("%s %s says nothing", o.plural, o.name))
			}
		}
		return missing
	})

	p.Delete(t, shipped(t, "base/classes.yaml"))
	Eventually(t, "what RAUTA has written to be gone", func() (left error) {
		for _, o := range objects {
			if text := told(t, p, o.group, o.plural, ns, o.name); text != "" {
				left = errors.Join(left, fmt.Errorf("%s %s says %s", o.plural, o.name, text))
			}
		}
		return left
	})
	Eventually(t, "the listeners to be closed", func() error {
		for _, port := range []string{"8085", "8086", "8088"} {
			if c, err := net.Dial("tcp", NodeAddress+":"+port); err == nil {
				c.Close()
				return fmt.Errorf("port %s is open", port)
			}
		}
		return nil
	})
}
