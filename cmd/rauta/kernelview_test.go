package main

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"rauta.io/rauta/bpf"
	"rauta.io/rauta/internal/testrig"
)

// The tests of this file do to the whole binary what an operator would look for in the metrics from the kernel.

// hold is for how long something is kept waiting. Waits are asserted to be at least about that long, never at most.
const hold = 300 * time.Millisecond

// podAt is a back end that has a path and a Service of its own.
type podAt struct{ name, address string }

// startSeen starts rauta with pods, and skips the test where the kernel tells nothing.
func startSeen(t *testing.T, pods ...podAt) *instance {
	t.Helper()
	i := start(t, echoBackend(t))
	if tier, why := i.tier(); tier != bpf.TierFull {
		t.Skipf("the kernel does not tell everything here: %s", why)
	}
	text := configuration(i.port, echoBackend(t), "pods")
	for _, p := range pods {
		_, port, _ := net.SplitHostPort(p.address)
		text += fmt.Sprintf(`---
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: %[1]s}
spec:
  parentRefs: [{name: gw}]
  rules: [{matches: [{path: {value: /%[1]s}}], backendRefs: [{name: %[1]s, port: 80}]}]
---
apiVersion: v1
kind: Service
metadata: {name: %[1]s}
spec: {ports: [{port: 80}]}
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: %[1]s-1, labels: {kubernetes.io/service-name: %[1]s}}
addressType: IPv4
ports: [{port: %[2]s}]
endpoints: [{addresses: [127.0.0.1], nodeName: n1, zone: z1, targetRef: {kind: Pod, name: %[1]s-pod}}]
`, p.name, port)
	}
	i.write(text)
	i.until("the pods", func() bool { return i.state() == "pods" })
	return i
}

// metric adds up the series of a name that have all of these labels.
func (i *instance) metric(name string, labels ...string) (sum float64) {
	i.t.Helper()
series:
	for line := range strings.Lines(i.get(i.metrics, "/metrics?name[]="+name)) {
		rest, ok := strings.CutPrefix(line, name)
		if !ok || rest[0] != '{' && rest[0] != ' ' {
			continue
		}
		for _, l := range labels {
			if !strings.Contains(rest, l) {
				continue series
			}
		}
		value, err := strconv.ParseFloat(strings.TrimSpace(rest[strings.LastIndexByte(rest, ' '):]), 64)
		if err != nil {
			i.t.Fatalf("%v in %s", err, line)
		}
		sum += value
	}
	return sum
}

// ofPod are the labels of everything about a pod.
func ofPod(name string, more ...string) []string {
	return append([]string{`pod="` + name + `-pod"`, `namespace="default"`, `node="n1"`, `zone="z1"`}, more...)
}

// ask makes one request on a connection of its own.
func (i *instance) ask(path string) int {
	i.t.Helper()
	client := http.Client{Transport: &http.Transport{DisableKeepAlives: true}, Timeout: waitMax}
	resp, err := client.Get(i.url(path))
	if err != nil {
		i.t.Fatal(err)
	}
	defer resp.Body.Close()
	_, _ = io.Copy(io.Discard, resp.Body)
	return resp.StatusCode
}

// stopped reports whether no thread of the process runs any more.
func (i *instance) stopped() bool {
	stats, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/stat", i.cmd.Process.Pid))
	if err != nil || len(stats) == 0 {
		return false
	}
	for _, path := range stats {
		text, err := os.ReadFile(path)
		if err != nil || !strings.Contains(string(text), ") T ") {
			return false
		}
	}
	return true
}

func TestConnectionsThatABusyProcessDoesNotAcceptAreSeenToWait(t *testing.T) {
	i := startSeen(t)
	const kernel, stage = "rauta_accept_queue_seconds_sum", "rauta_request_stage_seconds_sum"
	before, stageBefore := i.metric(kernel), i.metric(stage, `stage="accept_queue"`)
	i.signal(syscall.SIGSTOP)
	i.until("the stop of every thread", i.stopped)
	c, err := net.Dial("tcp", fmt.Sprintf("127.0.0.1:%d", i.port))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	time.Sleep(hold)
	i.signal(syscall.SIGCONT)
	fmt.Fprint(c, "GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
	if _, err := io.Copy(io.Discard, c); err != nil {
		t.Fatal(err)
	}
	if waited := i.metric(kernel) - before; waited < hold.Seconds()*0.9 {
		t.Errorf("of a wait of %v the kernel's metric has %v s", hold, waited)
	}
	i.until("the same of the request", func() bool { return i.metric(stage, `stage="accept_queue"`)-stageBefore >= hold.Seconds()*0.9 })
}

// fullListener has room for one connection that nobody accepts, and that one is there: further SYNs are dropped.
func fullListener(t *testing.T) (address string, makeRoom func() net.Listener) {
	t.Helper()
	fd, err := syscall.Socket(syscall.AF_INET, syscall.SOCK_STREAM|syscall.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	file := os.NewFile(uintptr(fd), "listener")
	defer file.Close()
	if err := syscall.Bind(fd, &syscall.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}}); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Listen(fd, 0); err != nil {
		t.Fatal(err)
	}
	l, err := net.FileListener(file)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	filler, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { filler.Close() })
	return l.Addr().String(), func() net.Listener {
		c, err := l.Accept()
		if err != nil {
			t.Fatal(err)
		}
		c.Close()
		return l
	}
}

// connecting reports whether a SYN to an address has not been answered yet.
func connecting(t *testing.T, address string) bool {
	t.Helper()
	text, err := os.ReadFile("/proc/net/tcp")
	if err != nil {
		t.Fatal(err)
	}
	_, port, _ := net.SplitHostPort(address)
	number, err := strconv.Atoi(port)
	if err != nil {
		t.Fatal(err)
	}
	return strings.Contains(string(text), fmt.Sprintf(":%04X 02 ", number))
}

func TestAConnectThatIsAnsweredLateIsThatOfItsPod(t *testing.T) {
	address, makeRoom := fullListener(t)
	i := startSeen(t, podAt{"late", address}, podAt{"prompt", echoBackend(t)})
	if status := i.ask("/prompt"); status != 200 {
		t.Fatalf("status %d", status)
	}
	status := make(chan int, 1)
	go func() { status <- i.ask("/late") }()
	i.until("the SYN", func() bool { return connecting(t, address) })
	time.Sleep(hold)
	server := &http.Server{Handler: http.HandlerFunc(func(http.ResponseWriter, *http.Request) {})}
	go server.Serve(makeRoom())
	defer server.Close()
	if s := <-status; s != 200 {
		t.Fatalf("status %d", s)
	}
	const sum, count = "rauta_backend_tcp_connect_seconds_sum", "rauta_backend_tcp_connect_seconds_count"
	if took := i.metric(sum, ofPod("late")...); i.metric(count, ofPod("late")...) != 1 || took < hold.Seconds()*0.9 {
		t.Errorf("the late one took %v s", took)
	}
	if n := i.metric("rauta_backend_tcp_retransmits_total", ofPod("late")...); n < 1 {
		t.Errorf("%v segments were sent again", n)
	}
	if n := i.metric("rauta_backend_tcp_retransmits_total", ofPod("prompt")...); n > 0 || i.metric(count, ofPod("prompt")...) != 1 {
		t.Errorf("%v segments were sent again to the other", n)
	}
}

func TestRefusalsAndResetsAreThoseOfTheirPods(t *testing.T) {
	resets := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		c, _, err := http.NewResponseController(w).Hijack()
		if err == nil {
			_ = c.(*net.TCPConn).SetLinger(0)
			c.Close()
		}
	}))
	defer resets.Close()
	i := startSeen(t, podAt{"refuses", testrig.DeadAddress(t)}, podAt{"resets", resets.Listener.Addr().String()}, podAt{"well", echoBackend(t)})
	for path, class := range map[string]int{"/refuses": 5, "/resets": 5, "/well": 2} {
		if status := i.ask(path); status/100 != class {
			t.Fatalf("status %d from %s", status, path)
		}
	}
	const failures, reset = "rauta_backend_tcp_connect_failures_total", "rauta_backend_tcp_resets_total"
	i.until("both", func() bool {
		return i.metric(failures, ofPod("refuses", `errno="ECONNREFUSED"`)...) >= 1 && i.metric(reset, ofPod("resets", `direction="received"`)...) >= 1
	})
	if all, one := i.metric(failures), i.metric(failures, ofPod("refuses")...); all != one {
		t.Errorf("of %v failures %v are those of the pod that refuses", all, one)
	}
	if all, one := i.metric(reset, `direction="received"`), i.metric(reset, ofPod("resets", `direction="received"`)...); all != one {
		t.Errorf("of %v resets %v are those of the pod that resets", all, one)
	}
}

func TestAClientThatDoesNotReadIsSeenAsSuchByBothSides(t *testing.T) {
	const bytes = 32 << 20 // more than all buffers on the way
	large := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Length", strconv.Itoa(bytes))
		_, _ = w.Write(make([]byte, bytes))
	}))
	defer large.Close()
	i := startSeen(t, podAt{"large", large.Listener.Addr().String()})
	c, err := net.Dial("tcp", fmt.Sprintf("127.0.0.1:%d", i.port))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	fmt.Fprint(c, "GET /large HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
	r := bufio.NewReader(c)
	if _, err := r.Peek(1); err != nil {
		t.Fatal(err)
	}
	time.Sleep(3 * hold) // much of it goes by while buffers fill
	if n, err := io.Copy(io.Discard, r); err != nil || n < bytes {
		t.Fatalf("%d bytes: %v", n, err)
	}
	c.Close()
	route := `route="httproute/default/large"`
	i.until("the stage", func() bool {
		return i.metric("rauta_request_stage_seconds_sum", route, `stage="client_write"`) >= hold.Seconds()
	})
	i.until("the kernel's word for it", func() bool {
		return i.metric("rauta_client_tcp_send_seconds_total", `limit="receive_window"`) >= hold.Seconds()
	})
	if slow := i.metric("rauta_backend_tcp_send_seconds_total", ofPod("large", `limit="receive_window"`)...); slow > 0 {
		t.Errorf("the back end is said not to read for %v s", slow)
	}
	if n := i.metric("rauta_client_tcp_bytes_total", `direction="sent"`); n < bytes {
		t.Errorf("%v bytes are counted", n)
	}
}
