// Package manifests holds the tests of what deploy/ has, on a real API server: it is taken, it suffices, and RAUTA as it is
// deployed by it loses nothing whatever happens around it.
package manifests

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	cluster "rauta.io/rauta/test/cluster"
)

const (
	deployFolder = "../../../deploy"
	system       = "rauta-system"
	// account is who RAUTA is for the API server.
	account = "system:serviceaccount:" + system + ":rauta"
	// nodeName is short because paths of Unix sockets are.
	nodeName = "n"
)

func TestMain(m *testing.M) { cluster.Main(m, cluster.RAUTA()) }

// shared is a control plane with one node, on which RAUTA runs as the DaemonSet has it; it ends with the process.
var shared = sync.OnceValues(func() (*world, error) {
	p, err := cluster.New()
	if err != nil {
		return nil, err
	}
	w := &world{Plane: p}
	p.AuditUser = account
	return w, w.start(context.Background())
})

type world struct {
	*cluster.Plane
	node *cluster.Node
}

// stateKey is the Secret of the DaemonSet.
const stateKey = `
apiVersion: v1
kind: Secret
metadata: {name: rauta-state-key, namespace: rauta-system}
stringData: {key: 0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKL}
`

func (w *world) start(ctx context.Context) (err error) {
	if err = w.Start(ctx); err != nil {
		return err
	}
	if w.node, err = w.AddNode(ctx, cluster.NodeOptions{Name: nodeName, Labels: map[string]string{
		cluster.ZoneLabel: "a", "kubernetes.io/os": "linux",
	}}); err != nil {
		return err
	}
	if err := w.InstallGatewayAPI(ctx, cluster.Experimental); err != nil {
		return err
	}
	// In the order of docs/kubernetes.md: the key is an optional volume, which pods have only if it is there before them.
	if err := w.ApplyAll(ctx, manifest("base/namespace.yaml")+"---"+stateKey); err != nil {
		return err
	}
	text, err := kustomized("daemonset")
	if err != nil {
		return fmt.Errorf("build deploy/daemonset: %w", err)
	}
	// Thousands of Events are waited for.
	hurried := strings.Replace(text, "        - serve\n", "        - serve\n        - --event-qps=200\n", 1)
	if hurried == text {
		return errors.New("deploy/daemonset has no argument serve to add another one to")
	}
	return w.ApplyAll(ctx, hurried)
}

func manifest(file string) string {
	text, err := os.ReadFile(filepath.Join(deployFolder, file))
	if err != nil {
		panic(err)
	}
	return string(text)
}

// deployed returns the cluster once RAUTA is ready in it.
func deployed(t *testing.T) *world {
	t.Helper()
	w, err := shared()
	if err != nil {
		t.Fatal(err)
	}
	w.ready(t)
	t.Cleanup(func() {
		if t.Failed() {
			for _, pod := range w.pods(t, context.Background(), system) {
				log := w.node.Log(pod.UID)
				t.Logf("%s wrote at the end:\n%s", pod.Name, log[max(0, len(log)-6000):])
			}
		}
	})
	return w
}

func (w *world) pods(t *testing.T, ctx context.Context, namespace string) []corev1.Pod {
	t.Helper()
	list, err := w.Client().CoreV1().Pods(namespace).List(ctx, metav1.ListOptions{})
	if err != nil {
		t.Error(err)
		return nil
	}
	return list.Items
}

func isReady(pod *corev1.Pod) bool {
	for _, c := range pod.Status.Conditions {
		if c.Type == corev1.PodReady {
			return c.Status == corev1.ConditionTrue
		}
	}
	return false
}

// ready waits until the one pod of RAUTA is ready, and returns it.
func (w *world) ready(t *testing.T) (found corev1.Pod) {
	t.Helper()
	cluster.Eventually(t, "RAUTA to be ready", func() error {
		pods := w.pods(t, t.Context(), system)
		if len(pods) != 1 || !isReady(&pods[0]) {
			var states []string
			for _, p := range pods {
				states = append(states, fmt.Sprint(p.Name, p.Status.ContainerStatuses))
			}
			return fmt.Errorf("the pods are %s", strings.Join(states, ", "))
		}
		found = pods[0]
		return nil
	})
	return found
}

// namespace makes one for a test.
func (w *world) namespace(t *testing.T) string {
	t.Helper()
	name := strings.ToLower(t.Name())
	name = name[:min(len(name), 60)]
	w.Apply(t, fmt.Sprintf("apiVersion: v1\nkind: Namespace\nmetadata: {name: %s}", name))
	cluster.Eventually(t, "a service account", func() error {
		_, err := w.Client().CoreV1().ServiceAccounts(name).Get(t.Context(), "default", metav1.GetOptions{})
		return err
	})
	return name
}

// app is a Deployment, its Service, and a route that leads there for the host of its name.
const app = `
apiVersion: apps/v1
kind: Deployment
metadata: {name: %[2]s, namespace: %[1]s}
spec:
  replicas: %[3]d
  strategy: {rollingUpdate: {maxSurge: 1, maxUnavailable: 0}}
  selector: {matchLabels: {app: %[2]s}}
  template:
    metadata: {labels: {app: %[2]s, revision: "%[4]s"}}
    spec:
      terminationGracePeriodSeconds: 30
      containers:
      - name: app
        image: backend
        args: [-linger=3s, -version=%[2]s]
        ports: [{name: http, containerPort: 8080}]
        readinessProbe: {httpGet: {path: /ready, port: http}, periodSeconds: 1}
---
apiVersion: v1
kind: Service
metadata: {name: %[2]s, namespace: %[1]s}
spec:
  selector: {app: %[2]s}
  ports: [{name: http, port: 80, targetPort: http}]
`

const gateway = `
apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata: {name: web, namespace: %[1]s}
spec:
  gatewayClassName: rauta
  listeners: [{name: http, protocol: HTTP, port: 80}]
`

const route = `
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: web, namespace: %[1]s}
spec:
  parentRefs: [{name: web}]
  hostnames: [%[1]s.example.com]
  rules:
  - filters:
    - type: ResponseHeaderModifier
      responseHeaderModifier: {set: [{name: X-Change, value: "%[2]s"}]}
    backendRefs: %[3]s
`

func (w *world) awaitPods(t *testing.T, namespace string, n int) {
	t.Helper()
	cluster.Eventually(t, fmt.Sprint(n, " pods to be ready"), func() error {
		ready := 0
		for _, p := range w.pods(t, t.Context(), namespace) {
			if isReady(&p) && p.DeletionTimestamp == nil {
				ready++
			}
		}
		if ready != n {
			return fmt.Errorf("%d are", ready)
		}
		return nil
	})
}

// answer is what a request got.
type answer struct{ change, body string }

// ask sends one request for the host of a namespace; every answer but 200 is an error.
func ask(ctx context.Context, client *http.Client, namespace string) (answer, error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+cluster.NodeAddress+"/", nil)
	if err != nil {
		return answer{}, err
	}
	request.Host = namespace + ".example.com"
	response, err := client.Do(request)
	if err != nil {
		return answer{}, err
	}
	body, err := io.ReadAll(response.Body)
	if err = errors.Join(err, response.Body.Close()); err != nil {
		return answer{}, err
	}
	if response.StatusCode != http.StatusOK {
		return answer{}, fmt.Errorf("status %d: %s", response.StatusCode, body)
	}
	return answer{response.Header.Get("X-Change"), string(body)}, nil
}

// traffic is requests one after the other from several clients, some on connections that stay, some on new ones.
type traffic struct {
	stop   context.CancelFunc
	wait   sync.WaitGroup
	sent   atomic.Int64
	failed atomic.Int64

	mu     sync.Mutex
	errors []string
}

// clients of a traffic; a test shares the machine with everything else.
const clients = 8

// How long each client waits between two requests: with steady they send some thousands a second, and leave the API server
// and the controllers time to do what is to happen meanwhile.
const (
	full   = 0
	steady = 2 * time.Millisecond
)

func newClient(stays bool) *http.Client {
	dialer := &net.Dialer{Timeout: time.Minute}
	return &http.Client{Timeout: time.Minute, Transport: &http.Transport{DialContext: dialer.DialContext, DisableKeepAlives: !stays}}
}

// send starts traffic, full or steady; check looks at each answer, together with when its request began.
func send(t *testing.T, namespace string, pause time.Duration, check func(a answer, began time.Time) error) *traffic {
	ctx, stop := context.WithCancel(context.Background())
	f := &traffic{stop: stop}
	for i := range clients {
		f.wait.Go(func() {
			client := newClient(i%4 > 0)
			defer client.CloseIdleConnections()
			for ctx.Err() == nil {
				began := time.Now()
				a, err := ask(context.Background(), client, namespace)
				if err == nil && check != nil {
					err = check(a, began)
				}
				f.sent.Add(1)
				if err != nil {
					f.fail(began, err)
				}
				time.Sleep(pause)
			}
		})
	}
	t.Cleanup(func() {
		stop()
		f.wait.Wait()
	})
	return f
}

func (f *traffic) fail(at time.Time, err error) {
	f.failed.Add(1)
	f.mu.Lock()
	defer f.mu.Unlock()
	if len(f.errors) < 10 {
		f.errors = append(f.errors, at.UTC().Format("15:04:05.000 ")+err.Error())
	}
}

// end ends the traffic and complains about every request that failed.
func (f *traffic) end(t *testing.T) {
	t.Helper()
	f.stop()
	f.wait.Wait()
	f.mu.Lock()
	defer f.mu.Unlock()
	if n := f.failed.Load(); n > 0 {
		t.Errorf("%d of %d requests failed:\n%s", n, f.sent.Load(), strings.Join(f.errors, "\n"))
	}
	t.Logf("%d requests", f.sent.Load())
}
