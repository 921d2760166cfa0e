package blackbox

import (
	"fmt"
	"io"
	"strings"
	"testing"
	"time"

	"golang.org/x/net/http2"

	"rauta.io/rauta/internal/testrig"
	"rauta.io/rauta/proxy/config"
	"rauta.io/rauta/proxy/observe"
	"rauta.io/rauta/proxy/server"
)

// stageDelay is how long the slow part of a test takes.
const stageDelay = time.Second

// clockTurn is more than a turn of a loop takes, during which its clock stands still.
const clockTurn = 20 * time.Millisecond

// logTo sets an access log.
func logTo(log *testrig.Buffer) option {
	return func(o *server.Options, _ *config.Config) {
		o.Registry.SetAccessLog(observe.NewAccessLog(log, observe.AccessLogOptions{}))
	}
}

// wantStage waits for the only line of the access log: the stage must have taken at least the delay, which is then in no
// other, for together they take as long as the exchange. How long the others may take is a matter of the machine.
func wantStage(t *testing.T, log *testrig.Buffer, stage observe.Stage) {
	t.Helper()
	until(t, "the line of the access log", func() bool { return strings.Contains(log.String(), "\n") })
	duration, stages := stagesOf(t, log.String())
	if took := stages[stage.String()]; took < (stageDelay - clockTurn).Microseconds() {
		t.Errorf("%v took %d us of %d: %v", stage, took, duration, stages)
	}
}

// slowAt is a back end that waits before the head, or in the middle of the body.
func slowAt(stage observe.Stage) func(*conn) {
	return func(c *conn) {
		for c.head() != "" {
			if stage == observe.StageBackendTTFB {
				time.Sleep(stageDelay)
			}
			c.write("HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nab")
			if stage == observe.StageBackendBody {
				time.Sleep(stageDelay)
			}
			c.write("cd")
		}
	}
}

func TestWhatABackEndTakesIsTheStageInWhichItTookIt(t *testing.T) {
	for _, stage := range []observe.Stage{observe.StageBackendTTFB, observe.StageBackendBody} {
		for _, protocol := range []string{"HTTP1", "HTTP2"} {
			t.Run(stage.String()+protocol, func(t *testing.T) {
				var log testrig.Buffer
				r := start(t, []string{newBackend(t, slowAt(stage)).addr}, logTo(&log))
				if protocol == "HTTP1" {
					if got := r.dial().do("GET / HTTP/1.1\r\nHost: a\r\n\r\n"); got.body != "abcd" {
						t.Errorf("the client got %q", got.body)
					}
				} else {
					c := r.h2()
					c.headers(1, true, h2get())
					if got := c.response(1); got.body != "abcd" {
						t.Errorf("the client got %q", got.body)
					}
				}
				wantStage(t, &log, stage)
			})
		}
	}
}

func TestABodyThatItsClientSendsSlowlyIsAStageOfItsOwn(t *testing.T) {
	var log testrig.Buffer
	b := newBackend(t, func(c *conn) {
		for c.head() != "" {
			c.read(4)
			c.write(ok)
		}
	})
	r := start(t, []string{b.addr}, logTo(&log))
	c := r.dial()
	c.send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\n\r\nab")
	time.Sleep(stageDelay)
	c.send("cd")
	c.receive("POST")
	wantStage(t, &log, observe.StageRequestBody)
}

// slowBodyBytes is more than all buffers between a back end and a client hold.
const slowBodyBytes = 32 << 20

func TestWhatASlowClientTakesIsNotTheBackEnds(t *testing.T) {
	body := strings.Repeat("x", slowBodyBytes)
	answer := fmt.Sprintf("HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s", len(body), body)
	onEveryEngine(t, func(t *testing.T) {
		var log testrig.Buffer
		r := start(t, []string{newBackend(t, answering(answer)).addr}, logTo(&log))
		c := r.dial()
		c.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n")
		time.Sleep(2 * stageDelay) // until the buffers are full, it is the back end's turn
		if got := c.receive("GET"); len(got.body) != len(body) {
			t.Errorf("the client got %d bytes", len(got.body))
		}
		wantStage(t, &log, observe.StageClientWrite)
	})
}

// TestAResponseThatMeetsAFullSocketAtItsEndHasToWaitForItsClient: each of these responses is small enough to be sent in one
// piece at the end of a turn, and all of them fill the socket of a client that does not read.
func TestAResponseThatMeetsAFullSocketAtItsEndHasToWaitForItsClient(t *testing.T) {
	const answers = 4000
	body := strings.Repeat("x", 8000)
	r := start(t, []string{newBackend(t, answering(fmt.Sprintf("HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s", len(body), body))).addr})
	c := r.dial()
	go io.WriteString(c.TCPConn, strings.Repeat(get, answers)) // ends when everything was read
	requests := func() float64 {
		return r.series(`rauta_requests_total{route="httproute/default/all",method="GET",code="2xx"}`)
	}
	before := -1.0
	until(t, "a full socket", func() bool {
		time.Sleep(50 * time.Millisecond)
		now := requests()
		stands := now == before && now > 0
		before = now
		return stands
	})
	time.Sleep(stageDelay)
	for range answers {
		if got := c.receive("GET"); got.body != body {
			t.Fatalf("the client got %d bytes", len(got.body))
		}
	}
	until(t, "all requests", func() bool { return requests() == answers })
	if took := r.series(`rauta_request_stage_seconds_sum{route="httproute/default/all",stage="client_write"}`); took < stageDelay.Seconds()/2 {
		t.Errorf("responses waited for their client for %.3f s of %v", took, stageDelay)
	}
}

// TestWhatIsLeftWhenTheBackEndIsDoneIsTheClients: the response fits into the buffers between the two, but not into the
// window of the stream.
func TestWhatIsLeftWhenTheBackEndIsDoneIsTheClients(t *testing.T) {
	var log testrig.Buffer
	body := strings.Repeat("x", 1000)
	answer := fmt.Sprintf("HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s", len(body), body)
	r := start(t, []string{newBackend(t, answering(answer)).addr}, logTo(&log))
	c := r.h2(http2.Setting{ID: http2.SettingInitialWindowSize, Val: 10})
	c.headers(1, true, h2get())
	until(t, "the request under way", func() bool { return r.exposes(`rauta_requests_in_flight{route="httproute/default/all"} 1`) })
	time.Sleep(stageDelay)
	c.must(c.WriteWindowUpdate(1, 1000))
	if got := c.response(1); got.body != body {
		t.Errorf("the client got %d bytes", len(got.body))
	}
	wantStage(t, &log, observe.StageClientWrite)
	if !r.exposes(`rauta_requests_in_flight{route="httproute/default/all"} 0`) {
		t.Error("the request is still under way")
	}
}

func TestAResponseThatItsClientNeverTakesIsLoggedWhenItGoes(t *testing.T) {
	body := strings.Repeat("x", 1000)
	answer := fmt.Sprintf("HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s", len(body), body)
	for _, how := range []string{"reset", "close"} {
		t.Run(how, func(t *testing.T) {
			var log testrig.Buffer
			r := start(t, []string{newBackend(t, answering(answer)).addr}, logTo(&log))
			c := r.h2(http2.Setting{ID: http2.SettingInitialWindowSize, Val: 10})
			c.headers(1, true, h2get())
			for range 2 { // head and the first bytes: the rest waits for the window
				c.next()
			}
			if how == "reset" {
				c.must(c.WriteRSTStream(1, http2.ErrCodeCancel))
			} else {
				c.Close()
			}
			until(t, "the line of the access log", func() bool { return strings.Contains(log.String(), "\n") })
			if line := log.String(); strings.Contains(line, `"reason":""`) || !strings.Contains(line, `"status":200`) {
				t.Errorf("the log says %s", line)
			}
			until(t, "the end", func() bool { return r.exposes(`rauta_requests_in_flight{route="httproute/default/all"} 0`) })
		})
	}
}

// exposes reports whether the metrics have a line.
func (r *rig) exposes(line string) bool {
	var b strings.Builder
	r.registry.WritePrometheus(&b)
	return strings.Contains(b.String(), "\n"+line+"\n")
}
