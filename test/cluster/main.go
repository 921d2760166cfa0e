package cluster

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"
)

// Environment variables between the test binary outside, itself inside the network, and the pods that it starts.
const (
	folderVariable = "RAUTA_CLUSTER_FOLDER" // where the programs and the state of one run are
	keepVariable   = "RAUTA_CLUSTER_KEEP"   // set by people: keep that folder
	podVariable    = "RAUTA_CLUSTER_POD"    // what startPod has to do
)

// Main runs the tests of a package in a network of their own, in which all of 10.244.0.0/16 is local, and never returns. It
// builds the control plane and the programs outside, where the module proxy can be reached, and then runs the test binary
// again in new namespaces. Everything that the tests start ends with them. Where the machine permits none of this, one line
// says what is missing and no test runs.
func Main(m *testing.M, programs ...Program) {
	if os.Getenv(podVariable) != "" {
		fatal(becomePod())
	}
	programs = append(programs, Program{Name: backendProgram, Run: backend})
	becomeProgram(programs)
	if os.Getenv(folderVariable) != "" {
		if err := enterNetwork(); err != nil {
			fatal(fmt.Errorf("set up the network: %w", err))
		}
		os.Exit(m.Run())
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := namespacesPermitted(); err != nil {
		fmt.Println("cluster: skipped,", err)
		os.Exit(0)
	}
	code, err := runInside(ctx, programs)
	if err != nil {
		fatal(err)
	}
	os.Exit(code)
}

func fatal(err error) {
	fmt.Fprintln(os.Stderr, "cluster:", err)
	os.Exit(1)
}

// runInside prepares the folder of this run, and runs the test binary once more inside.
func runInside(ctx context.Context, programs []Program) (code int, err error) {
	folder, err := os.MkdirTemp("", "rauta-cluster-")
	if err != nil {
		return 0, err
	}
	if os.Getenv(keepVariable) == "" {
		defer os.RemoveAll(folder)
	} else {
		fmt.Println("cluster: everything is kept in", folder)
	}
	plane, err := Build(ctx, os.Stdout)
	if err != nil {
		return 0, err
	}
	if err := os.MkdirAll(filepath.Join(folder, "bin"), 0o755); err != nil {
		return 0, err
	}
	if err := os.Symlink(plane, filepath.Join(folder, "bin", planeProgram)); err != nil {
		return 0, err
	}
	for _, p := range programs {
		if err := p.build(ctx, filepath.Join(folder, "bin")); err != nil {
			return 0, err
		}
	}
	inside := inNamespaces(os.Args[1:]...)
	inside.Env = append(os.Environ(), folderVariable+"="+folder)
	inside.Stdin, inside.Stdout, inside.Stderr = os.Stdin, os.Stdout, os.Stderr
	return run(ctx, inside)
}

// run runs a command, whose processes all end when this one does, and returns its exit code.
func run(ctx context.Context, c *exec.Cmd) (code int, err error) {
	// The kernel sends the signal when the thread ends that started the process, not when the process does.
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	if err := c.Start(); err != nil {
		return 0, err
	}
	ended := make(chan struct{})
	go func() {
		select {
		case <-ctx.Done():
			_ = c.Process.Kill()
		case <-ended:
		}
	}()
	err = c.Wait()
	close(ended)
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		if code = exit.ExitCode(); code < 0 {
			return 1, nil // by a signal
		}
		return code, nil
	}
	return 0, err
}

// Folder is where programs and state of this run are; it goes with the run.
func Folder() string { return os.Getenv(folderVariable) }

// becomeProgram runs the program that this process was started as, if it is one.
func becomeProgram(programs []Program) {
	for _, p := range programs {
		if p.Run == nil || p.Name != filepath.Base(os.Args[0]) {
			continue
		}
		if err := p.Run(os.Args[1:]); err != nil {
			fatal(fmt.Errorf("%s: %w", p.Name, err))
		}
		os.Exit(0)
	}
}

// Program is a program that pods and tests run; Path says where it is. The test binary is that program under another name, or
// it has been built, or Main builds it.
type Program struct {
	Name string

	Run func(arguments []string) error // the test binary under this name

	Built string // the path of a program, "" to build it

	Module  string // a folder, seen from test/cluster
	Package string
	Prepare func() error // before it is built, nil if nothing has to be done
}

// RAUTA is the program that this is all about. The environment variable RAUTA may name one that has been built already.
func RAUTA() Program {
	return Program{Name: "rauta", Built: os.Getenv("RAUTA"), Module: "../..", Package: "./cmd/rauta"}
}

// Path returns where a program that Main was asked for is.
func Path(name string) string { return filepath.Join(Folder(), "bin", name) }

func (p Program) build(ctx context.Context, folder string) error {
	if p.Run != nil {
		self, err := os.Executable()
		if err != nil {
			return err
		}
		return os.Symlink(self, filepath.Join(folder, p.Name))
	}
	if p.Built != "" {
		built, err := filepath.Abs(p.Built)
		if err != nil {
			return err
		}
		return os.Symlink(built, filepath.Join(folder, p.Name))
	}
	if p.Prepare != nil {
		if err := p.Prepare(); err != nil {
			return fmt.Errorf("prepare %s: %w", p.Name, err)
		}
	}
	module := p.Module
	if !filepath.IsAbs(module) {
		here, err := moduleFolder("rauta.io/rauta/test/cluster")
		if err != nil {
			return err
		}
		module = filepath.Join(here, module)
	}
	build := exec.CommandContext(ctx, "go", "build", "-o", filepath.Join(folder, p.Name), p.Package)
	build.Dir, build.Env = module, append(os.Environ(), "CGO_ENABLED=0", "GOFLAGS=", "GOWORK=off")
	if text, err := build.CombinedOutput(); err != nil {
		return fmt.Errorf("build %s in %s: %w\n%s", p.Package, module, err, text)
	}
	return nil
}

// moduleFolder returns where the files of a module are that the module of the current folder needs.
func moduleFolder(module string) (string, error) {
	list := exec.Command("go", "list", "-m", "-f", "{{.Dir}}", module)
	var complaints strings.Builder
	list.Stderr = &complaints
	text, err := list.Output()
	if err != nil {
		return "", fmt.Errorf("find module %s: %w\n%s", module, err, complaints.String())
	}
	folder := strings.TrimSpace(string(text))
	if folder == "" {
		return "", fmt.Errorf("module %s has not been downloaded: run `go mod download`", module)
	}
	return folder, nil
}
