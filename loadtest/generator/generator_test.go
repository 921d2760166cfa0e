package generator

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"rauta.io/rauta/internal/testrig"
	"rauta.io/rauta/loadtest/bareloop"
)

func TestAnAnswersHeadIsCheckedForStatusAndFraming(t *testing.T) {
	for _, c := range []struct {
		name, head, want string
	}{
		{"correct", "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n", ""},
		{"any case", "HTTP/1.1 200 OK\r\ncontent-LENGTH:5 \r\n", ""},
		{"an error", "HTTP/1.1 502 Bad Gateway\r\nContent-Length: 5\r\n", failStatus},
		{"another success", "HTTP/1.1 204 No Content\r\n\r\n", failStatus},
		{"another version", "HTTP/1.0 200 OK\r\nContent-Length: 5\r\n", failStatus},
		{"a wrong length", "HTTP/1.1 200 OK\r\nContent-Length: 6\r\n", failFraming},
		{"no length", "HTTP/1.1 200 OK\r\n", failFraming},
		{"a length that is no number", "HTTP/1.1 200 OK\r\nContent-Length: 5a\r\n", failFraming},
		{"chunked", "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n", failFraming},
	} {
		if got, _ := checkHead([]byte(c.head), 5); got != c.want {
			t.Errorf("%s: got %q, want %q", c.name, got, c.want)
		}
	}
}

func TestAHeadGivesTheFieldsThatMatter(t *testing.T) {
	head := "GET / HTTP/1.1\r\nHost: x\r\nx-forwarded-for: 127.0.0.1\r\nConnection: close\r\nContent-Length: 17\r\nX-Generation: 42\r\nX-Generations: 1\r\n" +
		"Upgrade: WebSocket\r\nSec-WebSocket-Key: " + webSocketKey + "\r\n"
	got := parseHead([]byte(head))
	if want := (headFields{length: 17, close: true, forwarded: true, generation: 42, upgrade: true, key: webSocketKey}); got != want {
		t.Errorf("got %+v, want %+v", got, want)
	}
	if answer := answerUpgrade(webSocketKey); !bytes.Contains(answer, []byte("\r\nSec-WebSocket-Accept: "+webSocketAccept+"\r\n\r\n")) {
		t.Errorf("the answer to the key is %q", answer)
	}
	if got := parseHead([]byte("GET / HTTP/1.1\r\nX-Forwarded-For:\r\n\r\n")); got != (headFields{length: -1, generation: -1}) {
		t.Errorf("an empty X-Forwarded-For gives %+v", got)
	}
}

// testLoop is a loop with its back end, driven by the test.
func testLoop(t *testing.T) *loop {
	t.Helper()
	l, err := newLoop()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		for fd, s := range l.slots {
			if s.owner != nil {
				l.closeSocket(fd)
			}
		}
	})
	return l
}

// fakeProxy answers every request itself with the given text, and closes where the text asks for it.
func fakeProxy(t *testing.T, answer string) int {
	t.Helper()
	text, hangUp := strings.CutSuffix(answer, "<close>")
	return listenOn(t, func(conn net.Conn) {
		in := bufio.NewReader(conn)
		for {
			if _, err := http.ReadRequest(in); err != nil {
				return
			}
			if _, err := io.WriteString(conn, text); err != nil || hangUp {
				return
			}
		}
	})
}

// listenOn is testrig.Listen, but returns the port.
func listenOn(t *testing.T, serve func(net.Conn)) int {
	t.Helper()
	addr, err := netip.ParseAddrPort(testrig.Listen(t, serve))
	if err != nil {
		t.Fatal(err)
	}
	return int(addr.Port())
}

func shortCommand(port int) *Command {
	return &Command{Kind: Paired, Targets: []Target{{Name: "proxy", Port: port}}, Connections: 2, BodyBytes: 5, Rounds: 1,
		SliceNanos: int64(5 * time.Millisecond), Requests: []string{"GET / HTTP/1.1\r\nHost: x\r\n\r\n"}}
}

func TestEveryKindOfWrongAnswerIsCountedAsItself(t *testing.T) {
	body := string(pattern(5))
	head := "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n"
	for _, c := range []struct{ name, answer, want string }{
		{"an error status", "HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\n\r\n<close>", failStatus},
		{"a body cut short", head + body[:3] + "<close>", failTruncated},
		{"a head cut short", head[:20] + "<close>", failTruncated},
		{"nothing", "<close>", failClosed},
		{"a changed byte", head + "xxxxx", failCorrupt},
		{"more than announced", head + body + "x<close>", failExtra},
		{"another length", "HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\n" + body[:4], failFraming},
	} {
		t.Run(c.name, func(t *testing.T) {
			results, err := testLoop(t).run(shortCommand(fakeProxy(t, c.answer)))
			if err != nil {
				t.Fatal(err)
			}
			if r := results[0]; r.Failures[c.want] == 0 || r.Requests > 0 {
				t.Errorf("%d answered, failures %v; want only %q", r.Requests, r.Failures, c.want)
			}
			if r := results[0]; len(r.Samples) != 1 || r.Samples[0].Failed != r.Failed() {
				t.Errorf("samples %+v; want one with all %d failures", r.Samples, r.Failed())
			}
		})
	}
}

func TestNobodyListeningIsAFailure(t *testing.T) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	port := listener.Addr().(*net.TCPAddr).Port
	listener.Close()
	results, err := testLoop(t).run(shortCommand(port))
	if err != nil {
		t.Fatal(err)
	}
	if r := results[0]; r.Failures[failConnect] == 0 {
		t.Errorf("failures %v, want %q", r.Failures, failConnect)
	}
}

func TestAnAnnouncedCloseIsAReconnectAndNoFailure(t *testing.T) {
	answer := "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nConnection: close\r\nX-Generation: 3\r\n\r\n" + string(pattern(5)) + "<close>"
	results, err := testLoop(t).run(shortCommand(fakeProxy(t, answer)))
	if err != nil {
		t.Fatal(err)
	}
	r := results[0]
	if r.Failed() > 0 || r.Requests == 0 || r.Reconnects < r.Requests {
		t.Errorf("%d answered, %d reconnects, failures %v", r.Requests, r.Reconnects, r.Failures)
	}
	if r.Generation != 3 || r.Generations != 1 {
		t.Errorf("generation %d, %d distinct; want 3, 1", r.Generation, r.Generations)
	}
}

// startBareLoop runs the yardstick in this process until the test binary ends.
func startBareLoop(t *testing.T, backend int) int {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	port := listener.Addr().(*net.TCPAddr).Port
	listener.Close()
	go func() {
		if err := bareloop.Run(bareloop.Options{ListenPort: port, BackendPort: backend}); err != nil {
			t.Log("bare loop:", err)
		}
	}()
	for {
		conn, err := net.Dial("tcp", fmt.Sprintf("127.0.0.1:%d", port))
		if err == nil {
			conn.Close()
			return port
		}
		time.Sleep(time.Millisecond)
	}
}

func TestTheBareLoopForwardsBodiesOfAllSizesBothWaysUnharmed(t *testing.T) {
	l := testLoop(t)
	port := startBareLoop(t, l.backend.port)
	for _, c := range []struct{ body, upload int }{{0, 0}, {5, 0}, {100, 1}, {70_000, 64 << 10}, {3 << 20, 0}, {10, 3 << 20}} {
		command := shortCommand(port)
		command.BodyBytes, command.UploadBytes = c.body, c.upload
		if c.upload > 0 {
			command.Requests = []string{fmt.Sprintf("POST / HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n", c.upload)}
		}
		l.backend.prepare(c.body, c.upload)
		results, err := l.run(command)
		if err != nil {
			t.Fatal(err)
		}
		if r := results[0]; r.Failed() > 0 || r.Requests == 0 || r.Requests != r.Latency.Count() {
			t.Errorf("body %d, upload %d: %d answered, failures %v", c.body, c.upload, r.Requests, r.Failures)
		}
	}
}

func TestWhoeverMapsTheFileOfProgressSeesHowManyAreAnswered(t *testing.T) {
	l := testLoop(t)
	port := startBareLoop(t, l.backend.port)
	l.backend.prepare(5, 0)
	command := shortCommand(port)
	command.Progress = filepath.Join(t.TempDir(), "progress")
	results, err := l.run(command)
	if err != nil {
		t.Fatal(err)
	}
	told, err := os.ReadFile(command.Progress)
	if err != nil || len(told) != 8 {
		t.Fatal(told, err)
	}
	if n := binary.NativeEndian.Uint64(told); n != results[0].Requests || n == 0 {
		t.Errorf("it says %d, and %d are answered", n, results[0].Requests)
	}
}

func TestTheOpenLoopSendsWhatIsDueAndIdleConnectionsAnswerOnce(t *testing.T) {
	l := testLoop(t)
	port := startBareLoop(t, l.backend.port)
	l.backend.prepare(5, 0)
	command := shortCommand(port)
	command.Kind, command.PerSecond, command.SliceNanos = Rate, 1000, int64(50*time.Millisecond)
	results, err := l.run(command)
	if err != nil {
		t.Fatal(err)
	}
	if r := results[0]; r.Requests != 50 || r.Failed() > 0 {
		t.Errorf("%d answered, failures %v; want the 50 that are due in 50 ms", r.Requests, r.Failures)
	}
	command = shortCommand(port)
	command.Kind, command.Connections = Idle, 150
	if results, err = l.run(command); err != nil {
		t.Fatal(err)
	}
	if r := results[0]; r.Requests != 150 || r.Failed() > 0 {
		t.Errorf("%d answered, failures %v; want one for each of 150 connections", r.Requests, r.Failures)
	}
}

func TestAGeneratorThatSleepsKnowsForHowLongTheWholeMachineWorked(t *testing.T) {
	l := testLoop(t)
	port := startBareLoop(t, l.backend.port)
	l.backend.prepare(5, 0)
	command := shortCommand(port)
	command.WholeMachine, command.Rounds, command.SliceNanos = true, 1, int64(300*time.Millisecond)
	command.Targets[0].PIDs = []int{os.Getpid()} // generator and bare loop are in this process
	results, err := l.run(command)
	if err != nil {
		t.Fatal(err)
	}
	s := results[0].Samples[0]
	const steps = int64(20 * time.Millisecond) // in which idle time is told, at either end
	if most := int64(runtime.NumCPU())*(s.WallNanos+int64(time.Second)) + steps; s.Requests == 0 || s.MachineNanos+steps < int64(s.CPUNanos) || s.MachineNanos > most {
		t.Errorf("the machine worked %d ns, this process %d, within %d: %d requests", s.MachineNanos, s.CPUNanos, s.WallNanos, s.Requests)
	}
	command.Kind, command.PerSecond = Rate, 1000
	if err := command.validate(); err == nil {
		t.Error("at a rate the generator polls, so that the machine's time says nothing, but it is measured")
	}
}

func TestTheBackEndRefusesWhatAProxyHasDamaged(t *testing.T) {
	for _, c := range []struct {
		name, request string
		upload        int
		want          string
	}{
		{"no X-Forwarded-For", "GET / HTTP/1.1\r\n\r\n", 0, "421"},
		{"chunked", "POST / HTTP/1.1\r\nX-Forwarded-For: 1.2.3.4\r\nTransfer-Encoding: chunked\r\n\r\n", 5, "411"},
		{"a changed body", "POST / HTTP/1.1\r\nX-Forwarded-For: 1.2.3.4\r\nContent-Length: 5\r\n\r\nxxxxx", 5, "422"},
		{"a body where none was sent", "POST / HTTP/1.1\r\nX-Forwarded-For: 1.2.3.4\r\nContent-Length: 5\r\n\r\nxxxxx", 0, "422"},
		{"a good body", "POST / HTTP/1.1\r\nX-Forwarded-For: 1.2.3.4\r\nContent-Length: 5\r\n\r\n" + string(pattern(5)), 5, "200"},
	} {
		t.Run(c.name, func(t *testing.T) {
			l := testLoop(t)
			l.backend.prepare(3, c.upload)
			conn, err := net.Dial("tcp", fmt.Sprintf("127.0.0.1:%d", l.backend.port))
			if err != nil {
				t.Fatal(err)
			}
			defer conn.Close()
			if _, err := io.WriteString(conn, c.request); err != nil {
				t.Fatal(err)
			}
			status := make(chan string)
			go func() {
				line, _ := bufio.NewReader(conn).ReadString('\n')
				status <- line
			}()
			for {
				if err := l.turn(10); err != nil {
					t.Fatal(err)
				}
				select {
				case line := <-status:
					if !strings.HasPrefix(line, "HTTP/1.1 "+c.want) {
						t.Errorf("got %q, want status %s", line, c.want)
					}
					return
				default:
				}
			}
		})
	}
}

func TestACommandWithoutWhatItNeedsIsRefusedWithTheReason(t *testing.T) {
	for _, c := range []struct{ line, want string }{
		{`{"kind":"paired"}`, "no targets"},
		{`{"kind":"fly"}`, `unknown command "fly"`},
		{`{"kind":"rate","targets":[{}],"connections":1,"requests":["x"],"rounds":1,"sliceNanos":1}`, "rate must be positive"},
		{`nonsense`, "invalid character"},
	} {
		if got := testLoop(t).execute([]byte(c.line)).Error; !strings.Contains(got, c.want) {
			t.Errorf("%s: error %q, want %q in it", c.line, got, c.want)
		}
	}
}

func TestNeitherTheGeneratorNorTheBareLoopAllocatesPerRequest(t *testing.T) {
	l := testLoop(t)
	port := startBareLoop(t, l.backend.port)
	l.backend.prepare(5, 0)
	const due = 5000
	command := shortCommand(port)
	command.Kind, command.PerSecond, command.SliceNanos = Rate, 4*due, int64(time.Second/4)
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	results, err := l.run(command)
	runtime.ReadMemStats(&after)
	if err != nil {
		t.Fatal(err)
	}
	if r := results[0]; r.Requests != due || r.Failed() > 0 {
		t.Fatalf("%d answered, failures %v; want %d", r.Requests, r.Failures, due)
	}
	// Connections, the command and reading clocks cost some hundred allocations; one per request would be 5,000.
	if allocations := after.Mallocs - before.Mallocs; allocations > due/4 {
		t.Errorf("%d allocations for %d requests", allocations, due)
	}
}
