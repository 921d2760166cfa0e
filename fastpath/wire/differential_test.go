package wire

import (
	"bufio"
	"bytes"
	"io"
	"net/http"
	"net/textproto"
	"slices"
	"strings"
	"testing"

	"github.com/valyala/fasthttp"

	"rauta.io/rauta/proxy/message"
)

// reading is what somebody understands of a request. Two readers behind one another must not differ in any part of it.
type reading struct {
	method, target, host string
	framing              message.Framing
	length               int64
	// body and rest are known if complete.
	complete bool
	body     string
	rest     int // bytes after the request, which are the next one
	bodyErr  error
}

// tolerated are the differences that FuzzRequest and the cases have found, and why each is none that two readers behind
// one another could be played off with.
var tolerated = []struct {
	name string
	ok   func(own, other *reading) bool
}{
	{"a length of 0 is read as no body", func(own, other *reading) bool {
		return own.framing == message.Sized && own.length == 0 && other.framing == message.NoBody
	}},
}

// refusals are why others refuse a request that we accept. A refusal cannot be played off; it is listed so that a new
// one is looked at.
var refusals = []struct{ text, why string }{
	{"too large hex number", "fasthttp takes 15 digits of a chunk size, we 16"},
	{"forbidden trailer key", "fasthttp refuses trailer fields that we check and drop"},
}

func ownReading(in []byte, req *message.Request, n int) *reading {
	r := &reading{
		method: string(req.Bytes(req.Method)), target: string(req.Bytes(req.ReceivedTarget)), host: string(req.Bytes(req.Authority)),
		framing: req.Framing, length: req.Length,
	}
	rest := in[n:]
	switch req.Framing {
	case message.NoBody:
		r.complete, r.rest = true, len(rest)
	case message.Sized:
		if r.complete = req.Length <= int64(len(rest)); r.complete {
			r.body, r.rest = string(rest[:req.Length]), len(rest)-int(req.Length)
		}
	case message.Streamed:
		data, consumed, done, _ := readChunks(rest, []int{len(rest)})
		if r.complete = done; done {
			r.body, r.rest = string(data), len(rest)-consumed
		}
	}
	return r
}

func netHTTPReading(in []byte) (*reading, http.Header, error) {
	src := bytes.NewReader(in)
	br := bufio.NewReader(src)
	req, err := http.ReadRequest(br)
	if err != nil {
		return nil, nil, err
	}
	r := &reading{method: req.Method, target: req.RequestURI, host: req.Host, length: req.ContentLength}
	switch {
	case slices.Equal(req.TransferEncoding, []string{"chunked"}):
		r.framing = message.Streamed
	case req.ContentLength > 0:
		r.framing = message.Sized
	}
	body, err := io.ReadAll(req.Body)
	r.complete, r.body, r.bodyErr = err == nil, string(body), err
	r.rest = br.Buffered() + src.Len()
	return r, req.Header, nil
}

func fasthttpReading(in []byte) (*reading, error) {
	src := bytes.NewReader(in)
	br := bufio.NewReaderSize(src, RequestHeadBytesMax+16) // a head must fit into it
	var req fasthttp.Request
	if err := req.Header.Read(br); err != nil {
		return nil, err
	}
	r := &reading{
		method: string(req.Header.Method()), target: string(req.Header.RequestURI()), host: string(req.Header.Host()),
		length: int64(req.Header.ContentLength()),
	}
	switch {
	case r.length == -1:
		r.framing = message.Streamed
	case r.length >= 0:
		r.framing = message.Sized
	default:
		r.length = 0
	}
	if r.length > int64(len(in)) {
		return r, nil // it would make room for all of it
	}
	err := req.ContinueReadBody(br, len(in), false) // without a bound it makes room for what a chunk announces
	r.complete, r.body, r.bodyErr = err == nil, string(req.Body()), err
	r.rest = br.Buffered() + src.Len()
	return r, nil
}

// checkReadings compares what we accept with how net/http and fasthttp read it.
func checkReadings(t *testing.T, in []byte) {
	t.Helper()
	lim := DefaultRequestLimits()
	p, req, n, reason := parseRequest(in, []int{len(in)}, &lim)
	if n == 0 || reason != OK {
		return
	}
	own := ownReading(in, req, n)
	in = bytes.TrimPrefix(in, []byte("\r\n")) // net/http wants the request at once; all skip it (RFC 9112 section 2.2)
	other, header, err := netHTTPReading(in)
	if compareReadings(t, in, own, other, "net/http", err) {
		checkFields(t, in, p, req, header)
	}
	other, err = fasthttpReading(in)
	if err == nil && p.authority.Len > 0 && other.host == "" {
		other.host = own.host // HTTP/1.0 with the absolute form: fasthttp leaves the host in the target
	}
	compareReadings(t, in, own, other, "fasthttp", err)
}

// compareReadings reports whether the other accepted the request.
func compareReadings(t *testing.T, in []byte, own, other *reading, who string, err error) bool {
	t.Helper()
	if err != nil {
		checkRefusal(t, in, who, err)
		return false
	}
	framing := own.framing == other.framing && (own.framing != message.Sized || own.length == other.length)
	for _, d := range tolerated {
		framing = framing || d.ok(own, other)
	}
	switch { // hosts have no case (RFC 9110 section 4.2.3); fasthttp takes Host's, we that of the absolute form
	case own.method != other.method, own.target != other.target, !strings.EqualFold(own.host, other.host), !framing:
		t.Fatalf("%q: we read %+v, %s %+v", in, own, who, other)
	case own.complete && other.complete && (own.body != other.body || own.rest != other.rest):
		t.Fatalf("%q: we read %+v, %s %+v", in, own, who, other)
	case own.complete && !other.complete:
		checkRefusal(t, in, who, other.bodyErr)
	}
	return true
}

func checkRefusal(t *testing.T, in []byte, who string, err error) {
	t.Helper()
	for _, r := range refusals {
		if strings.Contains(err.Error(), r.text) {
			return
		}
	}
	t.Fatalf("%s refuses %q: %v", who, in, err)
}

// checkFields holds the fields that we forward against those of net/http.
func checkFields(t *testing.T, in []byte, p *RequestParser, req *message.Request, header http.Header) {
	t.Helper()
	own := http.Header{}
	for _, f := range req.Fields {
		if f.ID != message.Removed {
			name := textproto.CanonicalMIMEHeaderKey(string(req.Bytes(f.Name)))
			own[name] = append(own[name], string(req.Bytes(f.Value)))
		}
	}
	for name, values := range own {
		if !slices.Equal(values, header[name]) {
			t.Fatalf("%q: %s is %q, for net/http %q", in, name, values, header[name])
		}
	}
	for name := range header {
		if _, ok := own[name]; ok || message.Misleading([]byte(name)) || p.connectionFieldCnt > 0 {
			continue
		}
		id := message.LookupID([]byte(name))
		// net/http reads "Pragma: no-cache" as a Cache-Control too.
		if !hopFields[id] && !(id == message.CacheControl && header.Get("Pragma") == "no-cache") {
			t.Fatalf("%q: %s is lost", in, name)
		}
	}
}

func TestWhatWeAcceptOthersReadTheSame(t *testing.T) {
	for _, cases := range readCases(t, "request") {
		for _, c := range cases {
			checkReadings(t, c.in)
		}
	}
	// The same with bodies: every chunked case behind a head.
	for _, cases := range readCases(t, "chunked") {
		for _, c := range cases {
			checkReadings(t, append([]byte("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"), c.in...))
		}
	}
}
