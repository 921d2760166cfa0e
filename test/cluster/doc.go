// Package cluster is a Kubernetes cluster for tests, without containers: etcd, kube-apiserver and kube-controller-manager
// as they are released, and nodes that run the pods of a test as local processes, each on an address of its own. Where it
// stops being real: there is no scheduler, no kube-proxy and no container; a pod sees the files of the machine.
//
// It owns the network that tests run in (Main), the program of the control plane (Build), the control plane (Plane), nodes
// (Node), and applying manifests. It does not own what is tested: tests of RAUTA that need a cluster stand
// beside it or in modules of their own, and call it.
//
// A package of tests that needs a cluster starts with
//
//	func TestMain(m *testing.M) { cluster.Main(m, cluster.RAUTA()) }
//
// It is a module of its own, so that RAUTA needs none of this.
package cluster
