package blackbox

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"os"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/coder/websocket"
	"golang.org/x/net/http2"

	"rauta.io/rauta/internal/testrig"
	"rauta.io/rauta/proxy/config"
	"rauta.io/rauta/proxy/observe"
	"rauta.io/rauta/proxy/server"
)

// idler asks for responses one after another and reads none before it is told to.
type idler struct {
	raw net.Conn
	ask func(n int) // n begins with 0
	all func(n int) // reads n responses
	// frames is what the smallest response has beside its body, in bytes, for clients that may ask although the response before
	// has not come; 0 for others.
	frames int
}

// smallBody is sent in one piece at the end of a turn.
const smallBody = 8000

// idlersOf are clients of each protocol.
var idlersOf = map[string]func(t *testing.T, answered *atomic.Int32, log option) idler{
	"HTTP1": func(t *testing.T, answered *atomic.Int32, log option) idler {
		c := start(t, []string{smallAnswers(t, answered)}, log).dial()
		return idler{c.TCPConn, func(int) { c.send(get) }, func(n int) {
			for range n {
				c.receive("GET")
			}
		}, 0}
	},
	"HTTP1 with TLS": func(t *testing.T, answered *atomic.Int32, log option) idler {
		c := startTLS(t, smallAnswers(t, answered), log).dialTLS()
		return idler{c.raw, func(int) { c.send(getOverTLS) }, func(n int) {
			for range n {
				c.receive()
			}
		}, 0}
	},
	"HTTP2": func(t *testing.T, answered *atomic.Int32, log option) idler {
		return idleStreams(start(t, []string{smallAnswers(t, answered)}, log).h2(idleWindow), 2*9+3, h2get())
	},
	"gRPC": func(t *testing.T, answered *atomic.Int32, log option) idler {
		h2 := func(_ *server.Options, c *config.Config) { c.Clusters[0].Protocol = config.BackendH2 }
		r := start(t, []string{smallCalls(t, answered)}, log, h2)
		return idleStreams(r.h2(idleWindow), 3*9+3, grpcCall("/p.Service/Method"))
	},
}

var idleWindow = http2.Setting{ID: http2.SettingInitialWindowSize, Val: 1 << 30}

// idleStreams has all the window that there can be, so that only the socket holds responses back.
func idleStreams(c *h2client, frames int, head []string) idler {
	c.must(c.WriteWindowUpdate(0, 1<<30))
	return idler{c.TCPConn, func(n int) { c.headers(uint32(2*n+1), true, head) }, func(n int) {
		for ended := 0; ended < n; { // in whatever order
			f := c.next()
			if f == nil {
				c.t.Fatalf("the connection has ended after %d responses", ended)
			}
			if f.Header().Flags.Has(http2.FlagDataEndStream) { // of HEADERS it is the same one
				ended++
			}
		}
	}, frames}
}

// smallAnswers is a back end that says how many requests it has answered; smallCalls one for gRPC.
func smallAnswers(t *testing.T, answered *atomic.Int32) string {
	answer := fmt.Sprintf("HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s", smallBody, strings.Repeat("x", smallBody))
	return newBackend(t, func(c *conn) {
		for c.head() != "" {
			c.write(answer)
			answered.Add(1)
		}
	}).addr
}

func smallCalls(t *testing.T, answered *atomic.Int32) string {
	return newH2BackendWith(t, func(p *h2peer) {
		for q := p.request(); q != nil; q = p.request() {
			p.respond(q.id, false, ":status: 200", "content-type: application/grpc")
			p.WriteData(q.id, false, make([]byte, smallBody))
			p.respond(q.id, true, "grpc-status: 0")
			answered.Add(1)
		}
	}).addr
}

// within reports whether something becomes true soon.
func within(f func() bool) bool {
	for range 300 {
		if f() {
			return true
		}
		time.Sleep(time.Millisecond)
	}
	return false
}

// TestTheTimeOfAClientThatDoesNotReadIsInClientWrite: its responses came singly, each is sent in one piece, and what its socket
// does not take has to wait.
func TestTheTimeOfAClientThatDoesNotReadIsInClientWrite(t *testing.T) {
	for name, open := range idlersOf {
		t.Run(name, func(t *testing.T) {
			var log testrig.Buffer
			var answered atomic.Int32
			c := open(t, &answered, logTo(&log))
			narrow(c.raw) // or it takes thousands of responses, and RAUTA's patience, until they are full
			lines := func() int { return strings.Count(log.String(), "\n") }

			asked := 0
			for further := -1; further < 20; asked++ {
				switch {
				case further >= 0:
					further++
				case !within(func() bool { return int(answered.Load()) == asked }), asked%16 == 0 &&
					!within(func() bool { return unread(t, c.raw) >= asked*(smallBody+c.frames) }): // what is in both sockets for a moment counts twice
					further = 0
				}
				if further >= 0 && c.frames == 0 {
					break
				}
				c.raw.SetDeadline(time.Now().Add(patience)) // a busy machine may take longer for all of them
				c.ask(asked)
				time.Sleep(time.Millisecond) // in which RAUTA passes on what was answered
			}
			time.Sleep(stageDelay)
			stuck := 1 // the next request is not even read
			if c.frames > 0 {
				if stuck = asked - unread(t, c.raw)/(smallBody+c.frames); stuck < 10 {
					t.Fatalf("%d responses have found room", asked)
				}
			}
			c.raw.SetDeadline(time.Now().Add(patience))
			c.all(asked)
			until(t, "all lines", func() bool { return lines() == asked })
			waited := 0
			for line := range strings.Lines(log.String()) {
				took, stages := stagesOf(t, line)
				if stages[observe.StageClientWrite.String()] < (stageDelay / 2).Microseconds() {
					continue
				}
				if waited++; took-stages[observe.StageClientWrite.String()] > (stageDelay / 2).Microseconds() {
					t.Errorf("others took long, too: %s", line)
				}
			}
			if waited < stuck {
				t.Errorf("%d of %d responses did not fit into the socket; %d waited for their client", stuck, asked, waited)
			}
		})
	}
}

// stagesOf reads a line of the access log, whose stages have to add up.
func stagesOf(t *testing.T, text string) (took int64, stages map[string]int64) {
	t.Helper()
	var line struct {
		Duration int64            `json:"duration_us"`
		Stages   map[string]int64 `json:"stages_us"`
	}
	if err := json.Unmarshal([]byte(text), &line); err != nil {
		t.Fatalf("%q: %v", text, err)
	}
	sum := int64(0)
	for stage, us := range line.Stages {
		if stage != observe.StageAcceptQueue.String() && stage != observe.StageSocketWait.String() {
			sum += us
		}
	}
	if d := line.Duration - sum; d < 0 || d > int64(observe.StageCount) { // each is rounded down
		t.Errorf("the stages add up to %d us of %d: %s", sum, line.Duration, text)
	}
	return line.Duration, line.Stages
}

// unread is the number of bytes that a connection's two sockets on this machine hold for its client.
func unread(t *testing.T, client net.Conn) (n int) {
	t.Helper()
	table, err := os.ReadFile("/proc/self/net/tcp")
	if err != nil {
		t.Fatal(err)
	}
	own, proxy := procAddr(client.LocalAddr()), procAddr(client.RemoteAddr())
	for line := range strings.Lines(string(table)) {
		f := strings.Fields(line)
		if len(f) < 5 {
			continue
		}
		sent, received, _ := strings.Cut(f[4], ":")
		switch {
		case f[1] == own && f[2] == proxy:
			n += fromHex(received)
		case f[1] == proxy && f[2] == own:
			n += fromHex(sent)
		}
	}
	return n
}

func procAddr(a net.Addr) string {
	tcp := a.(*net.TCPAddr)
	ip := tcp.IP.To4()
	return fmt.Sprintf("%02X%02X%02X%02X:%04X", ip[3], ip[2], ip[1], ip[0], tcp.Port)
}

func fromHex(s string) int {
	n, _ := strconv.ParseUint(s, 16, 64)
	return int(n)
}

func TestATunnelThatItsClientHoldsBackIsInClientWrite(t *testing.T) {
	overSockets(t, func(t *testing.T, m combination) {
		if planeOf(t) != nil {
			t.Skip("the reference engine takes all that there is")
		}
		var log testrig.Buffer
		r := m.startSockets(t, func(ctx context.Context, c *websocket.Conn) {
			for range slowBodyBytes >> 20 {
				if c.Write(ctx, websocket.MessageBinary, make([]byte, 1<<20)) != nil {
					return
				}
			}
			c.Close(websocket.StatusNormalClosure, "")
		}, logTo(&log))
		c := m.openSocket(t, r)
		time.Sleep(2 * stageDelay) // until the buffers are full, it is the back end's turn
		for {
			if _, in, err := c.Reader(patient(t)); err != nil {
				break
			} else if _, err := io.Copy(io.Discard, in); err != nil {
				break
			}
		}
		wantStage(t, &log, observe.StageClientWrite)
	})
}
