package main

import (
	"github.com/spf13/cobra"
)

const rootLong = `RAUTA is a Kubernetes ingress controller and Gateway API implementation with its own data plane.

It serves HTTP as Gateway, HTTPRoute and Ingress objects say, read from YAML files, and follows their changes without
losing a request.

  rauta check examples/quickstart                      what is wrong with a configuration, and what to do
  rauta serve --config examples/quickstart             serve it
  rauta explain --config examples/quickstart GET http://shop.localhost/cart
                                                       which rule and back end a request gets, and why
  rauta top                                            what it does now, and where the time of requests goes`

// newRoot returns the command line. onStart is called when a command line has been accepted.
func newRoot(onStart func()) *cobra.Command {
	root := &cobra.Command{
		Use:               "rauta",
		Short:             "Kubernetes ingress controller and Gateway API implementation",
		Long:              rootLong,
		SilenceErrors:     true,
		SilenceUsage:      true,
		PersistentPreRun:  func(*cobra.Command, []string) { onStart() },
		DisableAutoGenTag: true,
	}
	root.AddCommand(newServe(), newCheck(), newExplain(), newTop(), newDebug(), newProbe(), newVersion(), newDemo())
	return root
}
