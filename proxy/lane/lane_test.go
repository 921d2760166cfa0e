package lane

import (
	"net"
	"net/netip"
	"runtime"
	"strings"
	"sync"
	"testing"

	"github.com/valyala/fasthttp"

	"rauta.io/rauta/proxy/message"
)

// mailbox is a worker's mailbox: one goroutine runs what is posted, in order.
type mailbox struct {
	posts chan func()
	ended sync.WaitGroup
}

func newMailbox(t *testing.T) *mailbox {
	m := &mailbox{posts: make(chan func(), 1024)}
	m.ended.Go(func() {
		for f := range m.posts {
			f()
		}
	})
	t.Cleanup(func() {
		close(m.posts)
		m.ended.Wait()
	})
	return m
}

func (m *mailbox) post(f func()) { m.posts <- f }

func started(t *testing.T, opt Options) *Lane {
	l := New(opt)
	l.Start()
	t.Cleanup(l.Stop)
	return l
}

func newRequest() *message.Request {
	r := &message.Request{Version: message.HTTP11, MethodID: message.MethodPost, HasQuery: true}
	r.Method = r.StoreString("POST")
	r.Path, r.Query = r.StoreString("/a%2fb"), r.StoreString("q=1&r")
	r.Authority = r.StoreString("shop.example:8080")
	r.Scheme = message.SchemeHTTPS
	r.Add("authorization", "Bearer x", message.Authorization)
	r.Add("X-Gone", "1", message.Unknown)
	r.RemoveName("x-gone", message.Unknown)
	return r
}

var client = netip.MustParseAddr("192.0.2.7")

// run submits one job and waits for its verdict.
func run(t *testing.T, l *Lane, h fasthttp.RequestHandler, body string) *Verdict {
	t.Helper()
	j := l.NewJob(h, newRequest(), client)
	if !j.AppendBody([]byte(body)) {
		t.Fatal("the body is refused")
	}
	got := make(chan *Verdict, 1)
	if !l.Submit(j, newMailbox(t).post, func(v *Verdict) { got <- v }) {
		t.Fatal("the lane is full")
	}
	return <-got
}

func TestAHandlerSeesTheRequest(t *testing.T) {
	l := started(t, Options{})
	run(t, l, func(ctx *fasthttp.RequestCtx) {
		for _, c := range []struct{ what, got, want string }{
			{"method", string(ctx.Method()), "POST"},
			{"URI", string(ctx.RequestURI()), "/a%2fb?q=1&r"},
			{"host", string(ctx.Host()), "shop.example:8080"},
			{"scheme", string(ctx.URI().Scheme()), "https"},
			{"field", string(ctx.Request.Header.Peek("Authorization")), "Bearer x"},
			{"removed field", string(ctx.Request.Header.Peek("X-Gone")), ""},
			{"body", string(ctx.PostBody()), "payload"},
			{"client", ctx.RemoteIP().String(), "192.0.2.7"},
		} {
			if c.got != c.want {
				t.Errorf("%s %q, want %q", c.what, c.got, c.want)
			}
		}
	}, "payload")
}

func TestTheCopyDoesNotChangeWithTheRequest(t *testing.T) {
	l := started(t, Options{})
	req := newRequest()
	received := []byte("GET /received HTTP/1.1")
	req.Received = received
	req.Path = message.Span{Off: 4, Len: 9}
	got := make(chan string, 1)
	j := l.NewJob(func(ctx *fasthttp.RequestCtx) { got <- string(ctx.Path()) }, req, client)
	copy(received, strings.Repeat("x", len(received)))
	req.Reset()
	over := make(chan bool)
	l.Submit(j, newMailbox(t).post, func(*Verdict) { close(over) })
	<-over
	if path := <-got; path != "/received" {
		t.Errorf("the handler saw %q", path)
	}
}

func TestAHandlerThatDoesNotContinueAnswers(t *testing.T) {
	v := run(t, started(t, Options{}), func(ctx *fasthttp.RequestCtx) {
		ctx.SetStatusCode(401)
		ctx.Response.Header.Set("WWW-Authenticate", "Basic")
		ctx.Response.Header.Set("Connection", "close")
		ctx.SetBodyString("who are you")
	}, "")
	if v.Action != ActionAnswer || v.Status != 401 || string(v.Body) != "who are you" || v.Reason != "" {
		t.Errorf("%+v", v)
	}
	found := false
	for _, f := range v.Fields {
		found = found || f == Field{"Www-Authenticate", "Basic"}
		if reserved(f.Name) {
			t.Errorf("the answer has %s", f.Name)
		}
	}
	if !found {
		t.Errorf("fields %v", v.Fields)
	}
}

func TestAHandlerThatDoesNothingDoesNotLetTheRequestThrough(t *testing.T) {
	if v := run(t, started(t, Options{}), func(*fasthttp.RequestCtx) {}, ""); v.Action != ActionAnswer {
		t.Error("the request goes on")
	}
}

func TestAHandlerThatContinuesEditsTheHead(t *testing.T) {
	v := run(t, started(t, Options{}), func(ctx *fasthttp.RequestCtx) {
		SetField(ctx, "X-User", "ann")
		RemoveField(ctx, "Authorization")
		Continue(ctx)
	}, "")
	if v.Action != ActionContinue {
		t.Fatalf("%+v", v)
	}
	req := newRequest()
	req.Add("x-user", "forged", message.Unknown)
	v.Apply(&req.Head)
	if req.Has(message.Authorization) {
		t.Error("the removed field is there")
	}
	var users []string
	for i := req.Lookup("x-user", message.Unknown, 0); i >= 0; i = req.Lookup("x-user", message.Unknown, i+1) {
		users = append(users, string(req.Bytes(req.Fields[i].Value)))
	}
	if len(users) != 1 || users[0] != "ann" {
		t.Errorf("X-User is %q, want ann only", users)
	}
}

func TestAnOutcomeThatCannotBeCarriedOutIsA500(t *testing.T) {
	l := started(t, Options{})
	handlers := map[string]fasthttp.RequestHandler{
		"line break in a value": func(ctx *fasthttp.RequestCtx) { SetField(ctx, "X-A", "a\r\nB: c"); Continue(ctx) },
		"bad name":              func(ctx *fasthttp.RequestCtx) { SetField(ctx, "X A", "a"); Continue(ctx) },
		"no name":               func(ctx *fasthttp.RequestCtx) { RemoveField(ctx, ""); Continue(ctx) },
		"framing":               func(ctx *fasthttp.RequestCtx) { SetField(ctx, "content-length", "5"); Continue(ctx) },
		"host":                  func(ctx *fasthttp.RequestCtx) { SetField(ctx, "Host", "b"); Continue(ctx) },
		"interim status":        func(ctx *fasthttp.RequestCtx) { ctx.SetStatusCode(101) },
		"hijack":                func(ctx *fasthttp.RequestCtx) { ctx.Hijack(func(net.Conn) {}); Continue(ctx) },
		"huge body":             func(ctx *fasthttp.RequestCtx) { ctx.SetBody(make([]byte, AnswerBytesMax+1)) },
		"huge stream":           func(ctx *fasthttp.RequestCtx) { ctx.SetBodyStream(endless{}, -1) },
	}
	for name, h := range handlers {
		if v := run(t, l, h, ""); v.Action != ActionAnswer || v.Status != 500 || v.Reason == "" {
			t.Errorf("%s: %+v", name, v)
		}
	}
	if n := l.Stats().Invalid; n != uint64(len(handlers)) {
		t.Errorf("%d were counted, want %d", n, len(handlers))
	}
}

type endless struct{}

func (endless) Read(p []byte) (int, error) { return len(p), nil }

func TestAStreamedAnswerIsReadHere(t *testing.T) {
	v := run(t, started(t, Options{}), func(ctx *fasthttp.RequestCtx) {
		ctx.SetBodyStream(strings.NewReader("streamed"), -1)
	}, "")
	if string(v.Body) != "streamed" || v.Status != 200 {
		t.Errorf("%+v", v)
	}
}

func TestAPanicIsA500AndTheLaneGoesOn(t *testing.T) {
	var panicked any
	l := started(t, Options{Goroutines: 1, OnPanic: func(v any, _ []byte) { panicked = v }})
	v := run(t, l, func(*fasthttp.RequestCtx) { panic("broken") }, "")
	if v.Action != ActionAnswer || v.Status != 500 || v.Reason != "lane_panic" {
		t.Errorf("%+v", v)
	}
	if v = run(t, l, func(ctx *fasthttp.RequestCtx) { Continue(ctx) }, ""); v.Action != ActionContinue {
		t.Errorf("the next job: %+v", v)
	}
	if l.Stats().Panics != 1 || panicked != "broken" {
		t.Errorf("counted %d, told %v", l.Stats().Panics, panicked)
	}
}

func TestAFullLaneRefusesAtOnce(t *testing.T) {
	l := started(t, Options{Goroutines: 1, Queue: 2})
	m := newMailbox(t)
	began, release := make(chan bool), make(chan bool)
	var done sync.WaitGroup
	submit := func(h fasthttp.RequestHandler) bool {
		done.Add(1)
		ok := l.Submit(l.NewJob(h, newRequest(), client), m.post, func(*Verdict) { done.Done() })
		if !ok {
			done.Done()
		}
		return ok
	}
	submit(func(*fasthttp.RequestCtx) { began <- true; <-release })
	<-began
	for i := range 2 {
		if !submit(func(*fasthttp.RequestCtx) {}) {
			t.Errorf("job %d does not fit into the queue", i)
		}
	}
	if submit(func(*fasthttp.RequestCtx) {}) {
		t.Error("a job beyond the queue was taken")
	}
	if s := l.Stats(); s.Full != 1 || s.Queued != 2 || s.Busy != 1 || s.Submitted != 3 {
		t.Errorf("%+v", s)
	}
	close(release)
	done.Wait()
}

func TestACancelledJobIsNotHeardOf(t *testing.T) {
	l := started(t, Options{Goroutines: 1})
	m := newMailbox(t)
	began, release := make(chan bool), make(chan bool)
	running := l.NewJob(func(*fasthttp.RequestCtx) { began <- true; <-release }, newRequest(), client)
	l.Submit(running, m.post, func(*Verdict) { t.Error("the verdict of the job that ran was delivered") })
	<-began
	waiting := l.NewJob(func(*fasthttp.RequestCtx) { t.Error("a cancelled job ran") }, newRequest(), client)
	l.Submit(waiting, m.post, func(*Verdict) { t.Error("the verdict of the job that waited was delivered") })
	cancelled := make(chan bool)
	m.post(func() { running.Cancel(); waiting.Cancel(); close(cancelled) })
	<-cancelled
	close(release)
	run(t, l, func(*fasthttp.RequestCtx) {}, "") // the queue is in order: both are over after this
	flushed := make(chan bool)
	m.post(func() { close(flushed) })
	<-flushed
	if n := l.Stats().Cancelled; n != 1 {
		t.Errorf("%d jobs were cancelled while they waited, want 1", n)
	}
}

func TestABodyOverTheLimitIsNotTaken(t *testing.T) {
	j := New(Options{BodyBytesMax: 4}).NewJob(nil, newRequest(), client)
	if !j.AppendBody([]byte("abc")) || j.AppendBody([]byte("de")) || !j.AppendBody([]byte("d")) {
		t.Errorf("%q was taken with a limit of 4 bytes", j.body)
	}
}

func TestStopAnswersWhatWaitsAndTakesNothingMore(t *testing.T) {
	l := New(Options{Goroutines: 1})
	m := newMailbox(t)
	if l.Submit(l.NewJob(func(*fasthttp.RequestCtx) {}, newRequest(), client), m.post, nil) {
		t.Error("a job was taken before Start")
	}
	l.Start()
	began, release := make(chan bool), make(chan bool)
	verdicts := make(chan *Verdict, 2)
	submit := func(h fasthttp.RequestHandler) bool {
		return l.Submit(l.NewJob(h, newRequest(), client), m.post, func(v *Verdict) { verdicts <- v })
	}
	submit(func(ctx *fasthttp.RequestCtx) { began <- true; <-release; Continue(ctx) })
	<-began
	submit(func(*fasthttp.RequestCtx) { t.Error("a job ran after Stop") })
	stopped := make(chan bool)
	go func() { l.Stop(); close(stopped) }()
	for !l.stopping.Load() {
		runtime.Gosched()
	}
	close(release)
	<-stopped
	if v := <-verdicts; v.Action != ActionContinue {
		t.Errorf("the job that ran: %+v", v)
	}
	if v := <-verdicts; v.Status != 503 || v.Reason != "lane_stopped" {
		t.Errorf("the job that waited: %+v", v)
	}
	if submit(func(*fasthttp.RequestCtx) {}) {
		t.Error("a job was taken after Stop")
	}
	l.Stop()
}

func TestManyWorkersShareALane(t *testing.T) {
	l := started(t, Options{Goroutines: 4, Queue: 64})
	const workers, jobs = 8, 200
	var all sync.WaitGroup
	for range workers {
		m := newMailbox(t)
		all.Go(func() {
			for range jobs {
				got := make(chan *Verdict, 1)
				j := l.NewJob(func(ctx *fasthttp.RequestCtx) { SetField(ctx, "X-User", "u"); Continue(ctx) }, newRequest(), client)
				if !l.Submit(j, m.post, func(v *Verdict) { got <- v }) {
					t.Error("refused below the limit")
					return
				}
				if v := <-got; v.Action != ActionContinue {
					t.Errorf("%+v", v)
				}
			}
		})
	}
	all.Wait()
	if s := l.Stats(); s.Done != workers*jobs || s.Busy != 0 {
		t.Errorf("%+v", s)
	}
}
