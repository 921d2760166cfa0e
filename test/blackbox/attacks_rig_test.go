package blackbox

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"
)

// recorder is a strict back end that keeps every byte it was sent and answers each complete request with ok.
type recorder struct {
	*backend

	mu       sync.Mutex
	raw      bytes.Buffer // over all connections, as it came
	complete []string     // method and target of each request that came with its whole body
	open     int
}

func newRecorder(t *testing.T) *recorder {
	r := &recorder{}
	r.backend = newBackend(t, r.serve)
	return r
}

func (r *recorder) serve(c *conn) {
	r.mu.Lock()
	r.open++
	r.mu.Unlock()
	defer func() {
		r.mu.Lock()
		r.open--
		r.mu.Unlock()
	}()
	in := bufio.NewReader(io.TeeReader(c.Conn, lockedWriter{r}))
	for {
		req, err := http.ReadRequest(in)
		if err != nil {
			return
		}
		if _, err := io.Copy(io.Discard, req.Body); err != nil {
			return
		}
		r.mu.Lock()
		r.complete = append(r.complete, req.Method+" "+req.RequestURI)
		r.mu.Unlock()
		c.write(ok)
	}
}

type lockedWriter struct{ r *recorder }

func (w lockedWriter) Write(p []byte) (int, error) {
	w.r.mu.Lock()
	defer w.r.mu.Unlock()
	return w.r.raw.Write(p)
}

// bytes returns everything that came, over all connections in the order of arrival.
func (r *recorder) bytes() string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.raw.String()
}

// served returns method and target of the requests that came completely.
func (r *recorder) served() []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return append([]string(nil), r.complete...)
}

func (r *recorder) openConnections() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.open
}

// canary follows every bad request in the same bytes; it must never be served.
const canary = "GET /canary HTTP/1.1\r\nHost: canary.example\r\n\r\n"

// attack is a request that must be refused.
type attack struct {
	name   string
	raw    string
	status int
}

// splits are the positions at which an attack is cut into two sends: at the beginning, at the end, and in between.
func splits(n int) []int {
	at := []int{0}
	for _, i := range []int{1, n / 4, n / 2, 3 * n / 4, n - 2, n - 1} {
		if i > at[len(at)-1] && i < n {
			at = append(at, i)
		}
	}
	return at
}

// sendSplit sends raw in two parts; cut 0 means in one. The pause makes it likely that the parts are read one by one;
// what must come out does not depend on it.
func (c *client) sendSplit(raw string, cut int) {
	if cut > 0 {
		io.WriteString(c.TCPConn, raw[:cut])
		time.Sleep(time.Millisecond)
	}
	io.WriteString(c.TCPConn, raw[cut:]) // the answer may come, and the connection close, before everything is sent
}

// refuse sends every attack, whole and cut in two, and checks that it gets its status and nothing more, that the
// connection is closed, that no back end sees a request of it, and that the next connection is served.
func refuse(t *testing.T, attacks []attack, options ...option) {
	b := newRecorder(t)
	r := start(t, []string{b.addr}, options...)
	probes := 0
	for _, a := range attacks {
		t.Run(a.name, func(t *testing.T) {
			for _, cut := range splits(len(a.raw)) {
				c := r.dial()
				c.t = t
				c.sendSplit(a.raw+canary, cut)
				refused(t, c, a, cut)
				c.Close()
			}
			probes++
			c := r.dial()
			c.t = t
			if got := c.do(fmt.Sprintf("GET /probe/%d HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n", probes)); got.StatusCode != 200 {
				t.Fatalf("the next request got %d", got.StatusCode)
			}
		})
	}
	served := b.served()
	if len(served) != probes {
		t.Errorf("the back end served %d requests, want the %d probes only", len(served), probes)
	}
	for _, s := range served {
		if !strings.HasPrefix(s, "GET /probe/") {
			t.Errorf("the back end served %q", s)
		}
	}
	if strings.Contains(b.bytes(), "canary") {
		t.Error("bytes after a bad request reached the back end")
	}
}

// refused checks the answer to a. Its head is read by hand, because a client that looks for a second response must not
// be fooled by what it takes for a body.
func refused(t *testing.T, c *client, a attack, cut int) {
	t.Helper()
	method, _, _ := strings.Cut(a.raw, " ")
	resp, err := http.ReadResponse(c.r, &http.Request{Method: method})
	if err != nil {
		t.Fatalf("cut at %d: read the response: %v", cut, err)
	}
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Errorf("cut at %d: read the body: %v", cut, err)
	}
	if resp.StatusCode != a.status || !resp.Close {
		t.Errorf("cut at %d: %d close=%v, want %d and close", cut, resp.StatusCode, resp.Close, a.status)
	}
	if strings.Contains(string(body), "canary") {
		t.Errorf("cut at %d: the answer quotes the request: %q", cut, body)
	}
	rest, err := io.ReadAll(c.r)
	if err != nil || len(rest) > 0 {
		t.Errorf("cut at %d: after the answer came %q, error %v; want the end of the connection", cut, rest, err)
	}
}

// get1 is a GET with more header lines.
func get1(lines ...string) string {
	return "GET / HTTP/1.1\r\nHost: a\r\n" + strings.Join(lines, "\r\n") + "\r\n\r\n"
}

// post is a POST with header lines and bytes after the head.
func post(body string, lines ...string) string {
	return "POST / HTTP/1.1\r\nHost: a\r\n" + strings.Join(lines, "\r\n") + "\r\n\r\n" + body
}
