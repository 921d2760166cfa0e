package generator

import (
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/net/http2/hpack"
)

// serve runs a handler of the standard library, which shares nothing with the generator, with HTTP/2 in clear text, or
// with TLS and both versions.
func serve(t *testing.T, secure bool, handler http.Handler) int {
	t.Helper()
	s := httptest.NewUnstartedServer(handler)
	s.EnableHTTP2, s.TLS = secure, &tls.Config{NextProtos: []string{"h2", "http/1.1"}}
	s.Config.Protocols = &http.Protocols{}
	s.Config.Protocols.SetHTTP1(true)
	s.Config.Protocols.SetHTTP2(secure)
	s.Config.Protocols.SetUnencryptedHTTP2(!secure)
	if secure {
		s.StartTLS()
	} else {
		s.Start()
	}
	t.Cleanup(s.Close)
	address, err := url.Parse(s.URL)
	if err != nil {
		t.Fatal(err)
	}
	var port int
	if _, err := fmt.Sscan(address.Port(), &port); err != nil {
		t.Fatal(err)
	}
	return port
}

// unencryptedHTTP2 is a transport of the standard library for one protocol.
func unencryptedHTTP2() *http.Transport {
	protocols := &http.Protocols{}
	protocols.SetUnencryptedHTTP2(true)
	return &http.Transport{Protocols: protocols}
}

// proxyTo is the standard library's proxy.
func proxyTo(port int, transport http.RoundTripper) http.Handler {
	target := &url.URL{Scheme: "http", Host: fmt.Sprintf("127.0.0.1:%d", port)}
	return &httputil.ReverseProxy{Transport: transport, Rewrite: func(r *httputil.ProxyRequest) {
		r.SetURL(target)
		r.SetXForwarded()
	}}
}

func h2Command(port int) *Command {
	c := shortCommand(port)
	c.Protocol, c.Streams, c.SliceNanos = HTTP2, 3, int64(20*time.Millisecond)
	c.Requests = []string{"GET /a HTTP/1.1\r\nHost: x.test\r\nUser-Agent: loadtest\r\n\r\n", "GET /b HTTP/1.1\r\nHost: x.test\r\n\r\n", "GET /c HTTP/1.1\r\nHost: y.test\r\n\r\n"}
	return c
}

func runPrepared(t *testing.T, l *loop, c *Command) *Result {
	t.Helper()
	if err := c.validate(); err != nil {
		t.Fatal(err)
	}
	l.backend.prepare(c.BodyBytes, c.UploadBytes)
	l.backendH2.prepare(c)
	results, err := l.run(c)
	if err != nil {
		t.Fatal(err)
	}
	return results[0]
}

func TestHTTP2AndGRPCComeThroughAnotherImplementationsProxy(t *testing.T) {
	for _, secure := range []bool{false, true} {
		for _, grpc := range []bool{false, true} {
			t.Run(fmt.Sprintf("TLS %v gRPC %v", secure, grpc), func(t *testing.T) {
				l := testLoop(t)
				transport := unencryptedHTTP2()
				t.Cleanup(transport.CloseIdleConnections)
				c := h2Command(serve(t, secure, proxyTo(l.backendH2.port, transport)))
				c.Secure, c.GRPC = secure, grpc
				if grpc {
					c.UploadBytes = 7
				}
				if r := runPrepared(t, l, c); r.Requests == 0 || r.Failed() > 0 {
					t.Errorf("%d answered, failures %v", r.Requests, r.Failures)
				}
			})
		}
	}
}

func TestEveryKindOfWrongAnswerOfHTTP2IsCountedAsItself(t *testing.T) {
	body := string(pattern(5))
	for _, c := range []struct {
		name    string
		handler func(http.ResponseWriter)
		grpc    bool
		want    string
	}{
		{"an error status", func(w http.ResponseWriter) { w.WriteHeader(503) }, false, failStatus},
		{"a changed byte", func(w http.ResponseWriter) { io.WriteString(w, "xxxxx") }, false, failCorrupt},
		{"another length", func(w http.ResponseWriter) { io.WriteString(w, "xxxx") }, false, failFraming},
		{"a body cut short", func(w http.ResponseWriter) {
			w.(http.Flusher).Flush()
			io.WriteString(w, body[:4])
		}, false, failTruncated},
		{"more than there should be", func(w http.ResponseWriter) {
			w.(http.Flusher).Flush()
			io.WriteString(w, body+"x")
		}, false, failExtra},
		{"a reset", func(w http.ResponseWriter) { panic(http.ErrAbortHandler) }, false, failReset},
		{"no trailers", func(w http.ResponseWriter) { w.Write(grpcMessage([]byte(body))) }, true, failTruncated},
		{"an error in the trailers", func(w http.ResponseWriter) {
			w.Write(grpcMessage([]byte(body)))
			w.Header().Set(http.TrailerPrefix+"Grpc-Status", "14")
		}, true, failTruncated},
	} {
		t.Run(c.name, func(t *testing.T) {
			l := testLoop(t)
			command := h2Command(serve(t, false, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { c.handler(w) })))
			command.GRPC = c.grpc
			if r := runPrepared(t, l, command); r.Failures[c.want] == 0 || r.Requests > 0 || len(r.Failures) != 1 {
				t.Errorf("%d answered, failures %v; want only %q", r.Requests, r.Failures, c.want)
			}
		})
	}
}

func TestAGoAwayIsAReconnectAndNoFailure(t *testing.T) {
	l := testLoop(t)
	var answered atomic.Int64
	r := runPrepared(t, l, h2Command(serve(t, false, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		if answered.Add(1)%5 == 0 {
			w.Header().Set("Connection", "close") // net/http says it with GOAWAY
		}
		w.Header().Set("X-Generation", "3")
		w.Write(pattern(5))
	}))))
	if r.Failed() > 0 || r.Requests == 0 || r.Reconnects == 0 || r.Generation != 3 {
		t.Errorf("%d answered, %d reconnects, generation %d, failures %v", r.Requests, r.Reconnects, r.Generation, r.Failures)
	}
}

func TestTheBackEndForHTTP2RefusesWhatAProxyHasDamaged(t *testing.T) {
	for _, c := range []struct {
		name, forwarded, body string
		want                  int
	}{
		{"no X-Forwarded-For", "", "", 421},
		{"a changed body", "1.2.3.4", "xxxxx", 422},
		{"a body cut short", "1.2.3.4", string(pattern(4)), 422},
		{"a good body", "1.2.3.4", string(pattern(5)), 200},
		{"a probe", "1.2.3.4", "", 200},
	} {
		t.Run(c.name, func(t *testing.T) {
			l := testLoop(t)
			l.backendH2.prepare(&Command{BodyBytes: 3, UploadBytes: 5})
			transport := unencryptedHTTP2()
			defer transport.CloseIdleConnections()
			ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
			defer cancel()
			request, err := http.NewRequestWithContext(ctx, "POST", fmt.Sprintf("http://127.0.0.1:%d/", l.backendH2.port), strings.NewReader(c.body))
			if err != nil {
				t.Fatal(err)
			}
			if c.forwarded != "" {
				request.Header.Set("X-Forwarded-For", c.forwarded)
			}
			type answer struct {
				status int
				err    error
			}
			got := make(chan answer, 1)
			go func() {
				response, err := transport.RoundTrip(request)
				if err != nil {
					got <- answer{0, err}
					return
				}
				response.Body.Close()
				got <- answer{response.StatusCode, nil}
			}()
			for {
				if err := l.turn(10); err != nil {
					t.Fatal(err)
				}
				select {
				case a := <-got:
					if a.status != c.want {
						t.Errorf("status %d, %v; want %d", a.status, a.err, c.want)
					}
					return
				default:
				}
			}
		})
	}
}

func TestMessagesOfAWebSocketComeThroughAnotherImplementationsProxy(t *testing.T) {
	l := testLoop(t)
	transport := &http.Transport{}
	t.Cleanup(transport.CloseIdleConnections)
	c := shortCommand(serve(t, false, proxyTo(l.backend.port, transport)))
	c.Protocol, c.UploadBytes, c.BodyBytes, c.SliceNanos = WebSocket, 9, 125, int64(20*time.Millisecond)
	if r := runPrepared(t, l, c); r.Requests == 0 || r.Failed() > 0 {
		t.Errorf("%d answered, failures %v", r.Requests, r.Failures)
	}
	c.Targets[0].Port = fakeProxy(t, "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
	if r := runPrepared(t, l, c); r.Requests > 0 || r.Failures[failStatus] == 0 {
		t.Errorf("%d answered by somebody who does not upgrade, failures %v", r.Requests, r.Failures)
	}
}

func TestRequestsAndHandshakesGoOverTLSAndOnlyRealResumptionsCount(t *testing.T) {
	l := testLoop(t)
	body := pattern(5)
	handler := http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.Write(body) })
	c := shortCommand(serve(t, true, handler))
	c.Secure, c.SliceNanos = true, int64(20*time.Millisecond)
	if r := runPrepared(t, l, c); r.Requests == 0 || r.Failed() > 0 {
		t.Errorf("%d answered, failures %v", r.Requests, r.Failures)
	}
	for _, resume := range []bool{false, true} {
		c.Kind, c.Resume = Shakes, resume
		if r := runPrepared(t, l, c); r.Requests == 0 || r.Failed() > 0 {
			t.Errorf("resume %v: %d handshakes, failures %v", resume, r.Requests, r.Failures)
		}
	}
	target := &target{Target: c.Targets[0], tls: clientTLS(c), result: &Result{Failures: map[string]uint64{}}}
	target.tls.ClientSessionCache = tls.NewLRUClientSessionCache(1)
	if got := shake(target); got != failNotResumed {
		t.Errorf("without a session: %q, want %q", got, failNotResumed)
	}
}

func TestABlockThatChangesTheTableIsTold(t *testing.T) {
	long := strings.Repeat("v", 300)
	literal := appendText(appendText([]byte{0}, "name"), long)
	for _, c := range []struct {
		name  string
		block []byte
		want  bool
	}{
		{"indexed", appendIndexed(appendIndexed(nil, staticOK), 200), false},
		{"literals", appendPath(append(literal, appendText(appendInteger(nil, 0x10, 4, 58), "agent")...), "/path"), false},
		{"an entry after a literal", append(slices.Clone(literal), tableFields{{Name: "a", Value: "b"}}.appendFirst(nil)...), true},
		{"a new size", appendInteger(nil, 0x20, 5, 4096), true},
	} {
		if got := changesTable(c.block); got != c.want {
			t.Errorf("%s: %v, want %v", c.name, got, c.want)
		}
	}
}

func TestHeaderBlocksMeanWhatTheyShouldToAnotherImplementation(t *testing.T) {
	a := authorities([]string{requestTo("x.test", "/p?q=1")}, &Command{UploadBytes: 3, Secure: true, GRPC: true})[0]
	decoder := hpack.NewDecoder(tableBytes, nil)
	decoder.SetAllowedMaxDynamicTableSize(tableBytes)
	block := append(slices.Clone(a.fixed), a.paths[0]...)
	want := ":method=POST :scheme=https :path=/p?q=1 :authority=x.test content-type=application/grpc te=trailers accept=*/*"
	table := tableEmpty
	for i, wantState := range []tableState{tableFilled, tableFilled, tableNone, tableNone} {
		if i == 2 {
			table = tableShrunk
		}
		var b []byte
		b = append(table.appendSize(b), block...)
		decoded, err := decoder.DecodeFull(table.append(b, a.fields))
		var got []string
		for _, f := range decoded {
			got = append(got, f.Name+"="+f.Value)
		}
		if err != nil || strings.Join(got, " ") != want || table != wantState {
			t.Errorf("block %d: got %v, %v; want %s", i, got, err, want)
		}
	}
}

func requestTo(host, path string) string {
	return "GET " + path + " HTTP/1.1\r\nHost: " + host + "\r\nAccept: */*\r\n\r\n"
}
