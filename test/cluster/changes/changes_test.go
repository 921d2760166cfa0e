// Package changes measures how long changes take in a cluster: it starts a control plane, has loadtest/changes fill it, starts
// RAUTA beside it, and has loadtest/changes measure. `make loadtest-changes` is how people call it.
//
// It owns the cluster and the processes. What is written and how it is measured is in loadtest/changes.
package changes

import (
	"context"
	"flag"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	cluster "rauta.io/rauta/test/cluster"
)

const (
	system       = "rauta-system"
	deployFolder = "../../../deploy/base"
	adminAddress = "127.0.0.1:9090"
	metricsPage  = "127.0.0.1:9091"
	// readyTimeMax is when a RAUTA that is not ready is not waited for any longer.
	readyTimeMax = 2 * time.Minute
	readyPause   = 10 * time.Millisecond
)

var (
	routes       = flag.Int("routes", 3000, "HTTPRoutes")
	services     = flag.Int("services", 1000, "Services, each with one EndpointSlice")
	endpoints    = flag.Int("endpoints", 3, "endpoints of each")
	certificates = flag.Int("certificates", 0, "HTTPS listeners, each with a certificate")
	changes      = flag.Int("changes", 200, "changes of each kind that are measured in each phase")
	churn        = flag.String("churn", "slices", "what changes all the time in the second phase: slices, routes, both or none")
	rate         = flag.Int("rate", 100, "how many of them change each second")
	duration     = flag.Duration("duration", time.Minute, "how long the second phase lasts at least")
	profiles     = flag.String("profiles", "", "folder for profiles of RAUTA's heap after each phase; empty for none")
	traceTime    = flag.Duration("trace", 0, "how long what RAUTA does is traced in each phase, into the folder for profiles")
	filling      = flag.String("fill-with", "", "command that the program that fills the cluster is run by, such as nice")
	measuring    = flag.String("measure-with", "", "the same for the program that measures")
)

func TestMain(m *testing.M) {
	cluster.Main(m, cluster.RAUTA(), cluster.Program{Name: "changes", Module: "../..", Package: "./loadtest/changes"})
}

func TestHowLongChangesTake(t *testing.T) {
	slicesRate, routesRate, err := rates()
	if err != nil {
		t.Fatal(err)
	}
	p := cluster.Start(t)
	if err := p.InstallGatewayAPI(t.Context(), cluster.Standard); err != nil {
		t.Fatal(err)
	}
	for _, file := range []string{"namespace", "rbac"} {
		text, err := os.ReadFile(filepath.Join(deployFolder, file+".yaml"))
		if err != nil {
			t.Fatal(err)
		}
		p.Apply(t, string(text))
	}
	arguments := access(t, p)
	for name, value := range map[string]int{
		"routes": *routes, "services": *services, "endpoints": *endpoints, "certificates": *certificates, "changes": *changes,
		"churn": slicesRate, "route-churn": routesRate,
	} {
		arguments = append(arguments, fmt.Sprintf("-%s=%d", name, value))
	}
	arguments = append(arguments, "-metrics=http://"+metricsPage+"/metrics", "-duration="+duration.String(), "-keep")
	if *profiles != "" {
		arguments = append(arguments, "-profiles=http://"+adminAddress+"/debug/pprof/", "-profile-folder="+*profiles, "-trace="+traceTime.String())
	}
	do(t, *filling, append(arguments, "-only-fill"))

	start := time.Now()
	rauta := cluster.Run(t, "rauta", nil, "serve", "--kubeconfig="+p.KubeconfigOf(t, system, "rauta"), "--admin="+adminAddress,
		"--metrics="+metricsPage, "--leader-election-namespace="+system, "--leader-election-id=changes",
		"--host-ips="+cluster.NodeAddress, "--log-level=debug", "--drain-delay=0s", "--drain-time=1s")
	awaitReady(t, rauta)
	t.Logf("RAUTA is ready %s after its start", time.Since(start).Round(time.Millisecond))
	awaitStatuses(t)
	t.Logf("all statuses are written %s after its start", time.Since(start).Round(time.Second))
	stop := watchMemory(t, rauta)
	do(t, *measuring, append(arguments, "-filled", "-log="+rauta.LogPath()))
	stop()
	for line := range strings.Lines(rauta.Log()) {
		if strings.Contains(line, "level=ERROR") {
			t.Error(line)
		}
	}
}

// rates are how many slices, and how many routes, change each second.
func rates() (slices, routes int, err error) {
	switch *churn {
	case "slices":
		return *rate, 0, nil
	case "routes":
		return 0, *rate, nil
	case "both":
		return *rate, *rate, nil
	case "none":
		return 0, 0, nil
	}
	return 0, 0, fmt.Errorf("-churn %q: must be slices, routes, both or none", *churn)
}

// access returns the arguments that let loadtest/changes act as an administrator.
func access(t *testing.T, p *cluster.Plane) []string {
	t.Helper()
	config, folder := p.Config(), t.TempDir()
	token, authority := filepath.Join(folder, "token"), filepath.Join(folder, "ca.crt")
	if err := os.WriteFile(token, []byte(config.BearerToken), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(authority, config.CAData, 0o600); err != nil {
		t.Fatal(err)
	}
	return []string{"-server=" + config.Host, "-token=" + token, "-ca=" + authority}
}

// do runs loadtest/changes, by another command if there is one. What it prints is the result.
func do(t *testing.T, by string, arguments []string) {
	t.Helper()
	line := append(append(strings.Fields(by), cluster.Path("changes")), arguments...)
	c := exec.CommandContext(t.Context(), line[0], line[1:]...)
	c.Stdout, c.Stderr = os.Stdout, os.Stderr
	if err := c.Run(); err != nil {
		t.Fatalf("changes: %v", err)
	}
}

func awaitReady(t *testing.T, rauta *cluster.Process) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), readyTimeMax)
	defer cancel()
	for {
		request, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+metricsPage+"/readyz", nil)
		if err != nil {
			t.Fatal(err)
		}
		response, err := http.DefaultClient.Do(request)
		if err == nil {
			response.Body.Close()
			if response.StatusCode == http.StatusOK {
				return
			}
		}
		select {
		case <-rauta.Exited():
			t.Fatal("RAUTA has ended before it was ready")
		case <-ctx.Done():
			t.Fatalf("RAUTA is not ready after %s", readyTimeMax)
		case <-time.After(readyPause):
		}
	}
}

const (
	// statusTimeMax is when statuses are not waited for any longer: RAUTA writes 200 each second, and the API server may be slower.
	statusTimeMax = 5 * time.Minute
	statusPause   = 2 * time.Second
)

// awaitStatuses waits until RAUTA has written all statuses: that takes the API server's time, and does not belong to a change.
func awaitStatuses(t *testing.T) {
	t.Helper()
	settled, last := 0, ""
	for end := time.Now().Add(statusTimeMax); settled < 2; time.Sleep(statusPause) {
		if time.Now().After(end) {
			t.Fatalf("RAUTA has not written all statuses after %s", statusTimeMax)
		}
		response, err := http.Get("http://" + metricsPage + "/metrics")
		if err != nil {
			t.Fatal(err)
		}
		text, err := io.ReadAll(response.Body)
		response.Body.Close()
		if err != nil {
			t.Fatal(err)
		}
		written, all := "", false
		for line := range strings.Lines(string(text)) {
			if !strings.HasPrefix(line, "rauta_status_writes_total{") {
				continue
			}
			written += line
			var n float64
			if count, ok := strings.CutPrefix(line, `rauta_status_writes_total{kind="HTTPRoute"} `); ok {
				fmt.Sscan(count, &n)
				all = int(n) >= *routes
			}
		}
		if settled++; !all || written != last || !strings.Contains(string(text), "\nrauta_status_waiting 0\n") {
			settled, last = 0, written
		}
	}
}

// memoryTime is how often the memory of RAUTA is looked at. The kernel is asked, because asking RAUTA takes memory.
const memoryTime = 5 * time.Second

// watchMemory looks at the resident memory of RAUTA until stop is called, which prints it.
func watchMemory(t *testing.T, rauta *cluster.Process) (stop func()) {
	start, done, ended := time.Now(), make(chan struct{}), make(chan struct{})
	var seen []string
	go func() {
		defer close(ended)
		for {
			seen = append(seen, fmt.Sprintf("%.0f s %s", time.Since(start).Seconds(), memory(rauta, "VmRSS:")))
			select {
			case <-done:
				return
			case <-time.After(memoryTime):
			}
		}
	}()
	return func() {
		close(done)
		<-ended
		t.Logf("resident memory of RAUTA: %s; at most %s", strings.Join(seen, ", "), memory(rauta, "VmHWM:"))
	}
}

// memory is a line of what the kernel says about a process.
func memory(p *cluster.Process, field string) string {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", p.PID()))
	if err != nil {
		return err.Error()
	}
	for line := range strings.Lines(string(text)) {
		if value, ok := strings.CutPrefix(line, field); ok {
			return strings.TrimSpace(value)
		}
	}
	return "unknown"
}
