package cluster

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strings"
	"sync"
	"testing"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

func TestMain(m *testing.M) { Main(m, RAUTA()) }

// shared is a control plane with a node, for all tests of the package; it ends with the process.
var shared = sync.OnceValues(func() (*Plane, error) {
	p, err := New()
	if err == nil {
		err = p.Start(context.Background())
	}
	if err == nil {
		_, err = p.AddNode(context.Background(), NodeOptions{Labels: map[string]string{ZoneLabel: "a"}})
	}
	return p, err
})

func plane(t *testing.T) *Plane {
	t.Helper()
	p, err := shared()
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// namespace makes a namespace for a test. Its Ingresses end with the test: one for all hosts would take the requests of those
// that come later.
func namespace(t *testing.T, p *Plane) string {
	t.Helper()
	name := strings.ToLower(t.Name())
	if len(name) > 60 {
		name = name[:60]
	}
	p.Apply(t, fmt.Sprintf("apiVersion: v1\nkind: Namespace\nmetadata: {name: %s}", name))
	t.Cleanup(func() {
		ingresses := p.Client().NetworkingV1().Ingresses(name)
		if err := ingresses.DeleteCollection(context.WithoutCancel(t.Context()), metav1.DeleteOptions{}, metav1.ListOptions{}); err != nil {
			t.Error(err)
		}
	})
	Eventually(t, "a service account", func() error {
		_, err := p.Client().CoreV1().ServiceAccounts(name).Get(t.Context(), "default", metav1.GetOptions{})
		return err
	})
	return name
}

const deployment = `
apiVersion: apps/v1
kind: Deployment
metadata: {name: app, namespace: %[1]s}
spec:
  replicas: %[2]d
  selector: {matchLabels: {app: app}}
  template:
    metadata: {labels: {app: app}}
    spec:
      terminationGracePeriodSeconds: 20
      containers:
      - name: app
        image: example.com/tests/backend:v1
        args: [-linger=3s]
        env:
        - {name: POD_NAMESPACE, valueFrom: {fieldRef: {fieldPath: metadata.namespace}}}
        ports: [{name: http, containerPort: 8080}]
        readinessProbe: {httpGet: {path: /ready, port: http}}
---
apiVersion: v1
kind: Service
metadata: {name: app, namespace: %[1]s}
spec:
  selector: {app: app}
  ports: [{name: http, port: 80, targetPort: http}]
`

// endpoints returns those of the Service app.
func endpoints(t *testing.T, p *Plane, namespace string) (all []discoveryv1.Endpoint) {
	t.Helper()
	slices, err := p.Client().DiscoveryV1().EndpointSlices(namespace).List(t.Context(), metav1.ListOptions{LabelSelector: "kubernetes.io/service-name=app"})
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range slices.Items {
		all = append(all, s.Endpoints...)
	}
	return all
}

func isReady(e discoveryv1.Endpoint) bool { return e.Conditions.Ready != nil && *e.Conditions.Ready }

// awaitReady waits until so many endpoints are ready, and returns them.
func awaitReady(t *testing.T, p *Plane, namespace string, n int) (ready []discoveryv1.Endpoint) {
	t.Helper()
	Eventually(t, fmt.Sprint(n, " ready endpoints"), func() error {
		ready = nil
		for _, e := range endpoints(t, p, namespace) {
			if isReady(e) {
				ready = append(ready, e)
			}
		}
		if len(ready) != n {
			return fmt.Errorf("there are %d", len(ready))
		}
		return nil
	})
	return ready
}

func TestTheWholePodNetworkIsLocal(t *testing.T) {
	for _, address := range []string{"127.0.0.1", NodeAddress, "10.244.0.9", "10.244.1.0", "10.244.254.254"} {
		l, err := net.Listen("tcp", address+":80")
		if err != nil {
			t.Error(err)
			continue
		}
		c, err := net.Dial("tcp", l.Addr().String())
		if err != nil {
			t.Error(err)
		} else {
			c.Close()
		}
		l.Close()
	}
}

func TestTheAPIServerKeepsItsObjectsWhenItWasAway(t *testing.T) {
	p := plane(t)
	name := namespace(t, p)
	p.StopAPIServer()
	if _, err := p.Client().CoreV1().Namespaces().Get(t.Context(), name, metav1.GetOptions{}); err == nil {
		t.Fatal("the API server answers although it was stopped")
	}
	if err := p.StartAPIServer(t.Context()); err != nil {
		t.Fatal(err)
	}
	if _, err := p.Client().CoreV1().Namespaces().Get(t.Context(), name, metav1.GetOptions{}); err != nil {
		t.Fatal(err)
	}
}

func TestServiceAccountsMayDoWhatRBACSays(t *testing.T) {
	p := plane(t)
	name := namespace(t, p)
	p.Apply(t, fmt.Sprintf(`
apiVersion: v1
kind: ServiceAccount
metadata: {name: reader, namespace: %[1]s}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: Role
metadata: {name: reader, namespace: %[1]s}
rules:
- {apiGroups: [""], resources: [services], verbs: [list]}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: RoleBinding
metadata: {name: reader, namespace: %[1]s}
roleRef: {apiGroup: rbac.authorization.k8s.io, kind: Role, name: reader}
subjects: [{kind: ServiceAccount, name: reader, namespace: %[1]s}]
`, name))
	reader, err := clientOf(p.KubeconfigOf(t, name, "reader"))
	if err != nil {
		t.Fatal(err)
	}
	Eventually(t, "listing services", func() error { // the authorizer learns of the role a moment later
		_, err := reader.CoreV1().Services(name).List(t.Context(), metav1.ListOptions{})
		return err
	})
	if _, err := reader.CoreV1().Secrets(name).List(t.Context(), metav1.ListOptions{}); err == nil {
		t.Error("secrets can be listed without permission")
	}
}

func TestADryRunNamesEveryErrorAndChangesNothing(t *testing.T) {
	p := plane(t)
	err := p.DryRun(t.Context(), `
apiVersion: v1
kind: ConfigMap
metadata: {name: good}
---
apiVersion: v1
kind: Service
metadata: {name: bad-port}
spec: {ports: [{port: 70000}]}
---
apiVersion: v1
kind: Service
metadata: {name: bad_name}
spec: {ports: [{port: 80}]}
`)
	if err == nil || !strings.Contains(err.Error(), "70000") || !strings.Contains(err.Error(), "bad_name") {
		t.Errorf("the errors are %v", err)
	}
	if _, err := p.Client().CoreV1().ConfigMaps("default").Get(t.Context(), "good", metav1.GetOptions{}); !notFound(err) {
		t.Errorf("the object was made: %v", err)
	}
}

func TestTheGatewayAPIComesAndGoes(t *testing.T) {
	p := plane(t)
	if p.HasGatewayAPI() {
		t.Fatal("it is there before it was installed")
	}
	if err := p.InstallGatewayAPI(t.Context(), Standard); err != nil {
		t.Fatal(err)
	}
	p.Apply(t, "apiVersion: gateway.networking.k8s.io/v1\nkind: GatewayClass\nmetadata: {name: c}\nspec: {controllerName: example.com/c}")
	if err := p.UninstallGatewayAPI(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := p.ApplyAll(t.Context(), "apiVersion: gateway.networking.k8s.io/v1\nkind: GatewayClass\nmetadata: {name: d}"); err == nil {
		t.Error("a GatewayClass could be made without its definition")
	}
}

// eventuallyGone waits until a pod is not there any more.
func eventuallyGone(t *testing.T, p *Plane, pod *corev1.Pod) {
	t.Helper()
	Eventually(t, "the end of "+pod.Name, func() error {
		_, err := p.Client().CoreV1().Pods(pod.Namespace).Get(t.Context(), pod.Name, metav1.GetOptions{})
		if notFound(err) {
			return nil
		}
		return errors.Join(err, errors.New("it is still there"))
	})
}
