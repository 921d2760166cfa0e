package blackbox

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

// tally counts what became of the requests of a storm.
type tally struct {
	requests, whole, partly, own, refused, tunnels, aborted atomic.Int64
}

// stormClient does valid and invalid things at random.
type stormClient struct {
	t     *testing.T
	addr  string // without, and with PROXY protocol headers
	proxy string
	name  string
	rand  *rand.Rand
	tally *tally
	ids   int
	// shaky: the last response looked complete but was broken off where only HTTP/2 can tell, so that the connection ends.
	shaky bool

	c *patientConn
	r *bufio.Reader
}

// patientConn is a connection on which something has to move within the time that tests wait for anything. How long all of it
// takes, with windows of 1000 bytes on a busy machine, is no matter.
type patientConn struct{ *net.TCPConn }

// Read implements io.Reader.
func (c patientConn) Read(p []byte) (int, error) {
	c.SetReadDeadline(time.Now().Add(patience))
	return c.TCPConn.Read(p)
}

// Write implements io.Writer.
func (c patientConn) Write(p []byte) (n int, err error) {
	const piece = 16 << 10
	for n < len(p) && err == nil {
		c.SetWriteDeadline(time.Now().Add(patience))
		var m int
		m, err = c.TCPConn.Write(p[n:min(len(p), n+piece)])
		n += m
	}
	return n, err
}

// request is one valid request.
type stormRequest struct {
	id, method, raw string
}

func (s *stormClient) in(n int) bool { return s.rand.IntN(n) == 0 }

func (s *stormClient) connect() bool {
	addr, header := s.addr, ""
	if s.in(5) {
		addr, header = s.proxy, "PROXY TCP4 192.0.2.7 10.0.0.1 12345 80\r\n"
	}
	c, err := net.Dial("tcp", addr)
	if err != nil {
		s.t.Errorf("connect: %v", err)
		return false
	}
	s.shaky = false
	s.c = &patientConn{c.(*net.TCPConn)}
	s.r = bufio.NewReader(s.c)
	s.send(header)
	return true
}

// sender returns a client for a goroutine that sends on the connection.
func (s *stormClient) sender() *stormClient {
	other := *s
	other.rand = rand.New(rand.NewPCG(s.rand.Uint64(), 0))
	return &other
}

// send writes in one piece or several; a peer that has answered and closed is no error.
func (s *stormClient) send(raw string) {
	for s.in(3) && len(raw) > 1 {
		n := 1 + s.rand.IntN(len(raw)-1)
		io.WriteString(s.c, raw[:n])
		raw = raw[n:]
		if s.in(4) {
			time.Sleep(time.Duration(s.rand.IntN(1500)) * time.Microsecond)
		}
	}
	io.WriteString(s.c, raw)
}

// request makes a request with an id that nobody else has.
func (s *stormClient) request() stormRequest {
	s.ids++
	s.tally.requests.Add(1)
	q := stormRequest{id: fmt.Sprintf("%s-%d", s.name, s.ids), method: "GET"}
	head := fmt.Sprintf("%s: %s\r\n", idField, q.id)
	if s.in(10) {
		head += "X-Large: " + strings.Repeat("h", s.rand.IntN(20<<10)) + "\r\n"
	}
	if s.in(3) {
		q.method = []string{"POST", "PUT"}[s.rand.IntN(2)]
		body := pattern(q.id, []int{0, 1, 100, 3000, 50 << 10}[s.rand.IntN(5)])
		head += fmt.Sprintf("%s: %d\r\n", sizeField, len(body))
		if s.in(5) {
			head += "Expect: 100-continue\r\n"
		}
		if s.in(2) {
			head += fmt.Sprintf("Content-Length: %d\r\n\r\n%s", len(body), body)
		} else {
			head += "Transfer-Encoding: chunked\r\n\r\n"
			for len(body) > 0 {
				n := min(len(body), 1+s.rand.IntN(9000))
				head += fmt.Sprintf("%x\r\n%s\r\n", n, body[:n])
				body = body[n:]
			}
			head += "0\r\n\r\n"
		}
	} else {
		if s.in(6) {
			q.method = "HEAD"
		}
		head += "\r\n"
	}
	q.raw = fmt.Sprintf("%s /%s HTTP/1.1\r\nHost: storm.test\r\n%s", q.method, q.id, head)
	return q
}

// act opens a connection and does one thing on it.
func (s *stormClient) act() {
	if !s.connect() {
		return
	}
	defer s.c.Close()
	switch s.rand.IntN(16) {
	case 12, 13, 14, 15:
		s.http2()
	case 0:
		s.abort()
	case 1:
		s.invalid()
	case 2:
		s.tunnel()
	case 3, 4, 5:
		s.pipeline(2+s.rand.IntN(5), s.in(3))
	default:
		for range 1 + s.rand.IntN(6) {
			if !s.pipeline(1, false) {
				return
			}
		}
	}
}

// pipeline sends n requests in a row and reads the responses; it reports whether the connection can go on. With half, the
// client closes its half behind the last request.
func (s *stormClient) pipeline(n int, half bool) bool {
	requests := make([]stormRequest, n)
	var raw strings.Builder
	for i := range requests {
		requests[i] = s.request()
		raw.WriteString(requests[i].raw)
	}
	sent, sender := make(chan struct{}), s.sender()
	go func() { // a response may have to be read before the proxy takes more
		defer close(sent)
		sender.send(raw.String())
		if half {
			sender.c.CloseWrite()
		}
	}()
	for _, q := range requests {
		if !s.receive(q) {
			s.c.Close()
			<-sent
			return false
		}
	}
	<-sent
	if half {
		if rest, _ := io.ReadAll(s.r); len(rest) > 0 {
			s.t.Errorf("%s: %d responses, then %q", s.name, n, rest[:min(len(rest), 200)])
		}
		return false
	}
	return true
}

// receive reads the response to q and reports whether another may follow.
func (s *stormClient) receive(q stormRequest) bool {
	resp, err := s.final(q)
	if err != nil && s.shaky && !errors.Is(err, os.ErrDeadlineExceeded) {
		return false
	}
	if err != nil {
		s.t.Errorf("%s %s: no response: %v", q.method, q.id, err)
		return false
	}
	body, err := s.readSlowly(resp.Body)
	if errors.Is(err, os.ErrDeadlineExceeded) {
		s.t.Errorf("%s: the body stalls after %d bytes", q.id, len(body))
		return false
	}
	return s.judge(q, resp, body, err) && !resp.Close
}

// final reads the final head.
func (s *stormClient) final(q stormRequest) (*http.Response, error) {
	for {
		resp, err := http.ReadResponse(s.r, &http.Request{Method: q.method})
		if err != nil || resp.StatusCode >= 200 || resp.StatusCode == 101 {
			return resp, err
		}
	}
}

func (s *stormClient) readSlowly(r io.Reader) ([]byte, error) {
	if !s.in(10) {
		return io.ReadAll(r)
	}
	first, err := io.ReadAll(io.LimitReader(r, 100))
	if err != nil {
		return first, err
	}
	time.Sleep(3 * time.Millisecond)
	rest, err := io.ReadAll(r)
	return append(first, rest...), err
}

// judge checks that a response belongs to its request; it reports whether it was complete.
func (s *stormClient) judge(q stormRequest, resp *http.Response, body []byte, err error) bool {
	id := resp.Header.Get(idField)
	s.shaky = id != "" && resp.Header.Get(wholeField) == ""
	if id == "" {
		s.tally.own.Add(1)
		own := fmt.Sprintf("%d %s\n", resp.StatusCode, http.StatusText(resp.StatusCode))
		if resp.StatusCode < 400 || err != nil || q.method != "HEAD" && string(body) != own {
			s.t.Errorf("%s: the proxy's own answer is %d %q %v", q.id, resp.StatusCode, body, err)
		}
		return err == nil
	}
	size := 0
	fmt.Sscan(resp.Header.Get(sizeField), &size)
	if id != q.id || string(body) != pattern(q.id, len(body)) {
		s.t.Errorf("%s got the response of %s: %q", q.id, id, body[:min(len(body), 100)])
	}
	bodiless := q.method == "HEAD" || resp.StatusCode == 204 || resp.StatusCode == 304
	complete := err == nil && (len(body) == size || bodiless && len(body) == 0)
	switch {
	case complete:
		s.tally.whole.Add(1)
	case resp.Header.Get(wholeField) != "":
		s.t.Errorf("%s %s: %d of %d bytes, %v, although the back end sent all of them; response fields %v", q.method, q.id, len(body), size, err, resp.Header)
	case err == nil:
		s.t.Errorf("%s: %d of %d bytes look complete", q.id, len(body), size)
	default:
		s.tally.partly.Add(1)
	}
	return complete
}

// abort ends a request at a random point in one of several ways.
func (s *stormClient) abort() {
	s.tally.aborted.Add(1)
	q := s.request()
	raw := q.raw + s.request().raw
	s.send(raw[:s.rand.IntN(len(raw))])
	switch s.rand.IntN(4) {
	case 0:
		s.c.SetLinger(0)
	case 1:
		s.c.CloseWrite()
		if _, err := io.ReadAll(s.r); errors.Is(err, os.ErrDeadlineExceeded) {
			s.t.Errorf("%s: the connection of a half request stays open", q.id)
		}
	case 2: // in the middle of the response, if there is one
		s.c.SetReadDeadline(time.Now().Add(5 * time.Millisecond))
		io.CopyN(io.Discard, s.c.TCPConn, int64(1+s.rand.IntN(300)))
		s.c.SetLinger(0)
	}
}

// invalid breaks the protocol: an answer of 400 and more, then the end.
func (s *stormClient) invalid() {
	s.tally.refused.Add(1)
	const post = "POST / HTTP/1.1\r\nHost: a\r\n"
	bad := []string{
		"GET  / HTTP/1.1\r\nHost: a\r\n\r\n", "GET / HTTP/1.1\r\n\r\n", "\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03 \r\n\r\n",
		post + "Content-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", post + "Content-Length: +1\r\n\r\nx",
		"GET / HTTP/1.1\r\nHost: a\r\nA: " + strings.Repeat("a", 200<<10) + "\r\n\r\n",
		post + "Transfer-Encoding: chunked\r\n\r\nzz\r\n", post + "Transfer-Encoding: chunked\r\n\r\n3\r\nabcd\r\n0\r\n\r\n",
	}[s.rand.IntN(8)]
	sent, sender := make(chan struct{}), s.sender()
	go func() { defer close(sent); sender.send(bad) }()
	defer func() { s.c.Close(); <-sent }()
	resp, err := s.final(stormRequest{method: "GET"})
	switch {
	case errors.Is(err, os.ErrDeadlineExceeded):
		s.t.Errorf("no answer to %q", bad[:min(len(bad), 60)])
	case err == nil && resp.StatusCode < 300 && !strings.HasPrefix(bad, post+"T"): // whose head is good
		s.t.Errorf("%d to %q", resp.StatusCode, bad[:min(len(bad), 60)])
	}
}

// tunnel asks for a switch of protocols, and sends and receives through it.
func (s *stormClient) tunnel() {
	q := s.request()
	s.send(fmt.Sprintf("GET / HTTP/1.1\r\nHost: a\r\n%s: %s\r\nConnection: upgrade\r\nUpgrade: storm\r\n\r\n", idField, q.id))
	q.method = "GET"
	resp, err := s.final(q)
	if err != nil {
		s.t.Errorf("%s: no answer to an upgrade: %v", q.id, err)
		return
	}
	if resp.StatusCode != 101 {
		body, err := s.readSlowly(resp.Body)
		s.judge(q, resp, body, err)
		return
	}
	s.tally.tunnels.Add(1)
	data := pattern(q.id, s.rand.IntN(400<<10))
	sent, sender := make(chan struct{}), s.sender()
	go func() {
		defer close(sent)
		sender.send(data)
		sender.c.CloseWrite()
	}()
	got, err := io.ReadAll(s.r)
	if errors.Is(err, os.ErrDeadlineExceeded) || string(got) != pattern(q.id, len(got)) ||
		resp.Header.Get(wholeField) != "" && string(got) != data {
		s.t.Errorf("tunnel %s: %d of %d bytes, %v", q.id, len(got), len(data), err)
	}
	s.c.Close()
	<-sent
}
