package cluster

import (
	"context"
	"errors"
	"fmt"
	"sync"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/tools/cache"
)

// scheduler follows all pods: it gives those without a node to the one that fits and has the fewest, and tells nodes about
// theirs. Of what can be asked of a scheduler it knows node selectors, the affinity by name that DaemonSets use, and ports
// of the host.
type scheduler struct {
	plane *Plane

	mu      sync.Mutex
	started bool
	stop    context.CancelFunc
	nodes   []*Node
	pods    map[types.UID]*corev1.Pod
	bound   map[types.UID]string // to be seen in the pod soon
}

func newScheduler(p *Plane) *scheduler {
	return &scheduler{plane: p, pods: map[types.UID]*corev1.Pod{}, bound: map[types.UID]string{}, stop: func() {}}
}

// end stops following pods, and the nodes.
func (s *scheduler) end() {
	s.mu.Lock()
	s.stop()
	nodes := append([]*Node(nil), s.nodes...)
	s.mu.Unlock()
	for _, n := range nodes {
		n.Stop()
	}
}

func (s *scheduler) add(n *Node) error {
	s.mu.Lock()
	s.nodes = append(s.nodes, n)
	first := !s.started
	s.started = true
	s.mu.Unlock()
	if first {
		return s.follow()
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.scheduleAll()
	return nil
}

func (s *scheduler) remove(n *Node) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for i := range s.nodes {
		if s.nodes[i] == n {
			s.nodes = append(s.nodes[:i], s.nodes[i+1:]...)
			return
		}
	}
}

// follow starts the informer.
func (s *scheduler) follow() error {
	ctx, cancel := context.WithCancel(context.Background())
	s.mu.Lock()
	s.stop = cancel
	s.mu.Unlock()
	factory := informers.NewSharedInformerFactory(s.plane.clients, 0)
	informer := factory.Core().V1().Pods().Informer()
	_, err := informer.AddEventHandler(cache.ResourceEventHandlerFuncs{
		AddFunc:    func(o any) { s.observe(o.(*corev1.Pod)) },
		UpdateFunc: func(_, o any) { s.observe(o.(*corev1.Pod)) },
		DeleteFunc: func(o any) {
			if last, ok := o.(cache.DeletedFinalStateUnknown); ok {
				o = last.Obj
			}
			s.forget(o.(*corev1.Pod))
		},
	})
	if err != nil {
		cancel()
		return err
	}
	factory.Start(ctx.Done())
	if !cache.WaitForCacheSync(ctx.Done(), informer.HasSynced) {
		return errors.New("the scheduler was stopped before it knew the pods")
	}
	return nil
}

func (s *scheduler) observe(pod *corev1.Pod) {
	s.mu.Lock()
	s.pods[pod.UID] = pod
	var node *Node
	if pod.Spec.NodeName == "" {
		s.schedule(pod)
	} else {
		delete(s.bound, pod.UID)
		node = s.nodeNamed(pod.Spec.NodeName)
	}
	s.mu.Unlock()
	if node != nil {
		node.observe(pod)
	}
}

func (s *scheduler) forget(pod *corev1.Pod) {
	s.mu.Lock()
	delete(s.pods, pod.UID)
	delete(s.bound, pod.UID)
	node := s.nodeNamed(pod.Spec.NodeName)
	s.scheduleAll() // there is room now
	s.mu.Unlock()
	if node != nil {
		node.forget(pod.UID)
	}
}

func (s *scheduler) nodeNamed(name string) *Node {
	for _, n := range s.nodes {
		if n.name == name {
			return n
		}
	}
	return nil
}

func (s *scheduler) scheduleAll() {
	for _, pod := range s.pods {
		if pod.Spec.NodeName == "" {
			s.schedule(pod)
		}
	}
}

// schedule binds a pod to a node, if one fits. A pod that no node fits stays pending.
func (s *scheduler) schedule(pod *corev1.Pod) {
	if s.bound[pod.UID] != "" || pod.DeletionTimestamp != nil {
		return
	}
	var best *Node
	fewest := 0
	for _, n := range s.nodes {
		if load := s.podsOn(n); s.fits(pod, n) && (best == nil || len(load) < fewest) {
			best, fewest = n, len(load)
		}
	}
	if best == nil {
		return
	}
	s.bound[pod.UID] = best.name
	go s.bind(pod, best)
}

// bind tells the API server. A pod that could not be bound is scheduled anew with the next change.
func (s *scheduler) bind(pod *corev1.Pod, n *Node) {
	err := s.plane.clients.CoreV1().Pods(pod.Namespace).Bind(n.ctx, &corev1.Binding{
		ObjectMeta: metav1.ObjectMeta{Namespace: pod.Namespace, Name: pod.Name, UID: pod.UID},
		Target:     corev1.ObjectReference{Kind: "Node", Name: n.name},
	}, metav1.CreateOptions{})
	if err != nil && !notFound(err) && n.ctx.Err() == nil {
		fmt.Printf("cluster: bind pod %s/%s to %s: %v\n", pod.Namespace, pod.Name, n.name, err)
		s.mu.Lock()
		delete(s.bound, pod.UID)
		s.mu.Unlock()
	}
}

// podsOn returns the pods of a node, with those that are about to be.
func (s *scheduler) podsOn(n *Node) []*corev1.Pod {
	var pods []*corev1.Pod
	for uid, pod := range s.pods {
		if pod.Spec.NodeName == n.name || s.bound[uid] == n.name {
			pods = append(pods, pod)
		}
	}
	return pods
}

func (s *scheduler) fits(pod *corev1.Pod, n *Node) bool {
	for name, value := range pod.Spec.NodeSelector {
		if n.labels[name] != value {
			return false
		}
	}
	if a := pod.Spec.Affinity; a != nil && a.NodeAffinity != nil && a.NodeAffinity.RequiredDuringSchedulingIgnoredDuringExecution != nil {
		if !namesNode(a.NodeAffinity.RequiredDuringSchedulingIgnoredDuringExecution.NodeSelectorTerms, n.name) {
			return false
		}
	}
	wanted := hostPorts(pod)
	for _, other := range s.podsOn(n) {
		for port := range hostPorts(other) {
			if wanted[port] && other.UID != pod.UID {
				return false
			}
		}
	}
	return true
}

// namesNode reports whether one of the terms is for the node, by its name.
func namesNode(terms []corev1.NodeSelectorTerm, name string) bool {
	for _, term := range terms {
		ok := true
		for _, f := range term.MatchFields {
			ok = ok && f.Key == metav1.ObjectNameField && len(f.Values) == 1 && f.Values[0] == name
		}
		if ok {
			return true
		}
	}
	return false
}

func hostPorts(pod *corev1.Pod) map[string]bool {
	ports := map[string]bool{}
	for _, c := range pod.Spec.Containers {
		for _, p := range c.Ports {
			if p.HostPort != 0 {
				ports[fmt.Sprint(p.Protocol, p.HostIP, p.HostPort)] = true
			}
		}
	}
	return ports
}
