package cluster

import (
	"bufio"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// planeProgram is the file name of the control plane.
const planeProgram = "plane"

// progressInterval is how often a build says how far it is.
const progressInterval = 10 * time.Second

// Build returns the program of the control plane, which it builds once for each version and keeps in the user's cache
// folder. A first build takes about seven minutes on two cores; progress says how far it is.
func Build(ctx context.Context, progress io.Writer) (string, error) {
	here, err := moduleFolder("rauta.io/rauta/test/cluster")
	if err != nil {
		return "", err
	}
	source := filepath.Join(here, "plane")
	key, err := hashOf(source, "go.mod", "go.sum", "main.go")
	if err != nil {
		return "", err
	}
	cache, err := os.UserCacheDir()
	if err != nil {
		return "", err
	}
	folder := filepath.Join(cache, "rauta", "cluster", key)
	if err := os.MkdirAll(folder, 0o755); err != nil {
		return "", err
	}
	unlock, err := lock(filepath.Join(folder, "lock"), progress)
	if err != nil {
		return "", err
	}
	defer unlock()
	program := filepath.Join(folder, planeProgram)
	if _, err := os.Stat(program); !errors.Is(err, fs.ErrNotExist) {
		return program, err
	}
	if err := buildPlane(ctx, source, program+".new", progress); err != nil {
		return "", err
	}
	return program, os.Rename(program+".new", program)
}

// hashOf names a version of the source: what it is made of, and for which platform.
func hashOf(folder string, names ...string) (string, error) {
	sum := sha256.New()
	platform, err := exec.Command("go", "env", "GOOS", "GOARCH").Output()
	if err != nil {
		return "", fmt.Errorf("ask go for its platform: %w", err)
	}
	sum.Write(platform)
	for _, name := range names {
		text, err := os.ReadFile(filepath.Join(folder, name))
		if err != nil {
			return "", err
		}
		fmt.Fprintln(sum, name, len(text))
		sum.Write(text)
	}
	return hex.EncodeToString(sum.Sum(nil))[:16], nil
}

// lock waits until no other process builds the same.
func lock(path string, progress io.Writer) (unlock func(), err error) {
	file, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o644)
	if err != nil {
		return nil, err
	}
	err = unix.Flock(int(file.Fd()), unix.LOCK_EX|unix.LOCK_NB)
	if errors.Is(err, unix.EWOULDBLOCK) {
		fmt.Fprintln(progress, "cluster: waiting for another build of the control plane")
		for err = unix.EINTR; errors.Is(err, unix.EINTR); {
			err = unix.Flock(int(file.Fd()), unix.LOCK_EX)
		}
	}
	if err != nil {
		file.Close()
		return nil, fmt.Errorf("lock %s: %w", path, err)
	}
	return func() { file.Close() }, nil
}

var kubernetesVersion = regexp.MustCompile(`\sk8s\.io/kubernetes (v1\.(\d+)\.\d+)\s`)

func buildPlane(ctx context.Context, source, program string, progress io.Writer) error {
	module, err := os.ReadFile(filepath.Join(source, "go.mod"))
	if err != nil {
		return err
	}
	version := kubernetesVersion.FindSubmatch(module)
	if version == nil {
		return errors.New("plane/go.mod names no version of k8s.io/kubernetes")
	}
	environment := append(os.Environ(), "CGO_ENABLED=0", "GOFLAGS=", "GOWORK=off")
	count := exec.CommandContext(ctx, "go", "list", "-deps", ".")
	count.Dir, count.Env, count.Stderr = source, environment, progress
	fmt.Fprintf(progress, "cluster: building Kubernetes %s and etcd, once; about seven minutes on two cores\n", version[1])
	packages, err := count.Output() // downloads the modules
	if err != nil {
		return fmt.Errorf("list the packages of the control plane (are the modules of the proxy in reach?): %w", err)
	}
	// A build without versions answers /version with v0.0.0, which clients refuse.
	flags := fmt.Sprintf("-s -w -X k8s.io/component-base/version.gitVersion=%s -X k8s.io/component-base/version.gitMajor=1 "+
		"-X k8s.io/component-base/version.gitMinor=%s -X k8s.io/client-go/pkg/version.gitVersion=%[1]s", version[1], version[2])
	build := exec.CommandContext(ctx, "go", "build", "-v", "-trimpath", "-ldflags", flags, "-o", program, ".")
	build.Dir, build.Env = source, environment
	names, err := build.StderrPipe()
	if err != nil {
		return err
	}
	if err := build.Start(); err != nil {
		return err
	}
	rest := follow(names, strings.Count(string(packages), "\n"), progress)
	if err := build.Wait(); err != nil {
		return fmt.Errorf("build the control plane: %w\n%s", err, rest)
	}
	return nil
}

// follow counts the names of packages that a build prints, and returns the lines that are none.
func follow(names io.Reader, total int, progress io.Writer) (rest string) {
	built, last := 0, time.Now()
	lines := bufio.NewScanner(names)
	for lines.Scan() {
		if line := lines.Text(); strings.ContainsAny(line, " #") {
			rest += line + "\n"
			continue
		}
		built++
		if time.Since(last) >= progressInterval {
			fmt.Fprintf(progress, "cluster: %d of at most %d packages\n", built, total)
			last = time.Now()
		}
	}
	return rest
}
