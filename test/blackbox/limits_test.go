package blackbox

import (
	"fmt"
	"io"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"rauta.io/rauta/fastpath"
	"rauta.io/rauta/fastpath/wire"
	"rauta.io/rauta/proxy/config"
	"rauta.io/rauta/proxy/message"
	"rauta.io/rauta/proxy/server"
)

func cluster(f func(*config.Cluster)) option {
	return func(_ *server.Options, c *config.Config) { f(&c.Clusters[0]) }
}

// TestAHeadIsServedUpToItsLimitsAndRefusedOneBeyond crosses every limit of a request head by the smallest step.
func TestAHeadIsServedUpToItsLimitsAndRefusedOneBeyond(t *testing.T) {
	line := func(n int) string { // a request line of n bytes
		return "GET /" + strings.Repeat("a", n-len("GET / HTTP/1.1")) + " HTTP/1.1\r\nHost: a\r\n\r\n"
	}
	fields := func(n int) string {
		return get1(strings.Split(strings.TrimSuffix(strings.Repeat("A: b\n", n-1), "\n"), "\n")...)
	}
	head := func(n int) string { // a head of two fields that counts as n bytes; the empty line does not
		rest := strings.TrimSuffix(get1("A: "), "\r\n")
		return get1("A: " + strings.Repeat("b", n-2*wire.FieldOverheadBytes-len(rest)))
	}
	cookies := func(n int) string { return get1("Cookie: " + strings.TrimSuffix(strings.Repeat("a=b; ", n), "; ")) }
	method := func(n int) string { return strings.Repeat("M", n) + " / HTTP/1.1\r\nHost: a\r\n\r\n" }
	host := func(n int) string {
		return "GET / HTTP/1.1\r\nHost: " + strings.Repeat("a.", n/2)[:n-1] + "a\r\n\r\n"
	}
	for _, c := range []struct {
		name   string
		make   func(int) string
		max    int
		status int
	}{
		{"request line", line, wire.RequestLineBytesMax, 414},
		{"fields", fields, message.FieldsMax, 431},
		{"head", head, wire.RequestHeadBytesMax, 431},
		{"cookies", cookies, wire.CookieCrumbsMax, 431},
		{"method", method, wire.MethodBytesMax, 400},
		{"host", host, wire.AuthorityBytesMax, 400},
	} {
		t.Run(c.name, func(t *testing.T) {
			b := newRecorder(t)
			r := start(t, []string{b.addr})
			if got := r.dial().do(c.make(c.max)); got.StatusCode != 200 {
				t.Errorf("at the limit: %d", got.StatusCode)
			}
			refused(t, sent(r, c.make(c.max+1)+canary), attack{c.name, "GET", c.status}, 0)
			if c.status == 400 || c.name == "cookies" {
				return // a whole line is looked at
			}
			// Who never ends the line or the head is refused too, without more bytes being read.
			raw := c.make(c.max * 2)
			refused(t, sent(r, raw[:len(raw)-4]), attack{c.name, "GET", c.status}, 0)
		})
	}
}

func sent(r *rig, raw string) *client {
	c := r.dial()
	io.WriteString(c.TCPConn, raw)
	return c
}

func TestAResponseHeadIsServedUpToItsLimits(t *testing.T) {
	head := func(n int) string {
		rest := "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nA: \r\n" // the empty line does not count
		return "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nA: " + strings.Repeat("b", n-2*wire.FieldOverheadBytes-len(rest)) + "\r\n\r\nok"
	}
	r := start(t, nil)
	for _, c := range []struct {
		name     string
		response string
		status   int
	}{
		{"largest head", head(wire.ResponseHeadBytesMax), 200},
		{"larger head", head(wire.ResponseHeadBytesMax + 1), 502},
		{"most fields", "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n" + strings.Repeat("A: b\r\n", message.FieldsMax-1) + "\r\nok", 200},
		{"more fields", "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n" + strings.Repeat("A: b\r\n", message.FieldsMax) + "\r\nok", 502},
		{"most interim responses", strings.Repeat("HTTP/1.1 100 Continue\r\n\r\n", 32) + ok, 200},
		{"more interim responses", strings.Repeat("HTTP/1.1 100 Continue\r\n\r\n", 33) + ok, 502},
	} {
		t.Run(c.name, func(t *testing.T) {
			b := newBackend(t, answering(c.response))
			r.publish(b.addr)
			if got := r.dial().do(post("", "Content-Length: 0")); got.StatusCode != c.status {
				t.Errorf("%d, want %d", got.StatusCode, c.status)
			}
		})
	}
}

func TestABodyIsServedUpToTheLimit(t *testing.T) {
	onEveryEngine(t, func(t *testing.T) {
		b := newRecorder(t)
		r := start(t, []string{b.addr}, rule(func(r *config.Rule) { r.BodyBytesMax = 10 }))
		if got := r.dial().do(post("0123456789", "Content-Length: 10")); got.StatusCode != 200 {
			t.Errorf("sized: %d", got.StatusCode)
		}
		if got := r.dial().do(post("5\r\n01234\r\n5\r\n56789\r\n0\r\n\r\n", chunkedLine)); got.StatusCode != 200 {
			t.Errorf("chunked: %d", got.StatusCode)
		}
		c := r.dial()
		c.send(post("a\r\n0123456789\r\n1\r\nx\r\n"+canary, chunkedLine))
		refused(t, c, attack{"", "POST", 413}, 0)
		if strings.Contains(b.bytes(), "canary") {
			t.Error("bytes behind the limit were passed on")
		}
	})
}

func TestAConnectionIsClosedAfterItsNumberOfRequests(t *testing.T) {
	b := newRecorder(t)
	r := start(t, []string{b.addr}, limits(func(l *fastpath.Limits) { l.RequestsPerConn = 3 }))
	c := r.dial()
	io.WriteString(c.TCPConn, strings.Repeat(get, 3)+canary)
	for i := range 3 {
		if got := c.receive("GET"); got.StatusCode != 200 || got.Close != (i == 2) {
			t.Fatalf("response %d: %d close=%v", i, got.StatusCode, got.Close)
		}
	}
	if rest, closed := c.closedByPeer(); !closed || len(rest) > 0 {
		t.Errorf("closed=%v, %q", closed, rest)
	}
}

func TestAnIdleConnectionIsClosed(t *testing.T) {
	b := newRecorder(t)
	r := start(t, []string{b.addr}, limits(func(l *fastpath.Limits) { l.KeepAlive = int64(100 * time.Millisecond) }))
	c := r.dial()
	for range 2 {
		if got := c.do(get); got.StatusCode != 200 || got.Close {
			t.Fatalf("%d close=%v", got.StatusCode, got.Close)
		}
	}
	if rest, closed := c.closedByPeer(); !closed || len(rest) > 0 {
		t.Errorf("closed=%v, %q", closed, rest)
	}
}

// TestABodyThatTricklesIsCutOff: one byte now and then keeps the pauses short, and is still too slow.
func TestABodyThatTricklesIsCutOff(t *testing.T) {
	b := newBackend(t, func(c *conn) { c.head(); io.Copy(io.Discard, c.r) })
	r := start(t, []string{b.addr}, limits(func(l *fastpath.Limits) {
		l.BodyRateMin, l.BodyRateGrace = 1<<30, int64(1500*time.Millisecond)
	}))
	for name, c := range map[string]struct{ head, trickle string }{
		"sized":             {post("", "Content-Length: 100000"), "x"},
		"chunked":           {post("", chunkedLine), "1\r\nx\r\n"},
		"chunk header":      {post("", chunkedLine), "0"},
		"chunk extension":   {post("1;", chunkedLine), "x"},
		"trailer that ends": {post("0\r\nA:", chunkedLine), "x"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel() // each waits for the grace to end
			c2 := r.dial()
			c2.send(c.head)
			done := make(chan bool)
			go func() {
				defer close(done)
				for range 10_000 {
					if _, err := io.WriteString(c2.TCPConn, c.trickle); err != nil {
						return
					}
					time.Sleep(100 * time.Millisecond)
				}
			}()
			want := 408
			if name == "chunk header" {
				want = 400 // 17 digits come first or not, both are refused
			}
			got := c2.receive("POST").StatusCode
			if got != want && !(name == "chunk header" && got == 408) {
				t.Errorf("%d, want %d", got, want)
			}
			c2.Close()
			<-done
		})
	}
}

// TestTheTimeInWhichAClientIsHeldBackIsNotItsOwn: it waits for a connection to the back end, then sends at a fair rate.
func TestTheTimeInWhichAClientIsHeldBackIsNotItsOwn(t *testing.T) {
	hold := make(chan bool)
	b := newBackend(t, func(c *conn) {
		for {
			head := c.head()
			switch {
			case head == "":
				return
			case strings.HasPrefix(head, "GET"):
				<-hold
			default:
				c.read(10)
			}
			c.write(ok)
		}
	})
	r := start(t, []string{b.addr}, func(o *server.Options, _ *config.Config) { o.Workers = 1 },
		cluster(func(c *config.Cluster) { c.ConnectionsMax = 1 }),
		limits(func(l *fastpath.Limits) { l.BodyRateMin, l.BodyRateGrace = 2, int64(200*time.Millisecond) }))
	first := r.dial()
	first.send(get)
	until(t, "the connection to be taken", func() bool { return len(b.seen()) == 1 })
	c := r.dial()
	c.send(post("", "Content-Length: 10", "Expect: 100-continue"))
	time.Sleep(3 * time.Second) // 2 bytes per second would be 6 by now
	close(hold)
	if got := c.receive("POST"); got.StatusCode != 100 {
		t.Fatalf("%d, want 100", got.StatusCode)
	}
	c.send("01234")
	time.Sleep(500 * time.Millisecond) // the rate is looked at in between
	c.send("56789")
	if got := c.receive("POST"); got.StatusCode != 200 {
		t.Errorf("%d", got.StatusCode)
	}
}

// TestAClientThatReadsNothingIsCutOffAndCostsLittle: what the back end gets rid of is bounded by the buffers on the way.
func TestAClientThatReadsNothingIsCutOffAndCostsLittle(t *testing.T) {
	const offered = 1 << 30
	for _, mode := range []string{"Content-Length: " + fmt.Sprint(offered), chunkedLine} {
		t.Run(mode, func(t *testing.T) {
			taken := make(chan int, 1)
			b := newBackend(t, func(c *conn) {
				c.head()
				c.write("HTTP/1.1 200 OK\r\n" + mode + "\r\n\r\n")
				part, n := strings.Repeat("x", 1<<20), 0
				if mode == chunkedLine {
					part = fmt.Sprintf("%x\r\n%s\r\n", len(part), part)
				}
				for n < offered {
					m, err := io.WriteString(c, part)
					n += m
					if err != nil {
						break
					}
				}
				taken <- n
			})
			r := start(t, []string{b.addr}, limits(func(l *fastpath.Limits) { l.WriteIdle = int64(300 * time.Millisecond) }))
			c := r.dial()
			c.send(get)
			select {
			case n := <-taken:
				if n > 64<<20 {
					t.Errorf("%d bytes were taken for a client that reads nothing", n)
				}
			case <-time.After(patience):
				t.Fatal("the back end is still held")
			}
			if _, err := io.Copy(io.Discard, c.r); err == nil {
				t.Error("the client sees an orderly end of a truncated response")
			}
			if got := r.dial().do("GET / HTTP/1.0\r\n\r\n"); got.StatusCode != 200 {
				t.Error(got.StatusCode)
			}
		})
	}
}

// TestABackEndThatReadsNothingHoldsTheClientBack is the other direction.
func TestABackEndThatReadsNothingHoldsTheClientBack(t *testing.T) {
	b := newBackend(t, func(c *conn) { c.head(); time.Sleep(patience) })
	r := start(t, []string{b.addr}, rule(func(r *config.Rule) { r.Timeouts.Request = config.Duration(time.Second) }))
	const offered = 1 << 30
	c := r.dial()
	c.send(post("", fmt.Sprint("Content-Length: ", offered)))
	part, n := strings.Repeat("x", 1<<20), 0
	for n < offered {
		m, err := io.WriteString(c.TCPConn, part)
		n += m
		if err != nil {
			break
		}
	}
	if n > 64<<20 {
		t.Errorf("%d bytes were taken for a back end that reads nothing", n)
	}
}

// TestOnlySoMuchIsReadAfterAnEarlyAnswer: a client that goes on sending is cut off.
func TestOnlySoMuchIsReadAfterAnEarlyAnswer(t *testing.T) {
	r := start(t, nil, limits(func(l *fastpath.Limits) { l.LingerBytes = 10_000 }))
	c := r.dial()
	c.send(post("", "Content-Length: 1000000000"))
	if got := c.receive("POST"); got.StatusCode != 503 || !got.Close {
		t.Fatalf("%d close=%v", got.StatusCode, got.Close)
	}
	n := 0
	for ; n < 100<<20; n += 1 << 20 {
		if _, err := io.WriteString(c.TCPConn, strings.Repeat("x", 1<<20)); err != nil {
			break
		}
	}
	if n >= 100<<20 {
		t.Error("the proxy reads without end")
	}
}

func TestAClientThatStaysAfterItsAnswerIsCutOff(t *testing.T) {
	r := start(t, nil, limits(func(l *fastpath.Limits) { l.LingerTime = int64(100 * time.Millisecond) }))
	c := r.dial()
	c.send(post("", "Content-Length: 10"))
	if got := c.receive("POST"); got.StatusCode != 503 {
		t.Fatal(got.StatusCode)
	}
	until(t, "the connection to be closed", func() bool {
		_, err := io.WriteString(c.TCPConn, "x")
		return err != nil
	})
}

// TestTheOldestIdleConnectionMakesRoom: over the limit, connections that wait for a request are closed, oldest first; those
// that work are left alone; and a loop that may not accept does not spin.
func TestTheOldestIdleConnectionMakesRoom(t *testing.T) {
	const most = 40
	hold := make(chan bool)
	b := newBackend(t, func(c *conn) {
		for {
			head := c.head()
			if head == "" {
				return
			}
			if strings.Contains(head, "/held") {
				<-hold
			}
			c.write(ok)
		}
	})
	r := start(t, []string{b.addr}, func(o *server.Options, _ *config.Config) { o.ConnectionsMax = most })
	held := r.dial()
	held.send("GET /held HTTP/1.1\r\nHost: a\r\n\r\n")
	until(t, "the held request", func() bool { return len(b.seen()) == 1 })
	var first *client
	for i := range 3 * most {
		c := r.dial()
		if got := c.do(get); got.StatusCode != 200 {
			t.Fatalf("connection %d: %d", i, got.StatusCode)
		}
		if i == 0 {
			first = c
		}
	}
	if rest, closed := first.closedByPeer(); !closed || len(rest) > 0 {
		t.Errorf("the oldest idle connection: closed=%v, %q", closed, rest)
	}
	close(hold)
	if got := held.receive("GET"); got.StatusCode != 200 {
		t.Errorf("the connection that worked got %d", got.StatusCode)
	}
}

func TestALoopThatMayNotAcceptDoesNotSpin(t *testing.T) {
	const most = 4
	hold := make(chan bool)
	b := newBackend(t, func(c *conn) {
		for c.head() != "" {
			<-hold
			c.write(ok)
		}
	})
	r := start(t, []string{b.addr}, func(o *server.Options, _ *config.Config) { o.ConnectionsMax = most })
	var clients []*client
	for range 3 * most {
		c := r.dial()
		c.send(get)
		clients = append(clients, c)
	}
	until(t, "the requests that fit", func() bool { return len(b.seen()) >= most })
	before := cpuTime(t)
	time.Sleep(500 * time.Millisecond)
	if used := cpuTime(t) - before; used > 400*time.Millisecond {
		t.Errorf("%v of processor time in half a second of waiting", used)
	}
	if n := len(b.seen()); n > most {
		t.Errorf("%d requests are under way, the limit is %d connections", n, most)
	}
	close(hold)
	for i, c := range clients { // those that waited to be accepted come in turn
		if got := c.receive("GET"); got.StatusCode != 200 {
			t.Errorf("client %d: %d", i, got.StatusCode)
		}
		c.Close()
	}
}

func cpuTime(t *testing.T) time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		t.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// TestConnectionsAndQueuesOfAnEndpointAreBounded: one worker, so that numbers are exact.
func TestConnectionsAndQueuesOfAnEndpointAreBounded(t *testing.T) {
	const connections, pending, requests = 2, 3, 10
	hold := make(chan bool)
	var once sync.Once
	release := func() { once.Do(func() { close(hold) }) }
	defer release()
	b := newBackend(t, func(c *conn) {
		for c.head() != "" {
			<-hold
			c.write(ok)
		}
	})
	r := start(t, []string{b.addr}, func(o *server.Options, _ *config.Config) { o.Workers = 1 },
		cluster(func(c *config.Cluster) { c.ConnectionsMax, c.PendingMax = connections, pending }))
	var busy []*client
	for range connections {
		c := r.dial()
		c.send(get)
		busy = append(busy, c)
		until(t, "a busy connection", func() bool { return len(b.seen()) == len(busy) })
	}
	var mu sync.Mutex
	answers := map[int]int{}
	var wait sync.WaitGroup
	for range requests {
		c := r.dial()
		c.send(get)
		wait.Go(func() {
			got := c.receive("GET")
			mu.Lock()
			answers[got.StatusCode]++
			mu.Unlock()
		})
	}
	until(t, "the requests that do not fit to be refused", func() bool {
		mu.Lock()
		defer mu.Unlock()
		return answers[503] == requests-pending
	})
	release()
	wait.Wait()
	if answers[200] != pending || answers[503] != requests-pending {
		t.Errorf("%v, want %d of 200 and the rest 503", answers, pending)
	}
	for _, c := range busy {
		if got := c.receive("GET"); got.StatusCode != 200 {
			t.Error(got.StatusCode)
		}
	}
	if n := b.connections(); n > connections {
		t.Errorf("%d connections, the limit is %d", n, connections)
	}
}
