package cluster

import (
	"context"
	"fmt"
	"io/fs"
	"maps"
	"path/filepath"
	"sync"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
)

// Labels of nodes that Kubernetes gives a meaning to.
const (
	hostnameLabel = "kubernetes.io/hostname"
	// ZoneLabel says in which zone a node is.
	ZoneLabel = "topology.kubernetes.io/zone"
)

// Node plays the kubelet of one node. It runs pods as local processes, each on an address of its own that the program has to
// listen on (environment variable POD_IP), and reports how they are; deployments and EndpointSlices are the work of the real
// controllers. A container runs the program whose name is the last part of its image's name, without the tag: one that
// Main was asked for, or backend. Other images cannot be pulled. The logs of containers can be read through the API.
//
// Pods are ready when their readiness probe says so; without one, when every TCP port that they declare is listened on, or,
// without any, something at their address, or when they have run for ten seconds. They end as real ones do: preStop (sleep),
// SIGTERM, the grace period, SIGKILL; meanwhile the probe goes on. A container that ends by itself is noticed after a second
// and started again.
type Node struct {
	plane   *Plane
	name    string
	address string
	folder  string
	labels  map[string]string
	ctx     context.Context // ends with the node

	mu   sync.Mutex
	pods map[types.UID]*pod
	wait sync.WaitGroup
	stop context.CancelFunc
}

// NodeOptions say what a node is like.
type NodeOptions struct {
	Name    string            // "node" unless set
	Address string            // NodeAddress unless set; other nodes may have others of podNetwork up to 10.244.0.255
	Labels  map[string]string // such as ZoneLabel
}

// StartNode adds a node, which ends with the test.
func (p *Plane) StartNode(t testing.TB, options NodeOptions) *Node {
	t.Helper()
	n, err := p.AddNode(t.Context(), options)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(n.Stop)
	return n
}

// AddNode is StartNode for several tests, which end it with Stop.
func (p *Plane) AddNode(ctx context.Context, options NodeOptions) (*Node, error) {
	n := &Node{
		plane: p, name: or(options.Name, "node"), address: or(options.Address, NodeAddress), labels: maps.Clone(options.Labels),
		pods: map[types.UID]*pod{},
	}
	n.folder = filepath.Join(p.folder, "nodes", n.name)
	if n.labels == nil {
		n.labels = map[string]string{}
	}
	n.labels[hostnameLabel] = n.name
	n.ctx, n.stop = context.WithCancel(context.WithoutCancel(ctx))
	if err := n.serveLogs(); err != nil {
		return nil, fmt.Errorf("serve the logs of node %s: %w", n.name, err)
	}
	if err := n.register(ctx); err != nil {
		n.stop()
		return nil, fmt.Errorf("register node %s: %w", n.name, err)
	}
	return n, p.scheduler.add(n)
}

func or(s, otherwise string) string {
	if s == "" {
		return otherwise
	}
	return s
}

// register makes the Node object, as the kubelet does.
func (n *Node) register(ctx context.Context) error {
	nodes := n.plane.clients.CoreV1().Nodes()
	object := &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: n.name, Labels: n.labels}}
	object, err := nodes.Create(ctx, object, metav1.CreateOptions{})
	if err != nil {
		return err
	}
	now := metav1.Now()
	object.Status.Conditions = []corev1.NodeCondition{{
		Type: corev1.NodeReady, Status: corev1.ConditionTrue, Reason: "KubeletReady", LastHeartbeatTime: now, LastTransitionTime: now,
	}}
	object.Status.Addresses = []corev1.NodeAddress{
		{Type: corev1.NodeInternalIP, Address: n.address}, {Type: corev1.NodeHostName, Address: n.name},
	}
	object.Status.DaemonEndpoints.KubeletEndpoint.Port = kubeletPort
	if _, err = nodes.UpdateStatus(ctx, object, metav1.UpdateOptions{}); err != nil {
		return err
	}
	// Admission gives every new node the taint not-ready, which a controller that does not run here would take away.
	_, err = nodes.Patch(ctx, n.name, types.MergePatchType, []byte(`{"spec":{"taints":null}}`), metav1.PatchOptions{})
	return err
}

// Stop takes the node away: its processes end at once, as if it had lost power, and its pods stay what they were.
func (n *Node) Stop() {
	n.plane.scheduler.remove(n)
	n.stop()
	n.wait.Wait()
}

// observe hears of every version of the node's pods.
func (n *Node) observe(object *corev1.Pod) {
	n.mu.Lock()
	defer n.mu.Unlock()
	known, ok := n.pods[object.UID]
	switch {
	case ok && object.DeletionTimestamp != nil:
		known.terminate(object)
	case ok || n.ctx.Err() != nil:
	default:
		pod := n.newPod(object)
		n.pods[object.UID] = pod
		n.wait.Go(pod.run)
		if object.DeletionTimestamp != nil {
			pod.terminate(object)
		}
	}
}

// forget hears that the object of a pod is gone.
func (n *Node) forget(uid types.UID) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if pod, ok := n.pods[uid]; ok {
		pod.kill()
		delete(n.pods, uid)
	}
}

// Kill ends the processes of a pod with SIGKILL, as a crash would; the node notices a little later. It reports whether the
// pod ran here.
func (n *Node) Kill(uid types.UID) bool {
	n.mu.Lock()
	pod, ok := n.pods[uid]
	n.mu.Unlock()
	return ok && pod.crash()
}

// Files returns the paths of everything in the volumes of a pod, below the folder that is the pod's here, in order.
func (n *Node) Files(uid types.UID) (paths []string, err error) {
	root := filepath.Join(n.folder, string(uid))
	err = filepath.WalkDir(root, func(path string, entry fs.DirEntry, err error) error {
		if err == nil && !entry.IsDir() {
			path, err = filepath.Rel(root, path)
			paths = append(paths, path)
		}
		return err
	})
	return paths, err
}

// Log returns what the containers of a pod have written.
func (n *Node) Log(uid types.UID) string {
	n.mu.Lock()
	pod, ok := n.pods[uid]
	n.mu.Unlock()
	if !ok {
		return ""
	}
	return pod.log()
}
