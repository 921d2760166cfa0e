package main

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"rauta.io/rauta/internal/testrig"
)

// waitMax is when a test gives up on something that must happen; nothing depends on how long it takes below that.
const waitMax = 30 * time.Second

// binary builds rauta once for all tests, unless the environment has one (RAUTA), for users who have no Go.
var binary = sync.OnceValues(func() (string, error) {
	if path := os.Getenv("RAUTA"); path != "" {
		return path, nil
	}
	dir, err := os.MkdirTemp("", "rauta-test-")
	if err != nil {
		return "", err
	}
	path := filepath.Join(dir, "rauta")
	if out, err := exec.Command("go", "build", "-o", path, ".").CombinedOutput(); err != nil {
		return "", fmt.Errorf("%w: %s", err, out)
	}
	return path, nil
})

func TestMain(m *testing.M) {
	code := m.Run()
	if path, err := binary(); err == nil && os.Getenv("RAUTA") == "" {
		os.RemoveAll(filepath.Dir(path))
	}
	os.Exit(code)
}

// instance is a running rauta serve with one route.
type instance struct {
	t       *testing.T
	dir     string // of its configuration
	port    uint16
	admin   string
	metrics string
	cmd     *exec.Cmd
	log     *testrig.Buffer
	exited  chan error
}

// configuration sends everything on port to a back end on loopback and adds a response header X-State.
func configuration(port uint16, backend, state string) string {
	_, backendPort, _ := net.SplitHostPort(backend)
	return fmt.Sprintf(`apiVersion: gateway.networking.k8s.io/v1
kind: GatewayClass
metadata: {name: rauta}
spec: {controllerName: rauta.io/gateway-controller}
---
apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata: {name: gw}
spec:
  gatewayClassName: rauta
  listeners: [{name: http, port: %d, protocol: HTTP}]
---
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: all}
spec:
  parentRefs: [{name: gw}]
  rules:
    - backendRefs: [{name: app, port: 80}]
      filters:
        - type: ResponseHeaderModifier
          responseHeaderModifier: {set: [{name: X-State, value: %s}]}
---
apiVersion: v1
kind: Service
metadata: {name: app}
spec: {ports: [{port: 80}]}
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: app-1, labels: {kubernetes.io/service-name: app}}
addressType: IPv4
ports: [{port: %s}]
endpoints: [{addresses: [127.0.0.1]}]
`, port, state, backendPort)
}

// start starts rauta serve and waits until it answers.
func start(t *testing.T, backend string, flags ...string) *instance {
	t.Helper()
	return startAs(t, nil, backend, flags...)
}

// startAs is start by way of another program, which takes permissions away.
func startAs(t *testing.T, by []string, backend string, flags ...string) *instance {
	t.Helper()
	path, err := binary()
	if err != nil {
		t.Fatal(err)
	}
	i := &instance{t: t, dir: t.TempDir(), port: testrig.FreePort(t), log: &testrig.Buffer{}, exited: make(chan error, 1)}
	for _, dir := range []string{filepath.Dir(i.dir), i.dir} {
		if err := os.Chmod(dir, 0o755); err != nil { // another user may be the one to read it
			t.Fatal(err)
		}
	}
	i.admin, i.metrics = fmt.Sprintf("127.0.0.1:%d", testrig.FreePort(t)), fmt.Sprintf("127.0.0.1:%d", testrig.FreePort(t))
	i.write(configuration(i.port, backend, "first"))
	args := append([]string{"serve", "--config", i.dir, "--bind", "127.0.0.1", "--admin", i.admin, "--metrics", i.metrics,
		"--workers", "2", "--drain-delay", "0s"}, flags...)
	args = append(append(slices.Clone(by), path), args...)
	switch testrig.EBPF(t) {
	case testrig.EBPFOff:
		if !slices.Contains(args, "--ebpf") {
			args = append(args, "--ebpf", "off")
		}
	case testrig.EBPFAll:
		if !slices.Contains(args, "--ebpf-sample") {
			args = append(args, "--ebpf-sample", "1")
		}
	}
	i.cmd = exec.Command(args[0], args[1:]...)
	i.cmd.Stderr, i.cmd.Stdout = i.log, i.log
	if err := i.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() { i.exited <- i.cmd.Wait() }()
	t.Cleanup(func() {
		i.cmd.Process.Kill()
		if t.Failed() {
			t.Logf("rauta wrote:\n%s", i.log)
		}
	})
	i.until("the first answer", func() bool { return i.state() == "first" })
	i.until("readiness", func() bool { return strings.Contains(i.get(i.metrics, "/readyz"), "ok") }) // after its sockets
	// What the kernel counts begins beside serving.
	i.until("the programs for the kernel", func() bool { return !strings.Contains(i.get(i.metrics, "/metrics"), `rauta_ebpf_tier{tier="pending"`) })
	return i
}

func (i *instance) write(text string) {
	i.t.Helper()
	tmp := filepath.Join(i.dir, ".new")
	if err := os.WriteFile(tmp, []byte(text), 0o644); err != nil {
		i.t.Fatal(err)
	}
	if err := os.Rename(tmp, filepath.Join(i.dir, "all.yaml")); err != nil {
		i.t.Fatal(err)
	}
}

func (i *instance) url(path string) string { return fmt.Sprintf("http://127.0.0.1:%d%s", i.port, path) }

// state asks with a new connection which configuration is in force; "" when there is no answer.
func (i *instance) state() string {
	client := http.Client{Transport: &http.Transport{DisableKeepAlives: true}, Timeout: waitMax}
	resp, err := client.Get(i.url("/"))
	if err != nil {
		return ""
	}
	resp.Body.Close()
	return resp.Header.Get("X-State")
}

// get asks the admin or metrics server.
func (i *instance) get(address, path string) string {
	i.t.Helper()
	resp, err := http.Get("http://" + address + path)
	if err != nil {
		i.t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		i.t.Fatal(err)
	}
	return string(body)
}

func (i *instance) until(what string, done func() bool) {
	i.t.Helper()
	for deadline := time.Now().Add(waitMax); !done(); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			i.t.Fatalf("%s did not come about", what)
		}
	}
}

func (i *instance) signal(s os.Signal) {
	i.t.Helper()
	if err := i.cmd.Process.Signal(s); err != nil {
		i.t.Fatal(err)
	}
}

// exitCode waits for the end.
func (i *instance) exitCode() int {
	i.t.Helper()
	select {
	case err := <-i.exited:
		var exit *exec.ExitError
		switch {
		case err == nil:
			return 0
		case errors.As(err, &exit):
			return exit.ExitCode()
		}
		i.t.Fatal(err)
	case <-time.After(waitMax):
		i.t.Fatal("rauta does not end")
	}
	return -1
}

func echoBackend(t *testing.T) string {
	t.Helper()
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { io.WriteString(w, r.URL.Path) }))
	t.Cleanup(s.Close)
	return s.Listener.Addr().String()
}

func TestAnEditedFileIsServedAndABrokenOneKeepsTheLastGoodState(t *testing.T) {
	backend := echoBackend(t)
	i := start(t, backend)
	i.write(configuration(i.port, backend, "second"))
	i.until("the edited state", func() bool { return i.state() == "second" })
	i.write(configuration(i.port, backend, "third") + "nonsense: true\n")
	i.until("word of the broken file", func() bool { return strings.Contains(i.log.String(), "nonsense: unknown field") })
	if got := i.state(); got != "second" {
		t.Errorf("with a broken file the state is %q, want the last good one", got)
	}
	if metrics := i.get(i.metrics, "/metrics"); !strings.Contains(metrics, "\nrauta_config_last_error 1\n") {
		t.Error("rauta_config_last_error is not 1 with a broken file")
	}
	i.write(configuration(i.port, backend, "fourth"))
	i.until("the repaired state", func() bool { return i.state() == "fourth" })
	i.until("the end of the error", func() bool {
		return strings.Contains(i.get(i.metrics, "/metrics"), "\nrauta_config_last_error 0\n")
	})
}

func TestTheReferenceEngineServesTheSameConfiguration(t *testing.T) {
	backend := echoBackend(t)
	i := start(t, backend, "--engine", "reference")
	i.write(configuration(i.port, backend, "second"))
	i.until("the edited state", func() bool { return i.state() == "second" })
	i.signal(syscall.SIGTERM)
	if code := i.exitCode(); code != 0 {
		t.Errorf("exit code %d", code)
	}
}

func TestOperatorsGetAnswersFromTheRunningProcess(t *testing.T) {
	i := start(t, echoBackend(t))
	for _, c := range []struct{ address, path, want string }{
		{i.metrics, "/readyz", "ok"},
		{i.metrics, "/metrics", `rauta_requests_total{route="httproute/default/all",method="GET",code="2xx"} `},
		{i.admin, "/config", `"generation": 1,`},
		{i.admin, "/listeners", `"default/gw/http"`},
		{i.admin, "/clusters", `"default/app:80"`},
	} {
		if got := i.get(c.address, c.path); !strings.Contains(got, c.want) {
			t.Errorf("%s lacks %s:\n%s", c.path, c.want, got)
		}
	}
	code, asked, stderr := command("explain", "--admin", "http://"+i.admin, "GET", i.url("/x"), "-H", "A: b")
	if code != 0 || !strings.Contains(asked, "outcome: forward /x") {
		t.Errorf("exit code %d: %s%s", code, asked, stderr)
	}
	code, read, stderr := command("explain", "--config", i.dir, "GET", i.url("/x"), "-H", "A: b")
	if read = strings.ReplaceAll(read, "[::]:", "127.0.0.1:"); code != 0 || read != asked {
		t.Errorf("the running process says\n%s\nthe files say\n%s%s", asked, read, stderr)
	}
	if code, _, stderr := command("explain", "--admin", "http://"+i.admin, "GET", "http://a:1/"); code != exitFailed ||
		!strings.Contains(stderr, "nothing listens on port 1") {
		t.Errorf("a port without a listener: exit code %d: %s", code, stderr)
	}
}

func TestNoRequestFailsWhileTheConfigurationChanges(t *testing.T) {
	backend := echoBackend(t)
	i := start(t, backend)
	client := http.Client{Transport: &http.Transport{}, Timeout: waitMax}
	defer client.CloseIdleConnections()
	want := ""
	for n := range 200 {
		if n%10 == 0 {
			want = fmt.Sprintf("s%d", n)
			i.write(configuration(i.port, backend, want))
		}
		resp, err := client.Get(i.url("/x"))
		if err != nil {
			t.Fatal(err)
		}
		body, err := io.ReadAll(resp.Body)
		resp.Body.Close()
		if err != nil || resp.StatusCode != 200 || string(body) != "/x" {
			t.Fatalf("request %d: %d %q %v", n, resp.StatusCode, body, err)
		}
	}
	i.until("the last state", func() bool { return i.state() == want })
}

func TestSIGHUPReadsWhatTheWatchCannotSee(t *testing.T) {
	backend := echoBackend(t)
	i := start(t, backend)
	// A change behind a link to another folder makes no event in the watched one.
	elsewhere := filepath.Join(t.TempDir(), "all.yaml")
	if err := os.WriteFile(elsewhere, []byte(configuration(i.port, backend, "linked")), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(elsewhere, filepath.Join(i.dir, ".link")); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(filepath.Join(i.dir, ".link"), filepath.Join(i.dir, "all.yaml")); err != nil {
		t.Fatal(err)
	}
	i.until("the linked file", func() bool { return i.state() == "linked" })
	if err := os.WriteFile(elsewhere, []byte(configuration(i.port, backend, "poked")), 0o644); err != nil {
		t.Fatal(err)
	}
	i.signal(syscall.SIGHUP)
	i.until("the state after SIGHUP", func() bool { return i.state() == "poked" })
}

func TestSIGTERMFinishesWhatIsUnderWayAndExitsWithZero(t *testing.T) {
	entered, leave := make(chan struct{}), make(chan struct{})
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/slow" {
			close(entered)
			<-leave
		}
		io.WriteString(w, "done")
	}))
	defer s.Close()
	i := start(t, s.Listener.Addr().String())
	answer := make(chan string, 1)
	go func() {
		resp, err := http.Get(i.url("/slow"))
		if err != nil {
			answer <- err.Error()
			return
		}
		defer resp.Body.Close()
		body, _ := io.ReadAll(resp.Body)
		answer <- fmt.Sprint(string(body), resp.Close)
	}()
	<-entered
	i.signal(syscall.SIGTERM)
	i.until("the end of accepting", func() bool {
		c, err := net.Dial("tcp", fmt.Sprintf("127.0.0.1:%d", i.port))
		if err == nil {
			c.Close()
		}
		return err != nil
	})
	close(leave)
	if got := <-answer; got != "donetrue" {
		t.Errorf("the request under way got %s, want its answer and Connection: close", got)
	}
	if code := i.exitCode(); code != 0 {
		t.Errorf("exit code %d", code)
	}
}

func TestASecondSignalEndsAtOnce(t *testing.T) {
	entered, leave := make(chan struct{}), make(chan struct{})
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/slow" {
			close(entered)
			<-leave
		}
	}))
	defer s.Close()
	defer close(leave)
	i := start(t, s.Listener.Addr().String(), "--drain-time", "1h")
	go http.Get(i.url("/slow"))
	<-entered
	i.signal(syscall.SIGINT)
	i.until("the drain", func() bool { return strings.Contains(i.log.String(), "draining") })
	i.signal(syscall.SIGINT)
	if code := i.exitCode(); code != exitFailed || !strings.Contains(i.log.String(), "connections were cut off") {
		t.Errorf("exit code %d", code)
	}
}

func TestEndpointsAreFollowedDuringADrain(t *testing.T) {
	old, fresh := httptest.NewServer(saying("old")), httptest.NewServer(saying("fresh"))
	defer old.Close()
	defer fresh.Close()
	i := start(t, old.Listener.Addr().String(), "--drain-delay", "1h")
	i.signal(syscall.SIGTERM)
	i.until("the drain", func() bool { return strings.Contains(i.log.String(), "draining") })
	i.write(configuration(i.port, fresh.Listener.Addr().String(), "first"))
	i.until("an answer of the new endpoint", func() bool { return i.get(fmt.Sprintf("127.0.0.1:%d", i.port), "/") == "fresh" })
	i.signal(syscall.SIGTERM)
	i.exitCode()
}

func saying(what string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, what) }
}

func TestABrokenConfigurationAtTheStartIsAnErrorWithEveryProblem(t *testing.T) {
	path, err := binary()
	if err != nil {
		t.Fatal(err)
	}
	out, err := exec.Command(path, "serve", "--config", "testdata/broken", "--admin", "off", "--metrics", "off").CombinedOutput()
	var exit *exec.ExitError
	if !errors.As(err, &exit) || exit.ExitCode() != exitFailed {
		t.Fatalf("got %v, want exit code %d", err, exitFailed)
	}
	for _, want := range []string{"01-yaml.yaml:5: ", "02-unknown-field.yaml:1: Gateway default/gw: spec.listners: unknown field", "11-no-object.yaml:1: "} {
		if !strings.Contains(string(out), want) {
			t.Errorf("lacks %q:\n%s", want, out)
		}
	}
}

func TestATakenPortIsAnErrorAtTheStart(t *testing.T) {
	path, err := binary()
	if err != nil {
		t.Fatal(err)
	}
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	file := filepath.Join(t.TempDir(), "a.yaml")
	text := configuration(uint16(taken.Addr().(*net.TCPAddr).Port), "127.0.0.1:1", "x")
	if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	out, err := exec.Command(path, "serve", "--config", file, "--bind", "127.0.0.1", "--admin", "off", "--metrics", "off").CombinedOutput()
	var exit *exec.ExitError
	if !errors.As(err, &exit) || exit.ExitCode() != exitFailed || !strings.Contains(string(out), "listener default/gw/http: ") {
		t.Errorf("got %v: %s", err, out)
	}
}

func TestTheAccessLogGoesOnInANewFileAfterSIGUSR1(t *testing.T) {
	log := filepath.Join(t.TempDir(), "access.log")
	i := start(t, echoBackend(t), "--access-log", log)
	lines := func(path string) int {
		f, err := os.Open(path)
		if err != nil {
			return 0
		}
		defer f.Close()
		n := 0
		for s := bufio.NewScanner(f); s.Scan(); n++ {
		}
		return n
	}
	i.until("a line", func() bool { return lines(log) > 0 })
	if err := os.Rename(log, log+".1"); err != nil {
		t.Fatal(err)
	}
	i.signal(syscall.SIGUSR1)
	i.until("the new file", func() bool { _, err := os.Stat(log); return err == nil })
	i.state()
	i.until("a line in the new file", func() bool { return lines(log) > 0 })
}
