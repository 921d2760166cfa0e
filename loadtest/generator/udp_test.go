package generator

import (
	"crypto/tls"
	"net"
	"net/http"
	"net/http/httputil"
	"testing"
	"time"
)

func TestDatagramsAreAnsweredAndEveryWrongOneIsCountedAsItself(t *testing.T) {
	l := testLoop(t)
	c := shortCommand(l.backendUDP.port)
	c.Protocol, c.UploadBytes, c.BodyBytes = UDP, 9, 120
	l.backendUDP.prepare(c.BodyBytes, c.UploadBytes)
	if r := runPrepared(t, l, c); r.Requests == 0 || r.Failed() > 0 {
		t.Errorf("%d answered, failures %v", r.Requests, r.Failures)
	}
	for answer, want := range map[string]string{"": failClosed, "other": failCorrupt, string(pattern(119)): failCorrupt} {
		c.Targets[0].Port = datagramServer(t, answer)
		if r := runPrepared(t, l, c); r.Requests > 0 || r.Failures[want] == 0 {
			t.Errorf("answer %q: %d answered, failures %v; want only %q", answer, r.Requests, r.Failures, want)
		}
	}
}

// datagramServer answers everything with one text; without one nobody listens at the port.
func datagramServer(t *testing.T, answer string) int {
	t.Helper()
	server, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	port := server.LocalAddr().(*net.UDPAddr).Port
	if answer == "" {
		server.Close()
		return port
	}
	t.Cleanup(func() { server.Close() })
	go func() {
		in := make([]byte, 2000)
		for {
			_, from, err := server.ReadFrom(in)
			if err != nil {
				return
			}
			server.WriteTo([]byte(answer), from)
		}
	}()
	return port
}

func TestTheBackEndsProbeIsAnsweredWhateverIsPrepared(t *testing.T) {
	l := testLoop(t)
	l.backendUDP.prepare(3, 700)
	conn, err := net.Dial("udp", (&net.UDPAddr{IP: net.IPv4(127, 0, 0, 1), Port: l.backendUDP.port}).String())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if _, err := conn.Write(ProbeDatagram()); err != nil {
		t.Fatal(err)
	}
	if err := l.turn(1000); err != nil {
		t.Fatal(err)
	}
	if err := conn.SetReadDeadline(time.Now().Add(time.Minute)); err != nil {
		t.Fatal(err)
	}
	if n, err := conn.Read(make([]byte, 10)); n != 3 || err != nil {
		t.Errorf("%d bytes, %v", n, err)
	}
}

func TestHTTP2OverTLSToTheBackEndComesThroughAnotherImplementationsProxy(t *testing.T) {
	for _, grpc := range []bool{false, true} {
		l := testLoop(t)
		transport := &http.Transport{ForceAttemptHTTP2: true, TLSClientConfig: &tls.Config{InsecureSkipVerify: true}}
		t.Cleanup(transport.CloseIdleConnections)
		forward := proxyTo(l.backendH2.secure.port, transport).(*httputil.ReverseProxy)
		rewrite := forward.Rewrite
		forward.Rewrite = func(r *httputil.ProxyRequest) {
			rewrite(r)
			r.Out.URL.Scheme = "https"
		}
		c := h2Command(serve(t, false, forward))
		if c.GRPC = grpc; grpc {
			c.UploadBytes = 7
		}
		if r := runPrepared(t, l, c); r.Requests == 0 || r.Failed() > 0 {
			t.Errorf("gRPC %v: %d answered, failures %v", grpc, r.Requests, r.Failures)
		}
	}
}

func TestTLSWithTheBackEndItselfIsOpenBeforeTheFirstSlice(t *testing.T) {
	l := testLoop(t)
	c := shortCommand(l.backend.secure.port)
	c.Secure, c.EndToEnd, c.SliceNanos = true, true, int64(20*time.Millisecond)
	c.Requests = []string{"GET / HTTP/1.1\r\nHost: x\r\nX-Forwarded-For: 127.0.0.1\r\n\r\n"}
	if r := runPrepared(t, l, c); r.Requests == 0 || r.Failed() > 0 || r.Reconnects > 0 {
		t.Errorf("%d answered, failures %v, %d reconnects", r.Requests, r.Failures, r.Reconnects)
	}
}
