package wire

import (
	"slices"
	"testing"
)

// telling are bytes that some reader, somewhere, takes for something else.
const telling = "\x00\t\n\v\f\r\x1f !\"#%+,-./09:;=@A\\_a\x7f\x80\x85\xa0\xff"

// mutants calls f with in, changed in one place: a byte replaced, put in, doubled, or taken out.
func mutants(in string, f func([]byte)) {
	for i := range in {
		rest := in[i+1:]
		f([]byte(in[:i] + rest))
		f([]byte(in[:i+1] + in[i:]))
		for _, c := range []byte(telling) {
			f([]byte(in[:i] + string([]byte{c}) + rest))
			f([]byte(in[:i] + string([]byte{c}) + in[i:]))
		}
	}
}

func TestARequestWithOneByteChangedIsReadAsOthersDoOrRefused(t *testing.T) {
	for _, in := range []string{
		"\r\nPOST /a/./b?c HTTP/1.1\r\nHost: a.b:80\r\nTransfer-Encoding: chunked\r\nA: b\r\n\r\n3;x=\"y\"\r\nabc\r\n0\r\nT: u\r\n\r\nGET / HTTP/1.1\r\n",
		"PUT http://[::1]:8/%41 HTTP/1.1\r\nContent-Length: 10\r\nhost: [::1]:8\r\nConnection: close, A\r\nExpect: 100-continue\r\nA:\r\n\r\n0123456789",
	} {
		accepted := 0
		c := &wireCase{}
		mutants(in, func(m []byte) {
			whole := requestOutcome(c, m, []int{len(m)})
			if got := requestOutcome(c, m, byteByByte(m)); got != whole {
				t.Fatalf("%q: whole\n%sbyte by byte\n%s", m, whole, got)
			}
			checkRoundTrip(t, m)
			checkReadings(t, m)
			lim := DefaultRequestLimits()
			if _, _, n, _ := parseRequest(m, []int{len(m)}, &lim); n > 0 {
				accepted++
			}
		})
		if accepted == 0 {
			t.Errorf("%q: nothing was accepted, so nothing was compared", in)
		}
	}
}

func TestAResponseWithOneByteChangedStaysOneResponse(t *testing.T) {
	in := "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nConnection: close, A\r\nA: b\r\nTransfer-Encodin: x\r\n\r\nhello"
	c := &wireCase{}
	mutants(in, func(m []byte) {
		whole := responseOutcome(c, m, []int{len(m)})
		if got := responseOutcome(c, m, byteByByte(m)); got != whole {
			t.Fatalf("%q: whole\n%sbyte by byte\n%s", m, whole, got)
		}
		checkResponseRoundTrip(t, m, false)
	})
}

func TestAChunkedBodyWithOneByteChangedIsNeverReadBeyondItsEnd(t *testing.T) {
	in := "5;a=b;c=\"d\\\"e\"\r\nhello\r\n00a\r\n0123456789\r\n0\r\nA: b\r\n\r\n"
	mutants(in, func(m []byte) {
		data, consumed, done, reason := readChunks(m, []int{len(m)})
		again, at, ok, same := readChunks(m, byteByByte(m))
		if !slices.Equal(data, again) || consumed != at || done != ok || reason != same {
			t.Fatalf("%q: whole %q %d %t %v, byte by byte %q %d %t %v", m, data, consumed, done, reason, again, at, ok, same)
		}
		if done && string(m[consumed-2:consumed]) != "\r\n" {
			t.Fatalf("%q: ends after %q", m, m[:consumed])
		}
	})
}
