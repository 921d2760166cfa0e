package exchange

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"

	"rauta.io/rauta/proxy/clock"
	"rauta.io/rauta/proxy/config"
	"rauta.io/rauta/proxy/message"
	"rauta.io/rauta/proxy/observe"
	"rauta.io/rauta/proxy/snapshot"
	"rauta.io/rauta/proxy/upstream"
)

// sim is a worker without a loop: the clock is moved by hand, clients and back ends are fakes.
type sim struct {
	t      testing.TB
	w      *Worker
	dialer *fakeDialer
	cfg    *config.Config
	port   *PortRef
	reg    *observe.Registry
	log    *observe.AccessLog
	lines  bytes.Buffer
}

const clusterName = "ns/app:80"

// newSim has one rule, which change may edit, for a cluster with the given number of endpoints.
func newSim(t testing.TB, endpoints int, change func(*config.Config)) *sim {
	cfg := &config.Config{
		Listeners: []config.Listener{{
			Name: "l", Port: 80, Protocol: config.ProtocolHTTP,
			Attached: []config.Attachment{{Route: "r", Hostnames: []string{""}}},
		}},
		Routes: []*config.Route{{
			Name: "r", Source: config.Source{Kind: "HTTPRoute", Namespace: "ns", Name: "r"},
			Rules: []config.Rule{{
				Name:     "0",
				Matches:  []config.Match{{Path: config.PathMatch{Kind: config.PathPrefix, Value: "/"}}},
				Backends: []config.Backend{{Cluster: clusterName, Weight: 1}},
			}},
		}},
		Clusters: []config.Cluster{{Name: clusterName}},
	}
	if change != nil {
		change(cfg)
	}
	reg := observe.NewRegistry(observe.Options{Workers: 1, Methods: message.MethodNames()})
	live := snapshot.NewLive(snapshot.Options{
		Workers: 1, Registry: reg, DefaultAddress: "127.0.0.1", NextProtos: []string{"http/1.1"},
	})
	eps := config.Endpoints{}
	for i := range endpoints {
		eps[clusterName] = append(eps[clusterName], config.Endpoint{Address: fmt.Sprintf("10.0.0.%d:80", i+1)})
	}
	if _, _, _, err := live.Publish(cfg, eps); err != nil {
		t.Fatal(err)
	}
	s := &sim{t: t, dialer: &fakeDialer{}, cfg: cfg, port: NewPortRef(netip.MustParseAddrPort("127.0.0.1:80"))}
	s.dialer.sim, s.reg = s, reg
	wheel := clock.NewWheel(1e9)
	date := []byte("Tue, 14 Nov 2023 22:13:20 GMT")
	s.w = &Worker{
		Settings: &Settings{}, Live: live, Clock: wheel, Shard: reg.Shard(0),
		Upstream:  upstream.NewWorker(0, wheel, s.dialer, 1),
		WallClock: func() int64 { return 1_700_000_000e9 + int64(wheel.Now()) },
		HTTPDate:  func() []byte { return date },
	}
	s.log = observe.NewAccessLog(&s.lines, observe.AccessLogOptions{})
	reg.SetAccessLog(s.log)
	t.Cleanup(s.log.Close)
	return s
}

// rule edits the only rule of a simulation.
func rule(f func(*config.Rule)) func(*config.Config) {
	return func(c *config.Config) { f(&c.Routes[0].Rules[0]) }
}

func (s *sim) advance(d time.Duration) {
	for end := s.w.Clock.Now() + clock.Time(d); s.w.Clock.Now() < end; {
		s.w.Clock.Advance(min(s.w.Clock.Now()+clock.Tick, end))
	}
}

// entry is what the access log says about one exchange.
type entry struct {
	Reason        string `json:"reason"`
	Status        int    `json:"status"`
	BackendStatus int    `json:"backend_status"`
	GRPCStatus    string `json:"grpc_status"`
	Attempts      int    `json:"attempts"`
	BytesIn       int    `json:"bytes_in"`
	BytesOut      int    `json:"bytes_out"`
	Endpoint      string `json:"endpoint"`
	Method        string `json:"method"`
	Duration      int64  `json:"duration_us"`

	Stages map[string]int64 `json:"stages_us"`
}

// logged returns all lines of the access log; nothing may be logged after it.
func (s *sim) logged() []entry {
	s.log.Close()
	var out []entry
	for _, line := range strings.Split(strings.TrimSpace(s.lines.String()), "\n") {
		var e entry
		if err := json.Unmarshal([]byte(line), &e); err != nil {
			s.t.Fatalf("%q: %v", line, err)
		}
		out = append(out, e)
	}
	return out
}

// one returns the only line of the access log.
func (s *sim) one() entry {
	s.t.Helper()
	all := s.logged()
	if len(all) != 1 {
		s.t.Fatalf("%d exchanges were logged, want 1", len(all))
	}
	return all[0]
}

// wantMetric looks for a line of the exposition.
func (s *sim) wantMetric(line string) {
	s.t.Helper()
	var b strings.Builder
	s.reg.WritePrometheus(&b)
	if !strings.Contains(b.String(), "\n"+line+"\n") {
		s.t.Errorf("the metrics have no line %s", line)
	}
}

// fakeClient is one request of a client: it starts the exchange and notes what it is told.
type fakeClient struct {
	s      *sim
	x      *Exchange
	peer   Peer
	events []string
	status int // of the final head
	fields map[string]string
	closes bool
	data   int  // bytes of body
	full   bool // takes no more
	paused bool
	over   bool
	silent bool // keeps no events
	slow   bool // its socket is full when the response ends
}

func (c *fakeClient) note(format string, args ...any) {
	if c.over {
		c.s.t.Errorf("the client was called after its exchange was over: "+format+"; before that %q", append(args, c.events)...)
	}
	if !c.silent {
		c.events = append(c.events, fmt.Sprintf(format, args...))
	}
}

func (c *fakeClient) SendHead(r *message.Response) {
	if c.status >= 200 {
		c.s.t.Errorf("a second final head, %d", r.Status)
	}
	c.status, c.closes = r.Status, r.Close
	if c.silent {
		return
	}
	c.note("head %d", r.Status)
	c.fields = map[string]string{}
	for i := range r.Fields {
		if f := &r.Fields[i]; f.ID != message.Removed {
			c.fields[strings.ToLower(string(r.Bytes(f.Name)))] = string(r.Bytes(f.Value))
		}
	}
}

func (c *fakeClient) SendData(p []byte) bool {
	if c.status < 200 && c.status != 101 {
		c.s.t.Error("body before the final head")
	}
	if !c.silent {
		c.note("data %s", p)
	}
	c.data += len(p)
	return !c.full
}

func (c *fakeClient) SendEnd(trailers *message.Head) {
	if !c.silent {
		c.note("end%s", trailerText(trailers))
	}
}

// trailerText is empty without trailers.
func trailerText(h *message.Head) string {
	var b strings.Builder
	if h != nil {
		for i := range h.Fields {
			if f := &h.Fields[i]; f.ID != message.Removed {
				fmt.Fprintf(&b, " %s=%s", h.Bytes(f.Name), h.Bytes(f.Value))
			}
		}
	}
	return b.String()
}

// trailerFields makes trailers; lines are "name: value".
func trailerFields(lines ...string) *message.Head {
	h := new(message.Head)
	for _, l := range lines {
		name, value, _ := strings.Cut(l, ": ")
		h.Add(name, value, message.LookupIDString(name))
	}
	return h
}

func (c *fakeClient) PauseBody() {
	c.paused = true
	if !c.silent {
		c.note("pause")
	}
}

func (c *fakeClient) ResumeBody() {
	c.paused = false
	if !c.silent {
		c.note("resume")
	}
}

func (c *fakeClient) Abort(cancelled bool) {
	if cancelled {
		c.note("cancel")
	} else {
		c.note("abort")
	}
	c.over = true
}

func (c *fakeClient) Finished() bool {
	if !c.silent {
		c.note("finished")
	}
	c.over = true
	return !c.slow
}

// wants compares the events so far, without the pauses and resumes when skipFlow.
func (c *fakeClient) wants(events ...string) {
	c.s.t.Helper()
	if got, want := strings.Join(c.events, ", "), strings.Join(events, ", "); got != want {
		c.s.t.Errorf("the client saw: %s; want: %s", got, want)
	}
}

// request makes an exchange that is not started yet. target is "METHOD path", lines are "Name: value".
func (s *sim) request(target string, lines ...string) *fakeClient {
	c := &fakeClient{s: s}
	c.peer = s.w.NewPeer(netip.MustParseAddr("192.0.2.1"), message.SchemeHTTP, s.port)
	s.fill(c, target, lines...)
	return c
}

func (s *sim) fill(c *fakeClient, target string, lines ...string) {
	c.x = s.w.New(c, &c.peer)
	r := &c.x.Req
	method, path, _ := strings.Cut(target, " ")
	r.Method, r.MethodID = r.StoreString(method), message.LookupMethod([]byte(method))
	r.Version = message.HTTP11
	r.Authority, r.Path = r.StoreString("a.example"), r.StoreString(path)
	r.ReceivedTarget = r.Path
	for _, l := range lines {
		name, value, _ := strings.Cut(l, ": ")
		r.Add(name, value, message.LookupIDString(name))
	}
}

// sized and chunked give a request a body, before start.
func (c *fakeClient) sized(n int64) *fakeClient {
	c.x.Req.Framing, c.x.Req.Length = message.Sized, n
	return c
}

func (c *fakeClient) chunked() *fakeClient {
	c.x.Req.Framing, c.x.Req.Length = message.Streamed, -1
	return c
}

func (c *fakeClient) start() *fakeClient {
	c.x.Start()
	return c
}

// get starts a GET.
func (s *sim) get() *fakeClient { return s.request("GET /").start() }

// fakeDialer notes what is dialled; tests answer.
type fakeDialer struct {
	sim     *sim
	pending []*upstream.Pool
	dials   int
	conns   []*fakeConn
	atOnce  bool
	// takesNothing has new connections take no more than what is sent at once.
	takesNothing bool
}

func (d *fakeDialer) Dial(p *upstream.Pool) {
	d.dials++
	if d.atOnce {
		d.ready(p)
		return
	}
	d.pending = append(d.pending, p)
}

func (d *fakeDialer) ready(p *upstream.Pool) *fakeConn {
	c := &fakeConn{s: d.sim, pool: p, full: d.takesNothing}
	d.conns = append(d.conns, c)
	p.Ready(c)
	return c
}

// connect answers the oldest dial with a connection, on which a waiting request starts.
func (d *fakeDialer) connect() *fakeConn {
	d.sim.t.Helper()
	if len(d.pending) == 0 {
		d.sim.t.Fatal("nothing was dialled")
	}
	p := d.pending[0]
	d.pending = d.pending[1:]
	return d.ready(p)
}

// refuse answers the oldest dial with a failure.
func (d *fakeDialer) refuse(cause upstream.Cause) {
	d.sim.t.Helper()
	if len(d.pending) == 0 {
		d.sim.t.Fatal("nothing was dialled")
	}
	p := d.pending[0]
	d.pending = d.pending[1:]
	p.DialFailed(upstream.Failure{Stage: upstream.StageConnect, Cause: cause})
}

// fakeConn is a connection to a back end and its stream.
type fakeConn struct {
	s      *sim
	pool   *upstream.Pool
	slot   upstream.Slot
	sink   upstream.Sink // nil between requests
	events []string
	sent   int // bytes of body
	body   []byte
	heads  int  // requests
	ended  bool // the request was sent completely
	full   bool
	paused bool
	gone   bool
	half   bool // has closed its half of a tunnel
	silent bool
	host   string
	path   string
	fields map[string][]string
}

func (c *fakeConn) Slot() *upstream.Slot { return &c.slot }
func (c *fakeConn) Capacity() int        { return 1 }
func (c *fakeConn) Close()               { c.gone = true }

func (c *fakeConn) Start(sink upstream.Sink) upstream.Stream {
	c.sink, c.ended, c.paused, c.sent = sink, false, false, 0
	c.body = nil
	return c
}

func (c *fakeConn) note(format string, args ...any) {
	if c.sink == nil || c.gone {
		c.s.t.Errorf("a stream that is over was called: "+format+"; before that %q", append(args, c.events)...)
	}
	if !c.silent {
		c.events = append(c.events, fmt.Sprintf(format, args...))
	}
}

func (c *fakeConn) SendHead(r *message.Request) {
	c.heads++
	c.ended = r.Framing == message.NoBody
	if c.silent {
		return
	}
	c.note("head %s %s", r.Bytes(r.Method), r.Bytes(r.Path))
	c.host, c.path = string(r.Bytes(r.Authority)), string(r.Bytes(r.Path))
	c.fields = map[string][]string{}
	for i := range r.Fields {
		if f := &r.Fields[i]; f.ID != message.Removed {
			name := strings.ToLower(string(r.Bytes(f.Name)))
			c.fields[name] = append(c.fields[name], string(r.Bytes(f.Value)))
		}
	}
}

func (c *fakeConn) SendData(p []byte) bool {
	if !c.silent {
		c.note("data %s", p)
		c.body = append(c.body, p...)
	}
	c.sent += len(p)
	return !c.full
}

func (c *fakeConn) SendEnd(trailers *message.Head) {
	if !c.silent {
		c.note("end%s", trailerText(trailers))
	}
	c.ended = true
}

func (c *fakeConn) PauseBody() {
	c.paused = true
	if !c.silent {
		c.note("pause")
	}
}

func (c *fakeConn) ResumeBody() {
	c.paused = false
	if !c.silent {
		c.note("resume")
	}
}

func (c *fakeConn) Cancel() {
	c.note("cancel")
	c.sink, c.gone = nil, true
	c.pool.Closed(c)
}

func (c *fakeConn) wants(events ...string) {
	c.s.t.Helper()
	if got, want := strings.Join(c.events, ", "), strings.Join(events, ", "); got != want {
		c.s.t.Errorf("the back end saw: %s; want: %s", got, want)
	}
}

// head sends a response head; lines are "Name: value".
func (c *fakeConn) head(status int, lines ...string) {
	r := &message.Response{Status: status, Version: message.HTTP11, Framing: message.Streamed, Length: -1}
	for _, l := range lines {
		name, value, _ := strings.Cut(l, ": ")
		if strings.EqualFold(name, "upgrade") {
			r.Upgrade = r.StoreString(value)
			continue
		}
		r.Add(name, value, message.LookupIDString(name))
	}
	c.sink.OnHead(r)
}

func (c *fakeConn) data(s string) { c.sink.OnData([]byte(s)) }

// end completes a response, and gives the connection back if the request was complete too.
func (c *fakeConn) end() { c.endWith(nil) }

// endWith is end with trailers.
func (c *fakeConn) endWith(trailers *message.Head) {
	sink := c.sink
	c.sink = nil
	sink.OnEnd(trailers)
	if c.ended {
		c.pool.Release(c)
	} else {
		c.gone = true
		c.pool.Closed(c)
	}
}

// answer sends a whole response.
func (c *fakeConn) answer(status int, body string) {
	c.head(status)
	if c.sink != nil {
		c.data(body)
		c.end()
	}
}

// fail breaks the connection.
func (c *fakeConn) fail(stage upstream.Stage, cause upstream.Cause) { c.failWith(stage, cause, "") }

// failWith is fail with a detail.
func (c *fakeConn) failWith(stage upstream.Stage, cause upstream.Cause, detail string) {
	sink := c.sink
	c.sink, c.gone = nil, true
	c.pool.Closed(c)
	sink.OnFailure(upstream.Failure{Stage: stage, Cause: cause, Detail: detail})
}
