package grpc

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"encoding/binary"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"

	testgrpc "google.golang.org/grpc/interop/grpc_testing"
	"google.golang.org/protobuf/proto"
)

// webClient calls as a browser does (github.com/grpc/grpc, doc/PROTOCOL-WEB.md).
type webClient struct {
	t    *testing.T
	http *http.Client
	base string
	text bool
}

// webClients calls f with clients of both protocols and both forms, in plain text and with TLS.
func (r *rig) webClients(f func(t *testing.T, c *webClient)) {
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(r.certificate)
	for _, h2 := range []bool{false, true} {
		for _, secure := range []bool{false, true} {
			for _, text := range []bool{false, true} {
				protocols := new(http.Protocols)
				protocols.SetHTTP1(!h2)
				protocols.SetHTTP2(h2)
				protocols.SetUnencryptedHTTP2(h2)
				c := &webClient{text: text, base: "http://" + r.plain, http: &http.Client{Transport: &http.Transport{
					Protocols: protocols, TLSClientConfig: &tls.Config{RootCAs: pool, ServerName: serverName},
				}}}
				if secure {
					c.base = "https://" + r.tls
				}
				r.t.Run(fmt.Sprintf("h2=%v,TLS=%v,text=%v", h2, secure, text), func(t *testing.T) {
					c.t = t
					t.Cleanup(c.http.CloseIdleConnections)
					f(t, c)
				})
			}
		}
	}
}

// webStream is a response under way.
type webStream struct {
	t    *testing.T
	head http.Header
	body io.Reader
	raw  io.Closer
}

// call sends a message.
func (c *webClient) call(method string, message proto.Message) *webStream {
	c.t.Helper()
	payload, err := proto.Marshal(message)
	if err != nil {
		c.t.Fatal(err)
	}
	body := append(binary.BigEndian.AppendUint32([]byte{0}, uint32(len(payload))), payload...)
	contentType := "application/grpc-web+proto"
	if c.text {
		contentType = "application/grpc-web-text"
		body = []byte(base64.StdEncoding.EncodeToString(body))
	}
	req, err := http.NewRequest("POST", c.base+method, bytes.NewReader(body))
	if err != nil {
		c.t.Fatal(err)
	}
	req.Host = serverName
	req.Header.Set("Content-Type", contentType)
	req.Header.Set("Accept", contentType)
	req.Header.Set("X-Grpc-Web", "1")
	resp, err := c.http.Do(req)
	if err != nil {
		c.t.Fatal(err)
	}
	c.t.Cleanup(func() { resp.Body.Close() })
	kind := "application/grpc-web"
	if c.text {
		kind = "application/grpc-web-text"
	}
	if got, _, _ := strings.Cut(resp.Header.Get("Content-Type"), "+"); resp.StatusCode != 200 || got != kind {
		c.t.Fatalf("status %d, content type %q", resp.StatusCode, resp.Header.Get("Content-Type"))
	}
	s := &webStream{t: c.t, head: resp.Header, body: resp.Body, raw: resp.Body}
	if c.text {
		s.body = &groupReader{r: resp.Body}
	}
	return s
}

// groupReader decodes base64 group by group, since there may be padding in any of them.
type groupReader struct {
	r    io.Reader
	left []byte
}

func (g *groupReader) Read(p []byte) (int, error) {
	if len(g.left) == 0 {
		var group [4]byte
		if _, err := io.ReadFull(g.r, group[:]); err != nil {
			return 0, err
		}
		var err error
		if g.left, err = base64.StdEncoding.DecodeString(string(group[:])); err != nil {
			return 0, err
		}
	}
	n := copy(p, g.left)
	g.left = g.left[n:]
	return n, nil
}

// frame reads one frame.
func (s *webStream) frame() (flags byte, payload []byte) {
	s.t.Helper()
	var header [5]byte
	if _, err := io.ReadFull(s.body, header[:]); err != nil {
		s.t.Fatal(err)
	}
	payload = make([]byte, binary.BigEndian.Uint32(header[1:]))
	if _, err := io.ReadFull(s.body, payload); err != nil {
		s.t.Fatal(err)
	}
	return header[0], payload
}

// message wants a message next.
func (s *webStream) message(into proto.Message) {
	s.t.Helper()
	flags, payload := s.frame()
	if err := proto.Unmarshal(payload, into); flags != 0 || err != nil {
		s.t.Fatalf("flags %#x, %v", flags, err)
	}
}

// end wants the trailers, and nothing after them.
func (s *webStream) end(code string) map[string]string {
	s.t.Helper()
	flags, payload := s.frame()
	trailers := map[string]string{}
	for line := range strings.SplitSeq(strings.TrimSuffix(string(payload), "\r\n"), "\r\n") {
		name, value, _ := strings.Cut(line, ":")
		trailers[name] = value
	}
	rest, err := io.ReadAll(s.body)
	if flags != 0x80 || trailers["grpc-status"] != code || len(rest) > 0 || err != nil {
		s.t.Errorf("flags %#x, trailers %v, then %q, %v; want status %s", flags, trailers, rest, err, code)
	}
	return trailers
}

func TestABrowserCallsAMethod(t *testing.T) {
	r := start(t, startServer(t), everything)
	r.webClients(func(t *testing.T, c *webClient) {
		for _, size := range []int32{0, 1, 314159} {
			s := c.call("/grpc.testing.TestService/UnaryCall", &testgrpc.SimpleRequest{
				ResponseSize: size, Payload: &testgrpc.Payload{Body: make([]byte, 271828)},
			})
			var reply testgrpc.SimpleResponse
			s.message(&reply)
			if len(reply.GetPayload().GetBody()) != int(size) {
				t.Errorf("%d bytes, want %d", len(reply.Payload.Body), size)
			}
			s.end("0")
		}
	})
}

func TestABrowserGetsAStatusInTheBody(t *testing.T) {
	r := start(t, startServer(t), everything+`    matches: [{method: {service: grpc.testing.TestService}}]
`)
	r.webClients(func(t *testing.T, c *webClient) {
		s := c.call("/grpc.testing.TestService/UnaryCall", &testgrpc.SimpleRequest{
			ResponseStatus: &testgrpc.EchoStatus{Code: 2, Message: "on purpose"},
		})
		if got := s.end("2")["grpc-message"]; got != "on purpose" {
			t.Errorf("message %q", got)
		}
		// Of a large request most is under way when the answer comes; over HTTP/1.1 RAUTA reads on for 256 KiB.
		for _, size := range []int{0, 100 << 10} {
			c.call("/grpc.testing.TestService/Nothing", &testgrpc.Payload{Body: make([]byte, size)}).end("12")
		}
		if got := c.call("/test.Elsewhere/Nothing", new(testgrpc.Empty)).end("12")["grpc-message"]; got != "Not Found" {
			t.Errorf("message %q, want RAUTA's own", got)
		}
	})
}

func TestABrowserGetsAStreamMessageByMessage(t *testing.T) {
	g := newGate(t)
	r := start(t, startServer(t, g.register), everything)
	r.webClients(func(t *testing.T, c *webClient) {
		g.opens = make(chan []byte)
		s := c.callWhile(g, "first")
		for i, want := range []string{"first", "second", "third"} {
			if i > 0 { // not before the client has had the one before
				g.open(want)
			}
			var m testgrpc.Payload
			s.message(&m)
			if string(m.Body) != want {
				t.Fatalf("%q, want %q", m.Body, want)
			}
		}
		close(g.opens)
		s.end("0")
	})
}

// callWhile begins a call whose head comes with the first message.
func (c *webClient) callWhile(g *gate, first string) *webStream {
	c.t.Helper()
	opened := make(chan struct{})
	go func() {
		defer close(opened)
		g.open(first)
	}()
	s := c.call(gateMethod, new(testgrpc.Empty))
	<-opened
	return s
}
