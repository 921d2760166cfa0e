package server

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"rauta.io/rauta/proxy/config"
	"rauta.io/rauta/proxy/snapshot"
)

func TestExplainForetellsWhatAClientGets(t *testing.T) {
	backend := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.WriteHeader(299)
		io.WriteString(w, r.URL.RequestURI())
	}))
	defer backend.Close()
	s, port := startServer(t, 1)
	cfg, eps := everythingTo(port, backend.Listener.Addr().String())
	cfg.Routes[0].Rules[0].Matches[0].Path.Value = "/app"
	cfg.Routes[0].Rules[0].Filters = []config.Filter{{Rewrite: &config.Rewrite{
		Path: &config.PathModifier{Kind: config.PathPrefix, Value: "/inner"},
	}}}
	cfg.Listeners[0].Attached[0].Hostnames = []string{"shop.example.com"}
	if err := s.Publish(cfg, eps); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		method, host, target string
		headers              []string
		status               int
	}{
		{"GET", "shop.example.com", "/app/x?y=1", nil, 299},
		{"POST", "SHOP.example.com.", "/app", nil, 299},
		{"GET", "other.example.com", "/app", nil, 404},
		{"GET", "shop.example.com", "/application", nil, 404},
		{"GET", "shop.example.com", "/app/../secret", nil, 404},
		{"GET", "shop.example.com", "/app/%zz", nil, 400},
		{"GET", "shop.example.com", "/app", []string{"Host: other.example.com"}, 404},
		{"GET", "shop.example.com", "/app", []string{"Host: a", "Host: b"}, 400},
		{"GET", "shop.example.com", "/app", []string{"Content-Length: x"}, 400},
		{"GE T", "shop.example.com", "/app", nil, 400},
	} {
		url := fmt.Sprintf("http://%s:%d%s", c.host, port, c.target)
		e, err := s.Explain(c.method, url, c.headers)
		if err != nil {
			t.Errorf("%s %s: %v", c.method, url, err)
			continue
		}
		status, body := ask(t, port, c.method, c.host, c.target, c.headers)
		if status != c.status {
			t.Errorf("%s %s %v: the client gets %d, want %d", c.method, url, c.headers, status, c.status)
		}
		switch e.Outcome.Kind {
		case snapshot.OutcomeForward:
			if status != 299 || e.Outcome.Path != body {
				t.Errorf("%s %s: explained as forward of %s, the client gets %d %s", c.method, url, e.Outcome.Path, status, body)
			}
		default:
			if status != e.Outcome.Status {
				t.Errorf("%s %s %v: explained as %d (%s), the client gets %d", c.method, url, c.headers, e.Outcome.Status, e.Outcome.Reason, status)
			}
		}
	}
}

// ask sends a request byte for byte.
func ask(t *testing.T, port uint16, method, host, target string, headers []string) (int, string) {
	t.Helper()
	c, err := net.Dial("tcp", fmt.Sprintf("127.0.0.1:%d", port))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	c.SetDeadline(time.Now().Add(30 * time.Second))
	lines := []string{fmt.Sprintf("%s %s HTTP/1.1", method, target)}
	if !strings.HasPrefix(strings.Join(headers, "\n"), "Host:") {
		lines = append(lines, fmt.Sprintf("Host: %s:%d", host, port))
	}
	io.WriteString(c, strings.Join(append(lines, headers...), "\r\n")+"\r\n\r\n")
	resp, err := http.ReadResponse(bufio.NewReader(c), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, _ := io.ReadAll(resp.Body)
	return resp.StatusCode, string(body)
}

func TestExplainChoosesTheSocketByPortAndAddress(t *testing.T) {
	cfg, eps := everythingTo(8000)
	second := cfg.Listeners[0]
	second.Name, second.Address = "default/gw/second", "127.0.0.2"
	cfg.Listeners[0].Address = "127.0.0.1"
	cfg.Listeners = append(cfg.Listeners, second)
	live := snapshot.NewLive(snapshot.Options{Workers: 1})
	current, _, _, err := live.Publish(cfg, eps)
	if err != nil {
		t.Fatal(err)
	}
	for url, want := range map[string]string{
		"http://127.0.0.1:8000/":    "127.0.0.1:8000",
		"http://127.0.0.2:8000/":    "127.0.0.2:8000",
		"http://a.example.com:8000": "127.0.0.1:8000",
	} {
		e, err := Explain(current, "GET", url, nil)
		if err != nil || e.Port != want {
			t.Errorf("%s: got %+v, %v, want %s", url, e, err, want)
		}
	}
	if _, err := Explain(current, "GET", "http://127.0.0.1:8001/", nil); err == nil ||
		!strings.Contains(err.Error(), "the listeners are on 127.0.0.1:8000, 127.0.0.2:8000") {
		t.Errorf("a port without a listener: %v", err)
	}
}
