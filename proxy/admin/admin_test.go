package admin

import (
	"bytes"
	"compress/gzip"
	"encoding/json"
	"errors"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"testing"

	"rauta.io/rauta/proxy/observe"
)

// running is a pair of servers for a test.
type running struct{ admin, metrics string }

func run(t *testing.T, change func(*Sources)) running {
	t.Helper()
	src := Sources{
		Config:    func() any { return map[string]any{"generation": 7} },
		Listeners: func() any { return []string{"listener"} },
		Clusters:  func() any { return []string{"cluster <a>"} },
		Explain: func(method, url string, headers []string) (any, error) {
			if url == "bad" {
				return nil, errors.New("not a URL")
			}
			return map[string]any{"method": method, "url": url, "headers": headers}, nil
		},
		Ready:    func() (bool, string) { return true, "" },
		Registry: observe.NewRegistry(observe.Options{Workers: 1, Methods: []string{"OTHER", "GET"}}),
	}
	if change != nil {
		change(&src)
	}
	a := New(src)
	var l [2]net.Listener
	for i := range l {
		var err error
		if l[i], err = net.Listen("tcp", "127.0.0.1:0"); err != nil {
			t.Fatal(err)
		}
	}
	done := make(chan error, 1)
	go func() { done <- a.Serve(l[0], l[1], nil) }()
	t.Cleanup(func() {
		if err := a.Shutdown(); err != nil {
			t.Error(err)
		}
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	return running{"http://" + l[0].Addr().String(), "http://" + l[1].Addr().String()}
}

func get(t *testing.T, url string) (*http.Response, string) {
	t.Helper()
	resp, err := http.Get(url)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp, string(body)
}

func TestTheAdminAddressShowsTheInside(t *testing.T) {
	r := run(t, nil)
	for path, want := range map[string]string{
		"/config":              `"generation": 7`,
		"/listeners":           `"listener"`,
		"/clusters":            `"cluster <a>"`,
		"/":                    "/debug/pprof/",
		"/debug/pprof/":        "goroutine",
		"/debug/pprof/heap":    "",
		"/debug/pprof/cmdline": "",
	} {
		resp, body := get(t, r.admin+path)
		if resp.StatusCode != 200 || !strings.Contains(body, want) {
			t.Errorf("%s: %d %q, want %q in it", path, resp.StatusCode, body, want)
		}
	}
	if resp, _ := get(t, r.admin+"/config"); resp.Header.Get("Content-Type") != "application/json" {
		t.Errorf("Content-Type %q", resp.Header.Get("Content-Type"))
	}
}

func TestTheMetricsAddressShowsMetricsAndHealthAndNothingElse(t *testing.T) {
	r := run(t, nil)
	if resp, body := get(t, r.metrics+"/metrics"); resp.StatusCode != 200 || !strings.Contains(body, "# TYPE rauta_connections gauge") {
		t.Errorf("/metrics: %d %.200q", resp.StatusCode, body)
	}
	for _, path := range []string{"/healthz", "/readyz"} {
		if resp, body := get(t, r.metrics+path); resp.StatusCode != 200 || body != "ok\n" {
			t.Errorf("%s: %d %q", path, resp.StatusCode, body)
		}
	}
	for _, path := range []string{"/", "/config", "/explain?url=http://a/", "/debug/pprof/", "/listeners", "/clusters", "/metrics/", "/../config"} {
		if resp, _ := get(t, r.metrics+path); resp.StatusCode != 404 {
			t.Errorf("%s: %d, want 404", path, resp.StatusCode)
		}
	}
}

func TestThoseMetricsAreShownThatAreAskedFor(t *testing.T) {
	r := run(t, nil)
	resp, body := get(t, r.metrics+"/metrics?name%5B%5D=rauta_connections&name[]=rauta_retries_total")
	if resp.StatusCode != 200 || strings.Count(body, "# TYPE ") != 2 || !strings.Contains(body, "\nrauta_connections 0\n") || !strings.Contains(body, "\nrauta_retries_total 0\n") {
		t.Errorf("%d %q", resp.StatusCode, body)
	}
}

func TestMetricsAreCompressedForThoseWhoTakeIt(t *testing.T) {
	r := run(t, nil)
	req, err := http.NewRequest("GET", r.metrics+"/metrics", nil)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Accept-Encoding", "gzip")
	resp, err := http.DefaultTransport.RoundTrip(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if resp.Header.Get("Content-Encoding") != "gzip" {
		t.Fatalf("header %v", resp.Header)
	}
	plain, err := gzip.NewReader(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	body, err := io.ReadAll(plain)
	if err != nil || !strings.Contains(string(body), "# TYPE rauta_connections gauge") || !strings.HasSuffix(string(body), "\n") {
		t.Errorf("%v %.200q", err, body)
	}
	req.Header.Set("Accept-Encoding", "identity")
	resp, err = http.DefaultTransport.RoundTrip(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if body, err := io.ReadAll(resp.Body); err != nil || resp.Header.Get("Content-Encoding") != "" || !strings.Contains(string(body), "# TYPE rauta_connections gauge") {
		t.Errorf("%v %v %.200q", err, resp.Header, body)
	}
}

func TestReadinessSaysWhyNot(t *testing.T) {
	r := run(t, func(s *Sources) { s.Ready = func() (bool, string) { return false, "draining" } })
	if resp, body := get(t, r.metrics+"/readyz"); resp.StatusCode != 503 || body != "not ready: draining\n" {
		t.Errorf("%d %q", resp.StatusCode, body)
	}
	if resp, _ := get(t, r.metrics+"/healthz"); resp.StatusCode != 200 {
		t.Errorf("a draining process is alive: %d", resp.StatusCode)
	}
}

func TestExplainPassesTheQuestionOn(t *testing.T) {
	r := run(t, nil)
	q := url.Values{"method": {"POST"}, "url": {"http://a.example/x?y=1"}, "header": {"A: 1", "B: 2"}}
	resp, body := get(t, r.admin+"/explain?"+q.Encode())
	var got struct {
		Method, URL string
		Headers     []string
	}
	if err := json.Unmarshal([]byte(body), &got); err != nil || resp.StatusCode != 200 {
		t.Fatalf("%d %q: %v", resp.StatusCode, body, err)
	}
	if got.Method != "POST" || got.URL != "http://a.example/x?y=1" || strings.Join(got.Headers, "|") != "A: 1|B: 2" {
		t.Errorf("%+v", got)
	}
	for query, want := range map[string]string{"": "url is missing", "?url=bad": "not a URL"} {
		if resp, body := get(t, r.admin+"/explain"+query); resp.StatusCode != 400 || !strings.Contains(body, want) {
			t.Errorf("%q: %d %q", query, resp.StatusCode, body)
		}
	}
}

func TestOnlyReadingIsAllowed(t *testing.T) {
	r := run(t, nil)
	for _, url := range []string{r.admin + "/config", r.metrics + "/metrics"} {
		resp, err := http.Post(url, "text/plain", nil)
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		if resp.StatusCode != 405 || resp.Header.Get("Allow") != "GET, HEAD" {
			t.Errorf("%s: %d, Allow %q", url, resp.StatusCode, resp.Header.Get("Allow"))
		}
	}
}

func TestAValueThatCannotBeShownIsAnError(t *testing.T) {
	r := run(t, func(s *Sources) { s.Config = func() any { return func() {} } })
	if resp, body := get(t, r.admin+"/config"); resp.StatusCode != 500 || !strings.HasPrefix(body, "encode: ") {
		t.Errorf("%d %q", resp.StatusCode, body)
	}
}

func TestThePageIsTheSameReadOrWritten(t *testing.T) {
	r := observe.NewRegistry(observe.Options{})
	r.Shard(0).Finish(&observe.Record{Status: 200, Route: r.Route("a")})
	var written bytes.Buffer
	n, err := (&metricsPage{registry: r}).WriteTo(&written)
	if err != nil || n != int64(written.Len()) {
		t.Fatalf("%d of %d bytes, %v", n, written.Len(), err)
	}
	p := &metricsPage{registry: r}
	text, err := io.ReadAll(struct{ io.Reader }{p})
	if err != nil || p.Close() != nil {
		t.Fatal(err)
	}
	const line = `rauta_requests_total{route="a"`
	if !bytes.Contains(text, []byte(line)) || !bytes.Contains(written.Bytes(), []byte(line)) || bytes.Count(text, []byte("\n")) != bytes.Count(written.Bytes(), []byte("\n")) {
		t.Errorf("read\n%s\nwritten\n%s", text, &written)
	}
	p = &metricsPage{registry: r}
	p.Read(make([]byte, 1))
	p.Close() // ends the goroutine, which the client has left
	if _, err := p.Read(make([]byte, 1)); err != io.ErrClosedPipe {
		t.Errorf("%v", err)
	}
}
