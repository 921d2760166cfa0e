package cluster

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/clientcmd"
)

func clientOf(kubeconfig string) (kubernetes.Interface, error) {
	config, err := clientcmd.BuildConfigFromFlags("", kubeconfig)
	if err != nil {
		return nil, err
	}
	return kubernetes.NewForConfig(config)
}

// ask sends a request to a pod, on a connection of its own, and returns which pod answered.
func ask(address string) (pod string, err error) {
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}, Timeout: patience}
	answer, err := client.Get("http://" + address + ":8080/")
	if err != nil {
		return "", err
	}
	defer answer.Body.Close()
	var body struct{ Pod string }
	return body.Pod, json.NewDecoder(answer.Body).Decode(&body)
}

func TestPodsOfADeploymentAreEndpointsThatAnswer(t *testing.T) {
	p := plane(t)
	ns := namespace(t, p)
	p.Apply(t, fmt.Sprintf(deployment, ns, 3))
	pods := map[string]bool{}
	for _, e := range awaitReady(t, p, ns, 3) {
		pod, err := ask(e.Addresses[0])
		if err != nil {
			t.Fatal(err)
		}
		if pod != e.TargetRef.Name {
			t.Errorf("%s is pod %s, not %s", e.Addresses[0], pod, e.TargetRef.Name)
		}
		if *e.NodeName != "node" || e.Zone == nil || *e.Zone != "a" {
			t.Errorf("the endpoint is on node %s in zone %v", *e.NodeName, e.Zone)
		}
		pods[pod] = true
	}
	if len(pods) != 3 {
		t.Errorf("the endpoints are the pods %v", pods)
	}
}

func TestAPodThatEndsIsTerminatingAndServesForAWhile(t *testing.T) {
	p := plane(t)
	ns := namespace(t, p)
	p.Apply(t, fmt.Sprintf(deployment, ns, 1))
	old := awaitReady(t, p, ns, 1)[0]
	pod, err := p.Client().CoreV1().Pods(ns).Get(t.Context(), old.TargetRef.Name, metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if err := p.Client().CoreV1().Pods(ns).Delete(t.Context(), pod.Name, metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	Eventually(t, "a terminating endpoint", func() error {
		for _, e := range endpoints(t, p, ns) {
			c := e.Conditions
			if e.TargetRef.UID == pod.UID && *c.Terminating && *c.Serving && !*c.Ready {
				return nil
			}
		}
		return fmt.Errorf("the endpoints are %v", endpoints(t, p, ns))
	})
	if _, err := ask(old.Addresses[0]); err != nil {
		t.Errorf("it does not serve any more: %v", err)
	}
	eventuallyGone(t, p, pod)
	if _, err := ask(old.Addresses[0]); err == nil {
		t.Error("it still runs although its object is gone")
	}
	if next := awaitReady(t, p, ns, 1)[0]; next.Addresses[0] == old.Addresses[0] {
		t.Error("the next pod has the same address")
	}
}

func TestAKilledPodIsNotReadyUntilItHasBeenStartedAgain(t *testing.T) {
	p := plane(t)
	n := p.StartNode(t, NodeOptions{Name: "second", Address: "10.244.0.2"})
	ns := namespace(t, p)
	p.Apply(t, strings.Replace(fmt.Sprintf(deployment, ns, 1), "containers:", "nodeSelector: {kubernetes.io/hostname: second}\n      containers:", 1))
	e := awaitReady(t, p, ns, 1)[0]
	if !n.Kill(e.TargetRef.UID) {
		t.Fatal("the pod does not run on the node")
	}
	Eventually(t, "no ready endpoint", func() error {
		if pod := podOf(t, p, ns); readyCondition(pod) {
			return errors.New("the pod is ready")
		}
		return nil
	})
	awaitReady(t, p, ns, 1)
	if pod := podOf(t, p, ns); pod.Status.ContainerStatuses[0].RestartCount != 1 || pod.UID != e.TargetRef.UID {
		t.Errorf("the pod has been started again %d times", pod.Status.ContainerStatuses[0].RestartCount)
	}
	if n.Kill(types.UID("other")) {
		t.Error("a pod that is not there could be killed")
	}
}

func TestTheLogOfAPodCanBeReadThroughTheAPI(t *testing.T) {
	p := plane(t)
	ns := namespace(t, p)
	p.Apply(t, fmt.Sprintf(`
apiVersion: v1
kind: Pod
metadata: {name: app, namespace: %s, labels: {app: app}}
spec: {containers: [{name: app, image: backend, args: [-no-such-flag]}]}
`, ns))
	read := func(container string) (string, error) {
		text, err := p.Client().CoreV1().Pods(ns).GetLogs("app", &corev1.PodLogOptions{Container: container}).DoRaw(t.Context())
		return string(text), err
	}
	Eventually(t, "the complaint of the program", func() error {
		text, err := read("app")
		if err == nil && !strings.Contains(text, "no-such-flag") {
			err = fmt.Errorf("the log is %q", text)
		}
		return err
	})
	if text, err := read("other"); err == nil {
		t.Errorf("a container that is not there has the log %q", text)
	}
}

func podOf(t *testing.T, p *Plane, namespace string) *corev1.Pod {
	t.Helper()
	pods, err := p.Client().CoreV1().Pods(namespace).List(t.Context(), metav1.ListOptions{LabelSelector: "app=app"})
	if err != nil || len(pods.Items) != 1 {
		t.Fatalf("there are %d pods, not 1: %v", len(pods.Items), err)
	}
	return &pods.Items[0]
}

func readyCondition(pod *corev1.Pod) bool {
	for _, c := range pod.Status.Conditions {
		if c.Type == corev1.PodReady {
			return c.Status == corev1.ConditionTrue
		}
	}
	return false
}

func TestTwoPodsWithTheSamePortOfTheHostNeedTwoNodes(t *testing.T) {
	p := plane(t)
	ns := namespace(t, p)
	p.Apply(t, strings.Replace(fmt.Sprintf(deployment, ns, 2), "containers:", "hostNetwork: true\n      containers:", 1))
	first := awaitReady(t, p, ns, 1)[0]
	if first.Addresses[0] != NodeAddress {
		t.Errorf("a pod in the network of the host has the address %s", first.Addresses[0])
	}
	time.Sleep(time.Second) // long enough for a second one to come, if it could
	awaitReady(t, p, ns, 1)
	p.StartNode(t, NodeOptions{Name: "third", Address: "10.244.0.3"})
	awaitReady(t, p, ns, 2)
}

func TestACommandMaySayWhetherAPodIsReady(t *testing.T) {
	p := plane(t)
	ns := namespace(t, p)
	apply := func(name, command string) {
		p.Apply(t, fmt.Sprintf(`
apiVersion: v1
kind: Pod
metadata: {name: %s, namespace: %s}
spec:
  containers:
  - name: app
    image: backend
    readinessProbe: {exec: {command: %s}}
`, name, ns, command))
	}
	get := func(name string) *corev1.Pod {
		pod, err := p.Client().CoreV1().Pods(ns).Get(t.Context(), name, metav1.GetOptions{})
		if err != nil {
			t.Fatal(err)
		}
		return pod
	}
	apply("never", `["false"]`)
	apply("soon", `["true"]`)
	Eventually(t, "a ready pod", func() error {
		if !readyCondition(get("soon")) {
			return errors.New("it is not ready")
		}
		return nil
	})
	Eventually(t, "the other one's start", func() error {
		if get("never").Status.Phase != corev1.PodRunning {
			return errors.New("it does not run")
		}
		return nil
	})
	if readyCondition(get("never")) {
		t.Error("a pod whose probe fails is ready")
	}
}

func TestAPodHasItsCredentialsVariablesAndVolumes(t *testing.T) {
	p := plane(t)
	ns := namespace(t, p)
	p.Apply(t, fmt.Sprintf(`
apiVersion: v1
kind: ConfigMap
metadata: {name: values, namespace: %[1]s}
data: {port: "8080", version: fine}
---
apiVersion: v1
kind: Pod
metadata: {name: app, namespace: %[1]s, labels: {app: app}}
spec:
  containers:
  - name: app
    image: backend
    args: [-port=$(PORT), "-version=$(VERSION) $(NODE) $(MEMORY) $(FILE)"]
    resources: {limits: {memory: 64Mi}}
    env:
    - {name: PORT, valueFrom: {configMapKeyRef: {name: values, key: port}}}
    - {name: VERSION, valueFrom: {configMapKeyRef: {name: values, key: version}}}
    - {name: NODE, valueFrom: {fieldRef: {fieldPath: spec.nodeName}}}
    - {name: MEMORY, valueFrom: {resourceFieldRef: {resource: limits.memory, divisor: 1Mi}}}
    - {name: FILE, value: /values/version}
    volumeMounts: [{name: values, mountPath: /values}]
  volumes: [{name: values, configMap: {name: values}}]
`, ns))
	var pod *corev1.Pod
	Eventually(t, "the pod", func() error {
		if pod = podOf(t, p, ns); !readyCondition(pod) {
			return errors.New("it is not ready")
		}
		return nil
	})
	answer, err := http.Get("http://" + pod.Status.PodIP + ":8080/")
	if err != nil {
		t.Fatal(err)
	}
	answer.Body.Close()
	got := strings.Fields(answer.Header.Get("X-Version"))
	if len(got) != 4 || got[0] != "fine" || got[1] == "" || got[2] != "64" || !strings.HasSuffix(got[3], "/version") || got[3] == "/values/version" {
		t.Errorf("the variables are %q", got)
	}
}
