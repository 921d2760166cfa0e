package cluster

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"strings"
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

// TestTheDeploymentServesBehindItsLoadBalancer runs what deploy/deployment has, with one pod: pods share one network here, in
// which two of them cannot have the same port.
func TestTheDeploymentServesBehindItsLoadBalancer(t *testing.T) {
	p := plane(t)
	permitted(t, p)
	t.Cleanup(func() { _ = p.UninstallGatewayAPI(context.WithoutCancel(t.Context())) })
	p.StartNode(t, NodeOptions{Name: "balanced", Address: "10.244.0.3", Labels: map[string]string{"kubernetes.io/os": "linux", ZoneLabel: "a"}})
	ns := namespace(t, p)
	answering(t, "10.244.3.1")
	text := shipped(t, "deployment/deployment.yaml")
	one := strings.Replace(text, "replicas: 2", "replicas: 1", 1)
	if one == text {
		t.Fatal("the Deployment has not two replicas any more")
	}
	objects := one + "---\n" + shipped(t, "deployment/service.yaml")
	p.Apply(t, restricted)
	p.Apply(t, objects+"---"+fmt.Sprintf(plainIngress, ns))
	var pod *corev1.Pod
	defer func() {
		p.Delete(t, objects)
		p.Apply(t, shipped(t, "base/namespace.yaml"))
		if pod != nil {
			eventuallyGone(t, p, pod)
		}
	}()

	client := &http.Client{Timeout: time.Minute}
	Eventually(t, "the pod to be an endpoint of the Service, and to serve", func() error {
		pods, err := p.Client().CoreV1().Pods(system).List(t.Context(), metav1.ListOptions{LabelSelector: "app.kubernetes.io/name=rauta"})
		if err != nil || len(pods.Items) != 1 || !readyCondition(&pods.Items[0]) {
			return errors.Join(err, fmt.Errorf("the pods are %v", pods))
		}
		pod = &pods.Items[0]
		slices, err := p.Client().DiscoveryV1().EndpointSlices(system).List(t.Context(), metav1.ListOptions{LabelSelector: "kubernetes.io/service-name=rauta"})
		if err != nil {
			return err
		}
		for _, s := range slices.Items {
			for _, e := range s.Endpoints {
				for _, port := range s.Ports {
					if !isReady(e) || e.Addresses[0] != pod.Status.PodIP || *port.Name != "http" {
						continue
					}
					body, err := get(client, fmt.Sprintf("http://%s:%d/", e.Addresses[0], *port.Port))
					if err == nil && body != "10.244.3.1" {
						err = errors.New(body)
					}
					return err
				}
			}
		}
		return fmt.Errorf("the slices are %v", slices.Items)
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
	Eventually(t, "the PodDisruptionBudget to count the pod", func() error {
		b, err := p.Client().PolicyV1().PodDisruptionBudgets(system).Get(t.Context(), "rauta", metav1.GetOptions{})
		if err == nil && (b.Status.ExpectedPods != 1 || b.Status.CurrentHealthy != 1 || b.Status.DisruptionsAllowed != 1) {
			err = fmt.Errorf("its status is %+v", b.Status)
		}
		return err
	})
}
