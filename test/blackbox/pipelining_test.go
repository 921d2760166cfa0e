package blackbox

import (
	"fmt"
	"io"
	"net"
	"strings"
	"testing"
	"time"

	"rauta.io/rauta/proxy/config"
)

func TestAConnectionGoesOnAfterARequestWithBodyCouldNotBeSent(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	dead := l.Addr().String()
	l.Close()
	c := start(t, []string{dead}).dial()
	for i := range 3 {
		got := c.do(post("hello", "Content-Length: 5"))
		if got.StatusCode != 503 || got.Close {
			t.Fatalf("request %d: %d close=%v, want 503 on a connection that stays", i, got.StatusCode, got.Close)
		}
	}
}

// TestAPipelineWhoseAnswersAreNotTakenIsHeldBack: answers that RAUTA makes itself must not pile up either. The client
// sends until it is held back for a while; what it got rid of by then is bounded by the buffers of the kernel.
func TestAPipelineWhoseAnswersAreNotTakenIsHeldBack(t *testing.T) {
	r := start(t, nil, rule(func(r *config.Rule) { r.BodyBytesMax = 1 }))
	c := r.dial()
	const enough = 32 << 20 // bytes, several times what kernels buffer
	// A power of two, so that reads of the proxy end where a request does, and every body is at hand with its head.
	request := post("", "Content-Length: 200")
	request += strings.Repeat("x", 256-len(request))
	request = strings.Replace(request, "200", fmt.Sprint(strings.Count(request, "x")), 1)
	sent := 0
	for sent < enough {
		c.SetWriteDeadline(time.Now().Add(500 * time.Millisecond))
		n, err := io.WriteString(c.TCPConn, request)
		sent += n
		if err != nil {
			break
		}
	}
	if sent >= enough {
		t.Error("the proxy takes requests without end from a client that takes no answers")
	}
}
