package cluster

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	gatewayv1 "sigs.k8s.io/gateway-api/apis/v1"
)

const system = "rauta-system"

// permitted installs the Gateway API, which goes with the test, and what RAUTA is shipped with, and returns a kubeconfig of its
// account.
func permitted(t *testing.T, p *Plane) string {
	t.Helper()
	t.Cleanup(func() { _ = p.UninstallGatewayAPI(context.WithoutCancel(t.Context())) }) // the next test sees whether it has gone
	if err := p.InstallGatewayAPI(t.Context(), Standard); err != nil {
		t.Fatal(err)
	}
	for _, file := range []string{"namespace", "rbac", "classes"} {
		text, err := os.ReadFile("../../deploy/base/" + file + ".yaml")
		if err != nil {
			t.Fatal(err)
		}
		p.Apply(t, string(text))
	}
	return p.KubeconfigOf(t, system, "rauta")
}

// replica runs RAUTA beside others on the same addresses.
func replica(t *testing.T, kubeconfig, name, address string, flags ...string) *Process {
	return Run(t, "rauta", nil, append([]string{"serve", "--kubeconfig=" + kubeconfig, "--overlap", "--workers=1", "--admin=off", "--metrics=off",
		"--leader-election-namespace=" + system, "--leader-election-id=" + name, "--host-ips=" + address, "--drain-delay=0s", "--drain-time=1s"}, flags...)...)
}

const webGateway = `
apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata: {name: web, namespace: %[1]s}
spec:
  gatewayClassName: rauta
  listeners: [{name: http, port: 8085, protocol: HTTP}]
`

const appService = `
apiVersion: v1
kind: Service
metadata: {name: app, namespace: %[1]s}
spec: {ports: [{name: http, port: 80}]}
`

// oldIngress leads all requests to appService.
const oldIngress = `
apiVersion: networking.k8s.io/v1
kind: Ingress
metadata: {name: old, namespace: %[1]s}
spec:
  ingressClassName: rauta
  defaultBackend: {service: {name: app, port: {number: 80}}}
`

const served = webGateway + "---" + appService + "---" + oldIngress

const plainRoute = `
---
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: %[2]s, namespace: %[1]s}
spec:
  parentRefs: [{name: web}]
  rules: [{backendRefs: [{name: %[3]s, port: 80}]}]
`

// routes returns those of a namespace by name.
func routes(t *testing.T, p *Plane, namespace string) map[string]gatewayv1.HTTPRoute {
	t.Helper()
	list, err := p.Dynamic().Resource(schema.GroupVersionResource{Group: gatewayv1.GroupName, Version: "v1", Resource: "httproutes"}).
		Namespace(namespace).List(t.Context(), metav1.ListOptions{})
	if err != nil {
		t.Fatal(err)
	}
	out := map[string]gatewayv1.HTTPRoute{}
	for _, item := range list.Items {
		out[item.GetName()] = as[gatewayv1.HTTPRoute](t, &item)
	}
	return out
}

// as reads an object as one of its kind.
func as[T any](t *testing.T, o *unstructured.Unstructured) (typed T) {
	t.Helper()
	if err := runtime.DefaultUnstructuredConverter.FromUnstructured(o.Object, &typed); err != nil {
		t.Fatal(err)
	}
	return typed
}

// is reports whether a route has a condition with a status.
func is(r gatewayv1.HTTPRoute, condition string, status metav1.ConditionStatus) error {
	for _, parent := range r.Status.Parents {
		for _, c := range parent.Conditions {
			if c.Type == condition && c.Status == status && c.ObservedGeneration == r.Generation {
				return nil
			}
		}
	}
	return fmt.Errorf("%s is not %s=%s: %+v", r.Name, condition, status, r.Status.Parents)
}

// addresses are those of a Gateway and of an Ingress.
func addresses(t *testing.T, p *Plane, namespace string) string {
	t.Helper()
	g, err := p.Dynamic().Resource(schema.GroupVersionResource{Group: gatewayv1.GroupName, Version: "v1", Resource: "gateways"}).
		Namespace(namespace).Get(t.Context(), "web", metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	var all []string
	for _, a := range as[gatewayv1.Gateway](t, g).Status.Addresses {
		all = append(all, a.Value)
	}
	ingress, err := p.Client().NetworkingV1().Ingresses(namespace).Get(t.Context(), "old", metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	for _, a := range ingress.Status.LoadBalancer.Ingress {
		all = append(all, a.IP)
	}
	return strings.Join(all, " ")
}

// followTime is within which another replica writes statuses when the leader has vanished.
const followTime = 20 * time.Second

// latenessOf returns a function that says for how long the machine did not let a sleeping goroutine run when its time had come,
// all in all since the call.
func latenessOf(t *testing.T) func() time.Duration {
	const pause = 20 * time.Millisecond
	var late atomic.Int64
	stop := make(chan struct{})
	t.Cleanup(func() { close(stop) })
	go func() {
		for {
			began := time.Now()
			select {
			case <-stop:
				return
			case <-time.After(pause):
			}
			late.Add(int64(time.Since(began) - pause))
		}
	}()
	return func() time.Duration { return time.Duration(late.Load()).Round(time.Millisecond) }
}

func leader(t *testing.T, p *Plane) string {
	t.Helper()
	lease, err := p.Client().CoordinationV1().Leases(system).Get(t.Context(), "rauta", metav1.GetOptions{})
	if err != nil || lease.Spec.HolderIdentity == nil {
		return ""
	}
	return *lease.Spec.HolderIdentity
}

func TestOneReplicaWritesStatusesAndAnotherFollowsWhenItIsKilled(t *testing.T) {
	p := plane(t)
	kubeconfig := permitted(t, p)
	ns := namespace(t, p)
	p.Apply(t, fmt.Sprintf(served, ns)+fmt.Sprintf(plainRoute, ns, "first", "app"))
	replicas := map[string]*Process{"a": replica(t, kubeconfig, "a", "10.244.0.7"), "b": replica(t, kubeconfig, "b", "10.244.0.8")}
	Eventually(t, "a status", func() error {
		return errors.Join(is(routes(t, p, ns)["first"], "Accepted", metav1.ConditionTrue), is(routes(t, p, ns)["first"], "ResolvedRefs", metav1.ConditionTrue))
	})
	Eventually(t, "the addresses of both replicas", func() error {
		if got := addresses(t, p, ns); got != "10.244.0.7 10.244.0.8 10.244.0.7 10.244.0.8" {
			return fmt.Errorf("they are %q", got)
		}
		return nil
	})
	old := leader(t, p)
	if replicas[old] == nil {
		t.Fatalf("the leader is %q", old)
	}
	late := latenessOf(t)
	replicas[old].Signal(syscall.SIGKILL)
	killed := time.Now()
	p.Apply(t, fmt.Sprintf(plainRoute, ns, "second", "app"))
	Eventually(t, "a status of another leader", func() error { return is(routes(t, p, ns)["second"], "Accepted", metav1.ConditionTrue) })
	took := time.Since(killed).Round(100 * time.Millisecond)
	t.Logf("another replica has written %s after the leader was killed; what the machine was late by: %s", took, late())
	if limit := followTime + late(); took > limit {
		t.Errorf("another replica has written only %s after the leader was killed, %s is permitted", took, limit)
	}
	if now := leader(t, p); now == old || now == "" {
		t.Errorf("the leader is %q", now)
	}
}

func TestFiveHundredBadObjectsAreToldAndHurtNobody(t *testing.T) {
	const bad = 500
	p := plane(t)
	kubeconfig := permitted(t, p)
	ns := namespace(t, p)
	var all strings.Builder
	fmt.Fprintf(&all, served, ns)
	fmt.Fprintf(&all, plainRoute, ns, "good", "app")
	for i := range bad {
		name := fmt.Sprintf("bad-%03d", i)
		if i%2 == 0 {
			fmt.Fprintf(&all, plainRoute, ns, name, "not-there")
			continue
		}
		fmt.Fprintf(&all, `
---
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: %[2]s, namespace: %[1]s}
spec:
  parentRefs: [{name: web}]
  rules: [{matches: [{headers: [{name: x, type: RegularExpression, value: "(\"`+"`"+`};\n$(id)"}]}], backendRefs: [{name: app, port: 80}]}]
`, ns, name)
	}
	p.Apply(t, all.String())
	replica(t, kubeconfig, "c", "10.244.0.9", "--event-qps=200")
	Within(t, patience, "a condition on each route", func() error {
		found := routes(t, p, ns)
		if err := errors.Join(is(found["good"], "Accepted", metav1.ConditionTrue), is(found["good"], "ResolvedRefs", metav1.ConditionTrue)); err != nil {
			return err
		}
		for i := range bad {
			r := found[fmt.Sprintf("bad-%03d", i)]
			if i%2 == 0 {
				if err := is(r, "ResolvedRefs", metav1.ConditionFalse); err != nil {
					return err
				}
			} else if is(r, "Accepted", metav1.ConditionFalse) != nil && is(r, "PartiallyInvalid", metav1.ConditionTrue) != nil {
				return fmt.Errorf("%s: %+v", r.Name, r.Status)
			}
		}
		return nil
	})
	Within(t, patience, "an event on each bad route", func() error {
		events, err := p.Client().EventsV1().Events(ns).List(t.Context(), metav1.ListOptions{})
		if err != nil {
			return err
		}
		about := map[string]bool{}
		for _, e := range events.Items {
			if e.Regarding.Kind == "HTTPRoute" && e.Note != "" {
				about[e.Regarding.Name] = true
			}
		}
		if len(about) != bad || about["good"] {
			return fmt.Errorf("there are events on %d routes", len(about))
		}
		return nil
	})
}
