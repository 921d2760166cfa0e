package cluster

import (
	"context"
	"encoding/json"
	"fmt"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
)

// Times of a kubelet.
const (
	noticeDelay       = time.Second // before it sees that a container has ended; it looks once a second
	firstProbeDelay   = 50 * time.Millisecond
	probePeriod       = time.Second     // unless the probe says how often
	restartDelayMax   = 5 * time.Second // of a container that keeps ending; minutes in a real one
	volumeRetryDelay  = 200 * time.Millisecond
	defaultFailureMax = 3
)

// pod is a pod that runs on a node.
type pod struct {
	node    *Node
	object  *corev1.Pod
	address string
	folder  string
	started metav1.Time

	ctx         context.Context // ends when the pod must not run any more
	kill        context.CancelFunc
	terminating chan struct{} // closed when it shall end
	grace       time.Duration // set before that
	restarted   chan struct{} // holds one when a container has to be looked at now

	mu         sync.Mutex
	containers []*container
	ready      bool
	reported   string      // the last status, to report only what differs
	shown      bool        // the readiness in the last status
	turned     metav1.Time // when it became that
}

func (n *Node) newPod(object *corev1.Pod) *pod {
	p := &pod{
		node: n, object: object.DeepCopy(), started: metav1.Now(), terminating: make(chan struct{}), restarted: make(chan struct{}, 1),
		folder: filepath.Join(n.folder, string(object.UID)),
	}
	p.ctx, p.kill = context.WithCancel(n.ctx)
	p.address = n.address
	if !object.Spec.HostNetwork {
		p.address = n.plane.nextAddress()
	}
	return p
}

// podAddressFirst is the number of the first pod's address in podNetwork; those below are for nodes and for tests.
const podAddressFirst = 256 + 1

// nextAddress returns an address that no pod has had.
func (p *Plane) nextAddress() string {
	number := podAddressFirst + p.addresses.Add(1) - 1
	return fmt.Sprintf("10.244.%d.%d", number>>8, number&0xff)
}

// terminate tells the pod to end within the grace period. The first time counts.
func (p *pod) terminate(object *corev1.Pod) {
	select {
	case <-p.terminating:
		return
	default:
	}
	p.grace = time.Duration(corev1.DefaultTerminationGracePeriodSeconds) * time.Second
	if object.DeletionGracePeriodSeconds != nil {
		p.grace = time.Duration(*object.DeletionGracePeriodSeconds) * time.Second
	}
	close(p.terminating)
}

// run is the life of the pod.
func (p *pod) run() {
	defer p.kill()
	volumes, ok := p.awaitVolumes()
	if ok {
		ok = p.startContainers(volumes)
	}
	if ok {
		p.report(corev1.PodRunning)
		go p.probe()
	}
	select {
	case <-p.terminating:
		p.end()
	case <-p.ctx.Done():
	}
	p.kill()
	for _, c := range p.all() {
		<-c.ended
	}
	if p.node.ctx.Err() == nil {
		p.deleteObject()
	}
}

// awaitVolumes makes the volumes. What they are made of may come after the pod.
func (p *pod) awaitVolumes() (map[string]string, bool) {
	for {
		volumes, err := p.volumes(p.ctx)
		if err == nil {
			return volumes, true
		}
		select {
		case <-p.terminating:
			return nil, false
		case <-p.ctx.Done():
			return nil, false
		case <-time.After(volumeRetryDelay):
		}
	}
}

// startContainers runs init containers to their end, one after the other, and starts the others.
func (p *pod) startContainers(volumes map[string]string) bool {
	for i := range p.object.Spec.InitContainers {
		c := p.newContainer(&p.object.Spec.InitContainers[i], volumes)
		go c.runOnce()
		select {
		case <-c.ended:
		case <-p.terminating:
			p.kill()
			<-c.ended
			return false
		}
		if p.ctx.Err() != nil {
			return false
		}
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	for i := range p.object.Spec.Containers {
		c := p.newContainer(&p.object.Spec.Containers[i], volumes)
		p.containers = append(p.containers, c)
		go c.keepRunning()
	}
	return true
}

func (p *pod) all() []*container {
	p.mu.Lock()
	defer p.mu.Unlock()
	return append([]*container(nil), p.containers...)
}

// end asks every container to end, and returns when all have or the grace period is over.
func (p *pod) end() {
	over := time.After(p.grace)
	for _, c := range p.all() {
		go c.end()
	}
	for _, c := range p.all() {
		select {
		case <-c.ended:
		case <-over:
			return
		case <-p.ctx.Done():
			return
		}
	}
}

// crash ends the processes of the pod and lets the node find out.
func (p *pod) crash() (ran bool) {
	for _, c := range p.all() {
		if process := c.running(); process != nil {
			process.Signal(syscall.SIGKILL)
			ran = true
		}
	}
	return ran
}

// notReady hears that a container has ended.
func (p *pod) notReady() {
	p.mu.Lock()
	p.ready = false
	p.mu.Unlock()
	p.report(corev1.PodRunning)
	select {
	case p.restarted <- struct{}{}:
	default:
	}
}

func (p *pod) log() string {
	var text strings.Builder
	for _, c := range p.all() {
		if process := c.running(); process != nil {
			text.WriteString(process.Log())
		}
	}
	return text.String()
}

// deleteObject tells the API server that the pod has ended.
func (p *pod) deleteObject() {
	now := int64(0)
	for p.node.ctx.Err() == nil {
		err := p.node.plane.clients.CoreV1().Pods(p.object.Namespace).Delete(p.node.ctx, p.object.Name, metav1.DeleteOptions{
			GracePeriodSeconds: &now, Preconditions: &metav1.Preconditions{UID: &p.object.UID},
		})
		if err == nil || gone(err) {
			return
		}
		time.Sleep(volumeRetryDelay) // the API server is away
	}
}

// report writes the status of the pod, if it differs from what has been written.
func (p *pod) report(phase corev1.PodPhase) {
	status := p.status(phase)
	text, err := json.Marshal(map[string]any{"metadata": map[string]any{"uid": p.object.UID}, "status": status})
	if err != nil {
		panic(err) // a status is plain data
	}
	p.mu.Lock()
	same := p.reported == string(text)
	p.mu.Unlock()
	if same {
		return
	}
	pods := p.node.plane.clients.CoreV1().Pods(p.object.Namespace)
	_, err = pods.Patch(p.node.ctx, p.object.Name, types.MergePatchType, text, metav1.PatchOptions{}, "status")
	if err == nil {
		p.mu.Lock()
		p.reported = string(text)
		p.mu.Unlock()
	}
}

// status describes the pod as a kubelet would.
func (p *pod) status(phase corev1.PodPhase) corev1.PodStatus {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.turned.IsZero() || p.ready != p.shown {
		p.turned, p.shown = metav1.Now(), p.ready
	}
	status := corev1.PodStatus{
		Phase: phase, HostIP: p.node.address, HostIPs: []corev1.HostIP{{IP: p.node.address}},
		PodIP: p.address, PodIPs: []corev1.PodIP{{IP: p.address}}, StartTime: &p.started,
	}
	for _, kind := range []corev1.PodConditionType{corev1.PodScheduled, corev1.PodInitialized, corev1.ContainersReady, corev1.PodReady} {
		state, since := corev1.ConditionTrue, p.started
		if kind == corev1.ContainersReady || kind == corev1.PodReady {
			since = p.turned // minReadySeconds are counted from there
			if !p.ready {
				state = corev1.ConditionFalse
			}
		}
		status.Conditions = append(status.Conditions, corev1.PodCondition{Type: kind, Status: state, LastTransitionTime: since})
	}
	for _, c := range p.containers {
		status.ContainerStatuses = append(status.ContainerStatuses, c.status(p.ready))
	}
	return status
}
