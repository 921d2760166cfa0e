package blackbox

import (
	"bytes"
	"context"
	"net"
	"net/http"
	"testing"

	"github.com/coder/websocket"
)

// TestAWebSocketClientTalksThroughTheProxy uses a real client and a real server: small, empty and large messages, and
// the close code.
func TestAWebSocketClientTalksThroughTheProxy(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		c, err := websocket.Accept(w, r, nil)
		if err != nil {
			return
		}
		c.SetReadLimit(1 << 22)
		for {
			kind, message, err := c.Read(r.Context())
			if err != nil {
				return
			}
			if string(message) == "bye" {
				c.Close(websocket.StatusPolicyViolation, "as you wish")
				return
			}
			if err := c.Write(r.Context(), kind, message); err != nil {
				return
			}
		}
	})}
	go s.Serve(l)
	t.Cleanup(func() { s.Close() })
	onEveryEngine(t, func(t *testing.T) {
		r := start(t, []string{l.Addr().String()})
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		c, resp, err := websocket.Dial(ctx, "ws://"+r.addr+"/", nil)
		if err != nil {
			t.Fatal(err)
		}
		if resp.StatusCode != 101 {
			t.Fatalf("%d", resp.StatusCode)
		}
		c.SetReadLimit(1 << 22)
		for _, message := range [][]byte{[]byte("hello"), {}, bytes.Repeat([]byte{0, 1, 2, 255}, 1<<18)} {
			if err := c.Write(ctx, websocket.MessageBinary, message); err != nil {
				t.Fatal(err)
			}
			kind, got, err := c.Read(ctx)
			if err != nil || kind != websocket.MessageBinary || !bytes.Equal(got, message) {
				t.Fatalf("%d bytes came back of %d: %v", len(got), len(message), err)
			}
		}
		if err := c.Write(ctx, websocket.MessageText, []byte("bye")); err != nil {
			t.Fatal(err)
		}
		_, _, err = c.Read(ctx)
		if websocket.CloseStatus(err) != websocket.StatusPolicyViolation {
			t.Errorf("closed with %v, want the back end's code", err)
		}
	})
}
