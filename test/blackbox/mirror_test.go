package blackbox

import (
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"rauta.io/rauta/proxy/config"
	"rauta.io/rauta/proxy/server"
)

// shadow is a back end for mirrors, in HTTP/1.1 or HTTP/2; it notes what it gets.
type shadow struct {
	addr string
	mu   sync.Mutex
	seen []string
}

func newShadow(t *testing.T, before func()) *shadow {
	s := &shadow{}
	backend := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if before != nil {
			before()
		}
		body, err := io.ReadAll(r.Body)
		s.mu.Lock()
		defer s.mu.Unlock()
		s.seen = append(s.seen, fmt.Sprintf("%s %s %s %s %q %d %v", r.Proto, r.Method, r.Host, r.RequestURI, r.Header.Get("X-Test"), len(body), err))
		http.Error(w, "of no interest", 500)
	}))
	backend.Config.Protocols = new(http.Protocols)
	backend.Config.Protocols.SetHTTP1(true)
	backend.Config.Protocols.SetUnencryptedHTTP2(true)
	backend.Start()
	t.Cleanup(backend.Close)
	s.addr = backend.Listener.Addr().String()
	return s
}

func (s *shadow) got() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]string(nil), s.seen...)
}

const shadowCluster = "default/shadow:80"

// mirrored has the rule mirror everything to the shadow.
func mirrored(_ *server.Options, c *config.Config) {
	c.Clusters = append(c.Clusters, config.Cluster{Name: shadowCluster})
	c.Routes[0].Rules[0].Filters = []config.Filter{{Mirror: &config.Mirror{Cluster: shadowCluster}}}
}

func startMirrored(t *testing.T, endpoint, shadow string, options ...option) *rig {
	t.Helper()
	r := start(t, nil, append([]option{mirrored}, options...)...)
	eps := config.Endpoints{"default/app:80": {{Address: endpoint}}, shadowCluster: {{Address: shadow}}}
	if err := r.server.Publish(r.config, eps); err != nil {
		t.Fatal(err)
	}
	return r
}

func TestRequestsAreMirroredWithTheirBodies(t *testing.T) {
	onEveryEngine(t, func(t *testing.T) {
		s := newShadow(t, nil)
		r := startMirrored(t, echo(t), s.addr)
		twice(t, func(t *testing.T, client *http.Client) {
			before := len(s.got())
			for _, c := range []struct {
				method string
				bytes  int
				length bool
			}{{"GET", 0, true}, {"POST", 5, true}, {"POST", 5, false}, {"PUT", 50_000, true}} {
				body := io.Reader(strings.NewReader(strings.Repeat("x", c.bytes)))
				if !c.length {
					body = io.MultiReader(body)
				}
				if c.bytes == 0 {
					body = nil
				}
				req, err := http.NewRequest(c.method, "http://"+r.addr+"/path?q=1", body)
				if err != nil {
					t.Fatal(err)
				}
				req.Host = "a.example"
				req.Header.Set("X-Test", "yes")
				resp, err := client.Do(req)
				if err != nil {
					t.Fatal(err)
				}
				got, err := io.ReadAll(resp.Body)
				resp.Body.Close()
				if err != nil || resp.StatusCode != 200 || len(got) != c.bytes {
					t.Fatalf("%s: %d, %d bytes, %v", c.method, resp.StatusCode, len(got), err)
				}
				before++
				until(t, "the mirror", func() bool { return len(s.got()) == before })
				if got, want := s.got()[before-1], fmt.Sprintf(`HTTP/1.1 %s a.example /path?q=1 "yes" %d <nil>`, c.method, c.bytes); got != want {
					t.Errorf("the mirror got %s, want %s", got, want)
				}
			}
		})
	})
}

func TestAMirrorThatHangsIsNotNoticed(t *testing.T) {
	onEveryEngine(t, func(t *testing.T) {
		release := make(chan struct{})
		defer close(release)
		s := newShadow(t, func() { <-release })
		r := startMirrored(t, echo(t), s.addr)
		c := r.dial()
		for range 300 { // more than one worker has under way
			if got := c.do("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabc"); got.StatusCode != 200 || got.body != "abc" {
				t.Fatalf("%d %q", got.StatusCode, got.body)
			}
		}
	})
}

func TestAMirrorThatReadsNothingIsNotNoticed(t *testing.T) {
	onEveryEngine(t, func(t *testing.T) {
		b := newBackend(t, func(c *conn) { time.Sleep(patience) })
		r := startMirrored(t, echo(t), b.addr)
		const size = 20 << 20 // more than all buffers
		resp, err := http.Post("http://"+r.addr, "text/plain", strings.NewReader(strings.Repeat("x", size)))
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		if n, err := io.Copy(io.Discard, resp.Body); err != nil || n != size {
			t.Fatalf("%d bytes, %v", n, err)
		}
	})
}

func TestAMirrorThatIsNotThereIsNotNoticed(t *testing.T) {
	onEveryEngine(t, func(t *testing.T) {
		b := newBackend(t, func(*conn) {})
		b.l.Close()
		c := startMirrored(t, hello(t), b.addr).dial()
		for range 20 {
			if got := c.do(get); got.StatusCode != 200 {
				t.Fatalf("%d", got.StatusCode)
			}
		}
	})
}

func TestMirrorsSpeakHTTP2ToTheirClusterToo(t *testing.T) {
	s := newShadow(t, nil)
	r := startMirrored(t, echo(t), s.addr, func(_ *server.Options, c *config.Config) {
		c.Clusters[1].Protocol = config.BackendH2
	})
	if got := r.dial().do("POST /x HTTP/1.1\r\nHost: a\r\nX-Test: h2\r\nContent-Length: 3\r\n\r\nabc"); got.StatusCode != 200 {
		t.Fatal(got.StatusCode)
	}
	until(t, "the mirror", func() bool { return len(s.got()) == 1 })
	if got, want := s.got()[0], `HTTP/2.0 POST a /x "h2" 3 <nil>`; got != want {
		t.Errorf("the mirror got %s, want %s", got, want)
	}
}
