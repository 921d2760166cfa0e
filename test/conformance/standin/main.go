// Command standin makes the module sigs.k8s.io/gateway-api-conformance-images, as far as the suite v1.7.0 needs it, in the
// folder images: that module is not in every proxy, and its packages are those that came with the suite v1.6.3.
package main

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

const (
	suiteModule = "sigs.k8s.io/gateway-api/conformance"
	standin     = "images"                                                                            // git ignores it; v1.7.0.mod names it
	generated   = "// Code generated from the conformance suite of the Gateway API; DO NOT EDIT.\n\n" // for the checks of sources
	module      = "module sigs.k8s.io/gateway-api-conformance-images\n\ngo 1.26.0\n"
)

func main() {
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, "standin:", err)
		os.Exit(1)
	}
}

func run() error {
	text, err := exec.Command("go", "list", "-m", "-f", "{{.Dir}}", suiteModule).Output()
	if err != nil {
		return fmt.Errorf("find %s: %w", suiteModule, err)
	}
	if err := os.RemoveAll(standin); err != nil {
		return err
	}
	for _, name := range []string{"grpcechoserver", "tcpserver", "udpechoserver"} {
		if err := copyPackage(filepath.Join(strings.TrimSpace(string(text)), "echo-basic", name), filepath.Join(standin, "echo-basic", name)); err != nil {
			return err
		}
	}
	return os.WriteFile(filepath.Join(standin, "go.mod"), []byte(module), 0o644)
}

func copyPackage(from, to string) error {
	files, err := filepath.Glob(filepath.Join(from, "*.go"))
	if err != nil {
		return err
	}
	if len(files) == 0 {
		return fmt.Errorf("%s has no Go files", from)
	}
	if err := os.MkdirAll(to, 0o755); err != nil {
		return err
	}
	for _, file := range files {
		if strings.HasSuffix(file, "_test.go") {
			continue
		}
		text, err := os.ReadFile(file)
		if err != nil {
			return err
		}
		if err := os.WriteFile(filepath.Join(to, filepath.Base(file)), append([]byte(generated), text...), 0o644); err != nil {
			return err
		}
	}
	return nil
}
