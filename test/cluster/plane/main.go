// Command plane is etcd, kube-apiserver and kube-controller-manager in one program, chosen by its first argument. Linked
// together they are half as large as apart, and one build makes all of them. It is for tests only, in a module of its own
// because it needs the whole of Kubernetes; test/cluster builds and runs it.
package main

import (
	"fmt"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"
	"go.etcd.io/etcd/server/v3/etcdmain"
	"k8s.io/component-base/cli"
	_ "k8s.io/component-base/metrics/prometheus/clientgo" // metrics of the client, as the original programs have them
	_ "k8s.io/component-base/metrics/prometheus/version"
	apiserver "k8s.io/kubernetes/cmd/kube-apiserver/app"
	manager "k8s.io/kubernetes/cmd/kube-controller-manager/app"
)

func main() {
	if len(os.Args) < 2 {
		fatal("name a component: etcd, kube-apiserver or kube-controller-manager")
	}
	component := os.Args[1]
	// The components look at os.Args themselves, and name themselves after its first element.
	os.Args = append([]string{filepath.Join(filepath.Dir(os.Args[0]), component)}, os.Args[2:]...)
	var command *cobra.Command
	switch component {
	case "etcd":
		etcdmain.Main(os.Args)
		return
	case "kube-apiserver":
		command = apiserver.NewAPIServerCommand()
	case "kube-controller-manager":
		command = manager.NewControllerManagerCommand()
	default:
		fatal("there is no component %q", component)
	}
	os.Exit(cli.Run(command))
}

func fatal(format string, args ...any) {
	fmt.Fprintf(os.Stderr, "plane: "+format+"\n", args...)
	os.Exit(2)
}
