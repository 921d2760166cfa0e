package blackbox

import (
	"io"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/net/http2"

	"rauta.io/rauta/proxy/config"
	"rauta.io/rauta/proxy/observe"
	"rauta.io/rauta/proxy/server"
)

const (
	givenTrace  = "0af7651916cd43dd8448eb211c80319c"
	givenParent = "00-" + givenTrace + "-b7ad6b7169203331-01"
)

// TestTheLineOfARequestHasAllOfItsStages: bodies both ways, in two parts, of which the second one waits for the first.
func TestTheLineOfARequestHasAllOfItsStages(t *testing.T) {
	overTLSToo(t, func(t *testing.T, m combination) {
		var logs bothLogs
		first, goOn := make(chan struct{}), make(chan struct{})
		b := m.holdsBack(t, first, goOn)
		c := m.dial(t, m.start(t, []string{b.addr}, logs.set))
		c.begin(t, "POST", "01234", -1)
		<-first
		c.end(t)
		c.sees(t, 200)
		close(goOn)
		line := logs.line(t, `"attempts":1`, `"status":200`, `"bytes_in":5,"bytes_out":4`)
		line.spent(t, observe.StageRequestBody, observe.StageBackendTTFB, observe.StageBackendBody)
		if m.ca != nil {
			line.spent(t, observe.StageBackendConnect)
		}
		line.known(t, 1, b)
	})
}

// holdsBack is a back end that tells of the first part of a body of 5 bytes, and sends the second part of its own when it may.
func (m combination) holdsBack(t *testing.T, first chan<- struct{}, goOn <-chan struct{}) *backend {
	if m.backend == 1 {
		return m.serves1(t, func(c *conn) {
			c.head()
			c.read(len("5\r\n01234\r\n"))
			close(first)
			c.read(len("0\r\n\r\n"))
			c.write("HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nab")
			<-goOn
			c.write("cd")
			c.hang()
		})
	}
	return m.serves2(t, func(p *h2peer) {
		p.WriteSettings()
		q := p.request()
		for f := p.nextOf(q); f != nil; f = p.nextOf(q) {
			if _, isData := f.(*http2.DataFrame); isData {
				break
			}
		}
		close(first)
		p.body(q)
		p.respond(q.id, false, ":status: 200", "content-length: 4")
		p.WriteData(q.id, false, []byte("ab"))
		<-goOn
		p.WriteData(q.id, true, []byte("cd"))
		p.linger()
	})
}

func TestTheLineOfARequestOverTLSHasItsStagesAndItsTrace(t *testing.T) {
	for name, ask := range map[string]func(r *tlsRig){
		"HTTP1": func(r *tlsRig) { r.dialTLS().wants("ok") },
		"HTTP2": func(r *tlsRig) {
			c := r.dialH2()
			c.headers(1, true, []string{":method: GET", ":scheme: https", ":path: /", ":authority: a.test"})
			c.response(1)
		},
	} {
		t.Run(name, func(t *testing.T) {
			var logs bothLogs
			b := newBackend(t, answering(ok))
			ask(startTLS(t, b.addr, logs.set))
			line := logs.line(t, `"attempts":1`, `"status":200`)
			line.spent(t, observe.StageBackendTTFB)
			line.known(t, 1, b)
		})
	}
}

// halves is a tunnel.
type halves interface {
	io.ReadWriter
	CloseWrite() error
}

// upgraded is a client whose connection has become a tunnel.
type upgraded struct{ *client }

func (u upgraded) Read(p []byte) (int, error) { return u.r.Read(p) }

// openTunnel asks for a WebSocket as part of the given trace.
func (m combination) openTunnel(t *testing.T, r *rig) halves {
	if m.client == 2 {
		tn, reply := r.tunnel(t, h2connect("traceparent: "+givenParent), "")
		if reply.status != 200 {
			t.Fatal(reply.status)
		}
		return tn
	}
	c := r.dial()
	got := c.do(get1("Connection: upgrade", "Upgrade: websocket", "Sec-WebSocket-Version: 13",
		"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==", "traceparent: "+givenParent))
	if got.StatusCode != 101 {
		t.Fatal(got.StatusCode)
	}
	return upgraded{c}
}

func TestTheLineOfATunnelComesAtItsEndWithItsStagesAndItsTrace(t *testing.T) {
	overSockets(t, func(t *testing.T, m combination) {
		var logs bothLogs
		b := newBackend(t, switchingEcho)
		if m.backend == 2 {
			b = newH2BackendWith(t, echoTunnel, takesConnect)
		}
		tn := m.openTunnel(t, m.start(t, []string{b.addr}, logs.set))
		io.WriteString(tn, "hello")
		if _, err := io.ReadFull(tn, make([]byte, 5)); err != nil {
			t.Fatal(err)
		}
		if early := logs.access.String(); early != "" {
			t.Errorf("before the end the log says %s", early)
		}
		tn.CloseWrite()
		if rest, err := io.ReadAll(tn); len(rest) > 0 || err != nil {
			t.Errorf("then came %q, %v", rest, err)
		}
		line := logs.line(t, `"method":"GET"`, `"status":101`, `"attempts":1`, `"bytes_in":5,"bytes_out":5`, `"trace_id":"`+givenTrace+`"`)
		line.spent(t, observe.StageBackendTTFB, observe.StageBackendBody)
		line.known(t, 1, b)
	})
}

// TestAMirrorIsNotInTheLineOfItsRequest: it has not answered when the line comes.
func TestAMirrorIsNotInTheLineOfItsRequest(t *testing.T) {
	for _, protocol := range []string{"HTTP1", "HTTP2"} {
		t.Run(protocol, func(t *testing.T) {
			var logs bothLogs
			goOn := make(chan struct{})
			release := sync.OnceFunc(func() { close(goOn) })
			defer release()
			shadow := newBackend(t, func(c *conn) {
				c.head()
				<-goOn
				c.write("HTTP/1.1 500 Sorry\r\nContent-Length: 0\r\n\r\n")
				c.hang()
			})
			b := newBackend(t, answering(ok))
			r := startMirrored(t, b.addr, shadow.addr, logs.set)
			await, _ := askers[protocol](r, "/", givenParent)
			await()
			line := logs.line(t, `"attempts":1`, `"status":200`, `"endpoint":"`+b.addr+`"`, `"trace_id":"`+givenTrace+`"`)
			line.spent(t, observe.StageBackendTTFB)
			until(t, "the mirror", func() bool { return len(shadow.seen()) == 1 })
			line.known(t, 2, b, shadow)
			release()
			until(t, "the mirror's answer", func() bool { return r.shows(`rauta_mirrored_requests_total{result="answered"} 1`) })
			if n := strings.Count(logs.access.String(), "\n"); n != 1 {
				t.Errorf("%d lines", n)
			}
		})
	}
}

func TestWhatRAUTAAnswersItselfHasNoStageOfABackEnd(t *testing.T) {
	for name, c := range map[string]struct {
		with option
		want []string
	}{
		"redirect":   {filters(config.Filter{Redirect: &config.Redirect{Hostname: "b.example", Status: 302}}), []string{`"reason":"redirect"`, `"status":302`}},
		"answer":     {filters(config.Filter{Answer: &config.Answer{Status: 500, Reason: "unsupported_filter"}}), []string{`"reason":"unsupported_filter"`, `"status":500`}},
		"no weight":  {rule(func(r *config.Rule) { r.Backends[0].Weight = 0 }), []string{`"reason":"no_backend"`, `"status":500`}},
		"of backend": {backendRedirects, []string{`"reason":"redirect"`, `"status":301`}},
	} {
		for _, protocol := range []string{"HTTP1", "HTTP2"} {
			t.Run(name+", "+protocol, func(t *testing.T) {
				var logs bothLogs
				b := newBackend(t, answering(ok))
				await, _ := askers[protocol](start(t, []string{b.addr}, c.with, logs.set), "/", givenParent)
				await()
				logs.line(t, append(c.want, `"attempts":0`, `"trace_id":"`+givenTrace+`"`)...).known(t, 0, b)
			})
		}
	}
}

// backendRedirects has a filter of the back end redirect, after it was chosen.
func backendRedirects(_ *server.Options, c *config.Config) {
	c.Routes[0].Rules[0].Backends[0].Filters = []config.Filter{{Redirect: &config.Redirect{Hostname: "b.example", Status: 301}}}
}

// attemptDelay is how long an attempt takes, and the least wait before the next one.
const attemptDelay = 100 * time.Millisecond

// TestTheLineOfARetriedRequestHasTheStagesOfAllAttempts: each attempt takes as long as the delay, and so does the wait between.
func TestTheLineOfARetriedRequestHasTheStagesOfAllAttempts(t *testing.T) {
	retried := rule(func(r *config.Rule) {
		r.Retry = &config.Retry{Attempts: 1, Codes: []int{502, 503}, Backoff: config.Duration(attemptDelay)}
	})
	for name, c := range map[string]struct {
		with  option // beside the retry
		serve func(*conn)
		ask   asker
		want  string
	}{
		"answered, HTTP1":       {nil, failing("HTTP/1.1 503 Sorry\r\nContent-Length: 0\r\n\r\n", 1), askers["HTTP1"], `"status":200`},
		"answered, HTTP2":       {nil, failing("HTTP/1.1 503 Sorry\r\nContent-Length: 0\r\n\r\n", 1), askers["HTTP2"], `"status":200`},
		"answered, gRPC":        {overHTTP2, unavailableOnce, askers["gRPC"], `"grpc_status":"OK"`},
		"closed, HTTP1":         {nil, failing("", 1), askers["HTTP1"], `"status":200`},
		"closed always, HTTP2":  {nil, failing("", 2), askers["HTTP2"], `"reason":"upstream_closed","status":502`},
		"refused always, HTTP1": {nil, failing("HTTP/1.1 503 Sorry\r\nContent-Length: 0\r\n\r\n", 2), askers["HTTP1"], `"status":503,"backend_status":503`},
	} {
		t.Run(name, func(t *testing.T) {
			var logs bothLogs
			b := newBackend(t, c.serve)
			options := []option{retried, logs.set}
			if c.with != nil {
				options = append(options, c.with)
			}
			await, _ := c.ask(start(t, []string{b.addr}, options...), "/", givenParent)
			await()
			line := logs.line(t, `"attempts":2`, c.want, `"trace_id":"`+givenTrace+`"`)
			for stage, least := range map[observe.Stage]time.Duration{observe.StageBackendTTFB: 2 * attemptDelay, observe.StageProxy: attemptDelay} {
				if got := line.Stages[stage.String()]; got < (least - clockTurn).Microseconds() {
					t.Errorf("%v took %d us, not %v: %v", stage, got, least, line.Stages)
				}
			}
			line.known(t, 2, b)
		})
	}
}

// failing is a back end that fails so many requests, each after the delay: with an answer, or by the end of the connection.
func failing(answer string, times int) func(*conn) {
	return func(c *conn) {
		for c.head() != "" {
			time.Sleep(attemptDelay)
			switch {
			case len(c.b.seen()) > times:
				c.write(ok)
			case answer == "":
				return
			default:
				c.write(answer)
			}
		}
	}
}

// unavailableOnce is a back end for gRPC that refuses its first call.
func unavailableOnce(c *conn) {
	speakH2(c, func(p *h2peer) {
		p.WriteSettings()
		for q := p.request(); q != nil; q = p.request() {
			time.Sleep(attemptDelay)
			status := "grpc-status: 0"
			if len(c.b.seen()) == 1 {
				status = "grpc-status: 14"
			}
			p.respond(q.id, true, ":status: 200", "content-type: application/grpc", status)
		}
	})
}
