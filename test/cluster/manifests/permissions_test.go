package manifests

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/dynamic"

	cluster "rauta.io/rauta/test/cluster"
)

// contended are objects of all kinds that RAUTA writes statuses of.
const contended = `
apiVersion: networking.k8s.io/v1
kind: Ingress
metadata: {name: contended, namespace: %[1]s}
spec:
  ingressClassName: rauta
  defaultBackend: {service: {name: not-there, port: {number: 80}}}
---
apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata: {name: contended, namespace: %[1]s}
spec:
  gatewayClassName: rauta
  allowedListeners: {namespaces: {from: Same}}
  listeners:
  - {name: http, protocol: HTTP, port: 8201}
  - {name: tls, protocol: TLS, port: 8202, tls: {mode: Passthrough}}
  - {name: tcp, protocol: TCP, port: 8203}
  - {name: udp, protocol: UDP, port: 8204}
---
apiVersion: gateway.networking.k8s.io/v1
kind: ListenerSet
metadata: {name: contended, namespace: %[1]s}
spec: {parentRef: {name: contended}, listeners: [{name: more, protocol: HTTP, port: 8205}]}
---
apiVersion: v1
kind: Service
metadata: {name: contended, namespace: %[1]s}
spec: {ports: [{name: tcp, port: 80}, {name: udp, port: 80, protocol: UDP}]}
---
apiVersion: gateway.networking.k8s.io/v1
kind: BackendTLSPolicy
metadata: {name: contended, namespace: %[1]s}
spec:
  targetRefs: [{group: "", kind: Service, name: contended}]
  validation: {hostname: x.test, caCertificateRefs: [{group: "", kind: ConfigMap, name: contended}]}
`

const contendedRoute = `
---
apiVersion: gateway.networking.k8s.io/v1
kind: %[2]s
metadata: {name: contended, namespace: %[1]s}
spec: {parentRefs: [{name: contended, sectionName: %[3]s}], rules: [{backendRefs: [{name: contended, port: 80}]}]}
`

// statusKinds are these kinds with a change that takes away what RAUTA has written.
func statusKinds() map[schema.GroupVersionResource]string {
	gateway := func(plural string) schema.GroupVersionResource {
		return schema.GroupVersionResource{Group: "gateway.networking.k8s.io", Version: "v1", Resource: plural}
	}
	out := map[schema.GroupVersionResource]string{
		{Group: "networking.k8s.io", Version: "v1", Resource: "ingresses"}: `{"status":{"loadBalancer":null}}`,
		gateway("gatewayclasses"):     `{"status":{"conditions":null}}`,
		gateway("gateways"):           `{"status":{"conditions":null,"listeners":null}}`,
		gateway("listenersets"):       `{"status":{"conditions":null,"listeners":null}}`,
		gateway("backendtlspolicies"): `{"status":{"ancestors":[]}}`,
	}
	for _, plural := range []string{"httproutes", "grpcroutes", "tlsroutes", "tcproutes", "udproutes"} {
		out[gateway(plural)] = `{"status":{"parents":[]}}`
	}
	return out
}

// contend takes statuses away and changes the objects all the time, so that RAUTA's writes meet newer versions of them.
func (w *world) contend(t *testing.T, ns string) {
	config := w.Config()
	config.QPS = -1
	client, err := dynamic.NewForConfig(config)
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	var wait sync.WaitGroup
	t.Cleanup(func() {
		stop()
		wait.Wait()
	})
	for kind, wipe := range statusKinds() {
		objects, name := client.Resource(kind).Namespace(ns), "contended"
		if kind.Resource == "gatewayclasses" {
			objects, name = client.Resource(kind), "rauta"
		}
		wait.Go(func() {
			for i := 0; ctx.Err() == nil; i++ {
				text, subresources := fmt.Sprintf(`{"metadata":{"annotations":{"example.com/contended":"%d"}}}`, i), []string(nil)
				if i%20 == 0 {
					text, subresources = wipe, []string{"status"}
				}
				if _, err := objects.Patch(ctx, name, types.MergePatchType, []byte(text), metav1.PatchOptions{}, subresources...); err != nil && ctx.Err() == nil {
					t.Errorf("%s %s: %v", kind.Resource, text, err)
					return
				}
			}
		})
	}
}

// TestZNoPermissionIsUnused comes last: it looks at what all others have made RAUTA do. What RAUTA does seldom is provoked
// here: telling a problem again after a restart, listing where the API server does not stream lists, and reading an object
// again whose status somebody else has written.
func TestZNoPermissionIsUnused(t *testing.T) {
	w := deployed(t)
	ns := w.namespace(t)
	t.Cleanup(func() {
		_ = w.Client().CoreV1().Namespaces().Delete(context.Background(), ns, metav1.DeleteOptions{})
	})
	text := fmt.Sprintf(contended, ns)
	for kind, listener := range map[string]string{"HTTPRoute": "http", "GRPCRoute": "http", "TLSRoute": "tls", "TCPRoute": "tcp", "UDPRoute": "udp"} {
		route := fmt.Sprintf(contendedRoute, ns, kind, listener)
		if kind == "TLSRoute" {
			route = strings.Replace(route, "rules:", "hostnames: [contended.example.com], rules:", 1)
		}
		text += route
	}
	w.Apply(t, text)
	cluster.Eventually(t, "an Event", func() error {
		events, err := w.Client().EventsV1().Events(ns).List(t.Context(), metav1.ListOptions{})
		if err == nil && len(events.Items) == 0 {
			err = errors.New("there is none")
		}
		return err
	})
	w.StopAPIServer()
	w.APIServerFlags = []string{"--feature-gates=WatchList=false"}
	if err := w.StartAPIServer(t.Context()); err != nil {
		t.Fatal(err)
	}
	pod := w.ready(t)
	if err := w.Client().CoreV1().Pods(system).Delete(t.Context(), pod.Name, metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	w.contend(t, ns)
	var requests []cluster.Request
	cluster.Within(t, 2*time.Minute, "all permissions to be used", func() (err error) {
		if requests, err = w.Audited(); err != nil {
			return err
		}
		return errors.Join(unused(t, manifest("base/rbac.yaml"), requests)...)
	})
	w.ready(t)

	const wider = `
---
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRole
metadata: {name: wider}
rules: [{apiGroups: [""], resources: [secrets], verbs: [get]}]
`
	if found := unused(t, manifest("base/rbac.yaml")+wider, requests); len(found) != 1 {
		t.Errorf("the test sees nothing: of a permission that nobody needs it says %v", found)
	}
}

// unused says which permissions of a role no request has needed.
func unused(t *testing.T, roles string, requests []cluster.Request) (all []error) {
	used := map[string]bool{}
	for _, r := range requests {
		resource := r.Resource
		if r.Subresource != "" {
			resource += "/" + r.Subresource
		}
		if r.Allowed {
			used[strings.Join([]string{r.Verb, r.Group, resource}, " ")] = true
		}
	}
	objects, err := cluster.Objects(roles)
	if err != nil {
		t.Fatal(err)
	}
	checked := 0
	for _, o := range objects {
		var role rbacv1.ClusterRole // a Role has the same rules
		if err := runtime.DefaultUnstructuredConverter.FromUnstructured(o.Object, &role); err != nil {
			t.Fatal(err)
		}
		for _, rule := range role.Rules {
			for _, resource := range rule.Resources {
				for _, verb := range rule.Verbs {
					checked++
					if what := strings.Join([]string{verb, rule.APIGroups[0], resource}, " "); !used[what] {
						all = append(all, fmt.Errorf("%s is permitted, and RAUTA did not do it", what))
					}
				}
			}
		}
	}
	if checked < 40 {
		t.Fatalf("only %d permissions were found", checked)
	}
	return all
}
