package manifests

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	cluster "rauta.io/rauta/test/cluster"
)

const (
	// updateRequests is how many requests an update of a back end has to survive.
	updateRequests = 30_000
	// outage is how long the API server is away.
	outage = time.Minute
	// backMax is how long after it a change may take: control/watch asks once a second whether the API server is back, which its
	// tests check, and reads everything then. The rest is for a machine that does other things as well.
	backMax = 10 * time.Second
)

// deploy makes apps with a number of pods each, and a route to the first one.
func (w *world) deploy(t *testing.T, pods int, apps ...string) (namespace string) {
	t.Helper()
	ns := w.namespace(t)
	text := fmt.Sprintf(gateway, ns) + "---" + fmt.Sprintf(route, ns, "0", "[{name: "+apps[0]+", port: 80}]")
	for _, name := range apps {
		text += "---" + fmt.Sprintf(app, ns, name, pods, "1")
	}
	w.Apply(t, text)
	w.awaitPods(t, ns, pods*len(apps))
	served(t, ns)
	t.Cleanup(func() {
		_ = w.Client().CoreV1().Namespaces().Delete(context.Background(), ns, metav1.DeleteOptions{})
	})
	return ns
}

func TestRouteChangesWeightsAndSwapsLoseNothingAndNothingOldComesAfterTheNew(t *testing.T) {
	w := deployed(t)
	ns := w.deploy(t, 1, "blue", "green")
	client := newClient(false)

	// What no answer may be any more whose request began later.
	type gone struct {
		app   string
		since time.Time
	}
	var old atomic.Pointer[gone]
	f := send(t, ns, steady, func(a answer, began time.Time) error {
		if g := old.Load(); g != nil && began.After(g.since) && strings.Contains(a.body, `"Version":"`+g.app+`"`) {
			return fmt.Errorf("%s answers, which the route has left %s ago", g.app, began.Sub(g.since))
		}
		return nil
	})
	for i := 1; i <= 200; i++ {
		backends, left := "[{name: blue, port: 80}]", "green"
		switch i % 4 {
		case 1:
			backends, left = "[{name: blue, port: 80, weight: 1}, {name: green, port: 80, weight: 3}]", ""
		case 2:
			backends, left = "[{name: green, port: 80}]", "blue"
		case 3:
			backends, left = "[{name: blue, port: 80, weight: 0}, {name: green, port: 80, weight: 1}]", "blue"
		}
		old.Store(nil)
		w.Apply(t, fmt.Sprintf(route, ns, fmt.Sprint(i), backends))
		cluster.Eventually(t, fmt.Sprint("change ", i, " to be served"), func() error {
			a, err := ask(t.Context(), client, ns)
			if err == nil && a.change != fmt.Sprint(i) {
				err = fmt.Errorf("change %s is", a.change)
			}
			return err
		})
		if left != "" { // every worker has it from its next request on
			old.Store(&gone{left, time.Now()})
		}
	}
	f.end(t)
}

func TestAnUpdateOfABackEndLosesNoRequest(t *testing.T) {
	w := deployed(t)
	ns := w.deploy(t, 3, "app")
	f := send(t, ns, steady, nil)
	for revision := 2; f.sent.Load() < updateRequests; revision++ {
		patch := fmt.Appendf(nil, `{"spec":{"template":{"metadata":{"labels":{"revision":"%d"}}}}}`, revision)
		d, err := w.Client().AppsV1().Deployments(ns).Patch(t.Context(), "app", "application/strategic-merge-patch+json", patch, metav1.PatchOptions{})
		if err != nil {
			t.Fatal(err)
		}
		cluster.Eventually(t, "the end of the update", func() error {
			now, err := w.Client().AppsV1().Deployments(ns).Get(t.Context(), "app", metav1.GetOptions{})
			if err == nil && (now.Status.ObservedGeneration < d.Generation || now.Status.UpdatedReplicas != 3 || now.Status.Replicas != 3 ||
				now.Status.AvailableReplicas != 3) {
				err = fmt.Errorf("the status is %+v", now.Status)
			}
			return err
		})
	}
	f.end(t)
}

func TestABackEndThatIsKilledFailsNoGET(t *testing.T) {
	w := deployed(t)
	ns := w.deploy(t, 3, "app")
	f := send(t, ns, full, nil)
	for _, pod := range w.pods(t, t.Context(), ns) {
		before := f.sent.Load()
		if !w.node.Kill(pod.UID) {
			t.Fatal("the pod does not run")
		}
		cluster.Eventually(t, "the pod to run again, and many requests", func() error {
			now, err := w.Client().CoreV1().Pods(ns).Get(t.Context(), pod.Name, metav1.GetOptions{})
			if err != nil || f.sent.Load() < before+2000 || now.Status.ContainerStatuses[0].RestartCount == 0 || !isReady(now) {
				return errors.Join(err, errors.New("not yet"))
			}
			return nil
		})
	}
	f.end(t)
}

func TestWithoutTheAPIServerNothingFailsAndARestartServesWhatWasServedLast(t *testing.T) {
	w := deployed(t)
	ns := w.deploy(t, 2, "app", "next")
	pod := w.ready(t)
	time.Sleep(3 * time.Second) // what is served is stored when nothing has changed for a second

	f := send(t, ns, steady, nil)
	w.StopAPIServer()
	time.Sleep(outage)
	f.end(t)

	if !w.node.Kill(pod.UID) {
		t.Error("RAUTA does not run")
	}
	served(t, ns) // as the container has been started again, and waited for the API server in vain
	log := w.node.Log(pod.UID)
	if !strings.Contains(log, "what was served last is in force") {
		t.Errorf("the log does not say what is served")
	}

	f = send(t, ns, steady, nil)
	if err := w.StartAPIServer(t.Context()); err != nil {
		t.Fatal(err)
	}
	back := time.Now()
	w.Apply(t, fmt.Sprintf(route, ns, "after", "[{name: next, port: 80}]"))
	client := newClient(false)
	cluster.Eventually(t, "a change after the outage", func() error {
		a, err := ask(t.Context(), client, ns)
		if err == nil && a.change != "after" {
			err = fmt.Errorf("change %s is served", a.change)
		}
		return err
	})
	if took := time.Since(back); took > backMax {
		t.Errorf("a change was served only %s after the API server was back", took)
	} else {
		t.Logf("a change was served %s after the API server was back", took)
	}
	f.end(t)
	w.ready(t)
}

// TestEverythingThatRAUTADoesIsPermitted has to come last: it looks at what all others have made RAUTA do.
func TestZEverythingThatRAUTADoesIsPermitted(t *testing.T) {
	w := deployed(t)
	requests, err := w.Audited()
	if err != nil {
		t.Fatal(err)
	}
	used, allowed, refused := map[string]bool{}, map[string]bool{}, map[string]bool{}
	for _, r := range requests {
		what := strings.Join([]string{r.Verb, r.Group, r.Resource, r.Subresource}, " ")
		used[what] = true
		verb := r.Verb
		if verb == "get" || verb == "list" || verb == "watch" {
			verb = "read" // a list is asked for only where a watch was refused
		}
		if where := strings.Join([]string{verb, r.Group, r.Resource, r.Subresource, "in namespace", r.Namespace}, " "); r.Allowed {
			allowed[where] = true
		} else {
			refused[where] = true
		}
	}
	for what := range refused { // an API server that is starting refuses what it allows a moment later
		if !allowed[what] {
			t.Errorf("RAUTA may not %s", what)
		}
	}
	for _, what := range []string{"watch  services ", "watch discovery.k8s.io endpointslices ", "watch gateway.networking.k8s.io httproutes "} {
		if !used[what] {
			t.Errorf("RAUTA did not %s: the audit log has %d requests, %v", what, len(requests), used)
		}
	}
}
