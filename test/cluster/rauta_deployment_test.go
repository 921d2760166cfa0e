package cluster

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
)

// restricted is the namespace as deploy/deployment has it.
const restricted = `
apiVersion: v1
kind: Namespace
metadata: {name: rauta-system, labels: {app.kubernetes.io/name: rauta, pod-security.kubernetes.io/enforce: restricted}}
`

// shipped returns a file of deploy.
func shipped(t *testing.T, file string) string {
	t.Helper()
	text, err := os.ReadFile("../../deploy/" + file)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// balancer plays the load balancer of a Service: it knows the endpoints that were ready a while ago, and gives each new
// connection to one of them.
type balancer struct {
	endpoints atomic.Pointer[[]string]
}

// balancerLag is how late a load balancer learns of changes: less than the --drain-delay of the manifest.
const balancerLag = 3 * time.Second

func (b *balancer) follow(t *testing.T, p *Plane, service string) {
	b.endpoints.Store(&[]string{})
	go func() {
		for t.Context().Err() == nil {
			if now, err := readyAddresses(t.Context(), p, service); err == nil {
				time.AfterFunc(balancerLag, func() { b.endpoints.Store(&now) })
			}
			time.Sleep(100 * time.Millisecond)
		}
	}()
}

// readyAddresses are where a Service is served by its port http.
func readyAddresses(ctx context.Context, p *Plane, service string) (all []string, err error) {
	list, err := p.Client().DiscoveryV1().EndpointSlices(system).List(ctx, metav1.ListOptions{LabelSelector: "kubernetes.io/service-name=" + service})
	if err != nil {
		return nil, err
	}
	for _, s := range list.Items {
		for _, port := range s.Ports {
			for _, e := range s.Endpoints {
				if *port.Name == "http" && isReady(e) {
					all = append(all, fmt.Sprintf("%s:%d", e.Addresses[0], *port.Port))
				}
			}
		}
	}
	return all, nil
}

func (b *balancer) dial(ctx context.Context, network, _ string) (net.Conn, error) {
	all := *b.endpoints.Load()
	if len(all) == 0 {
		return nil, errors.New("no endpoint is ready")
	}
	return new(net.Dialer).DialContext(ctx, network, all[rand.IntN(len(all))])
}

// traffic is requests from several clients through the balancer, half of them on connections that stay.
func (b *balancer) traffic(t *testing.T) (sent *atomic.Int64, end func()) {
	ctx, stop := context.WithCancel(context.Background())
	sent = new(atomic.Int64)
	var wait sync.WaitGroup
	for i := range 6 {
		wait.Go(func() {
			client := &http.Client{Timeout: time.Minute, Transport: &http.Transport{DialContext: b.dial, DisableKeepAlives: i%2 == 0}}
			defer client.CloseIdleConnections()
			for ctx.Err() == nil {
				if body, err := get(client, "http://balanced.example.com/"); err != nil || body != "10.244.3.1" {
					t.Errorf("request %d: %q, %v", sent.Load(), body, err)
					return
				}
				sent.Add(1)
				time.Sleep(2 * time.Millisecond) // the machine is shared
			}
		})
	}
	return sent, func() {
		stop()
		wait.Wait()
	}
}

// rautaPods are those of the Deployment that have not been told to end.
func rautaPods(t *testing.T, p *Plane) (staying, ending []corev1.Pod) {
	t.Helper()
	pods, err := p.Client().CoreV1().Pods(system).List(t.Context(), metav1.ListOptions{LabelSelector: "app.kubernetes.io/name=rauta"})
	if err != nil {
		t.Fatal(err)
	}
	for _, pod := range pods.Items {
		if pod.DeletionTimestamp == nil {
			staying = append(staying, pod)
		} else {
			ending = append(ending, pod)
		}
	}
	return staying, ending
}

// TestTheDeploymentServesBehindItsLoadBalancer runs what deploy/deployment has. Pods share one network here, so each listens
// on its own address alone.
func TestTheDeploymentServesBehindItsLoadBalancer(t *testing.T) {
	p := plane(t)
	permitted(t, p)
	node := p.StartNode(t, NodeOptions{Name: "balanced", Address: "10.244.0.3", Labels: map[string]string{"kubernetes.io/os": "linux", ZoneLabel: "a"}})
	ns := namespace(t, p)
	answering(t, "10.244.3.1")
	text := shipped(t, "deployment/deployment.yaml")
	apart := strings.Replace(text, "--metrics=:9091\n", "--metrics=$(POD_IP):9091\n        - --bind=$(POD_IP)\n        - --admin=off\n", 1)
	if apart == text || !strings.Contains(text, "replicas: 2") {
		t.Fatal("the Deployment is not what this test knows")
	}
	objects := apart + "---\n" + shipped(t, "deployment/service.yaml")
	p.Apply(t, restricted)
	p.Apply(t, objects+"---"+fmt.Sprintf(plainIngress, ns))
	defer func() {
		staying, ending := rautaPods(t, p)
		p.Delete(t, objects)
		p.Apply(t, shipped(t, "base/namespace.yaml"))
		for _, pod := range append(staying, ending...) {
			eventuallyGone(t, p, &pod)
		}
	}()

	client := &http.Client{Timeout: time.Minute, Transport: &http.Transport{DisableKeepAlives: true}}
	Eventually(t, "both pods to be endpoints of the Service, and to serve", func() error {
		all, err := readyAddresses(t.Context(), p, "rauta")
		if err != nil || len(all) != 2 {
			return errors.Join(err, fmt.Errorf("the endpoints are %v", all))
		}
		for _, address := range all {
			if body, err := get(client, "http://"+address+"/"); err != nil || body != "10.244.3.1" {
				return errors.Join(err, fmt.Errorf("%s answers %q", address, body))
			}
		}
		return nil
	})
	for _, address := range []string{"203.0.113.9", "203.0.113.10"} { // the load balancer gets one, and later another one
		status := fmt.Appendf(nil, `{"status":{"loadBalancer":{"ingress":[{"ip":%q}]}}}`, address)
		if _, err := p.Client().CoreV1().Services(system).Patch(t.Context(), "rauta", types.MergePatchType, status, metav1.PatchOptions{}, "status"); err != nil {
			t.Fatal(err)
		}
		Eventually(t, "the address of the load balancer", func() error {
			i, err := p.Client().NetworkingV1().Ingresses(ns).Get(t.Context(), "old", metav1.GetOptions{})
			if err == nil && (len(i.Status.LoadBalancer.Ingress) != 1 || i.Status.LoadBalancer.Ingress[0].IP != address) {
				err = fmt.Errorf("the status is %+v", i.Status)
			}
			return err
		})
	}
	Eventually(t, "the PodDisruptionBudget to count the pods", func() error {
		b, err := p.Client().PolicyV1().PodDisruptionBudgets(system).Get(t.Context(), "rauta", metav1.GetOptions{})
		if err == nil && (b.Status.ExpectedPods != 2 || b.Status.CurrentHealthy != 2 || b.Status.DisruptionsAllowed != 1) {
			err = fmt.Errorf("its status is %+v", b.Status)
		}
		return err
	})
	updateTheDeployment(t, p, node)
}

// updateTheDeployment replaces both pods while requests come through the load balancer: none fails, and each old pod ends by
// itself, within the time that the manifest gives it.
func updateTheDeployment(t *testing.T, p *Plane, node *Node) {
	t.Helper()
	var b balancer
	b.follow(t, p, "rauta")
	Eventually(t, "the load balancer to know both pods", func() error {
		if n := len(*b.endpoints.Load()); n != 2 {
			return fmt.Errorf("it knows %d", n)
		}
		return nil
	})
	old, _ := rautaPods(t, p)
	sent, end := b.traffic(t)
	defer end()
	patch := []byte(`{"spec":{"template":{"metadata":{"annotations":{"example.com/update":"1"}}}}}`)
	if _, err := p.Client().AppsV1().Deployments(system).Patch(t.Context(), "rauta", types.StrategicMergePatchType, patch, metav1.PatchOptions{}); err != nil {
		t.Fatal(err)
	}
	Eventually(t, "two new pods and the end of the old ones", func() error {
		staying, ending := rautaPods(t, p)
		known := func(pod corev1.Pod) bool {
			return slices.ContainsFunc(old, func(o corev1.Pod) bool { return o.UID == pod.UID }) || !readyCondition(&pod)
		}
		if len(staying) != 2 || len(ending) > 0 || slices.ContainsFunc(staying, known) {
			return fmt.Errorf("%d stay, %d end", len(staying), len(ending))
		}
		return nil
	})
	before := sent.Load()
	Eventually(t, "requests after the update", func() error {
		if sent.Load() < before+100 && !t.Failed() {
			return io.ErrUnexpectedEOF
		}
		return nil
	})
	end()
	t.Logf("%d requests during the update", sent.Load())
	for _, pod := range old {
		log, err := os.ReadFile(node.logPath(system, pod.Name, "rauta"))
		if err != nil || !strings.Contains(string(log), "msg=stopped connections_cut_off=0") {
			t.Errorf("%s did not say that it had stopped and cut nobody off: %v\n%s", pod.Name, err, log)
		}
	}
}
