package testrig

import (
	"fmt"
	"io"
	"net"
	"testing"
)

func TestAPortIsFreeForBothProtocols(t *testing.T) {
	address := fmt.Sprintf("127.0.0.1:%d", FreePort(t))
	l, err := net.Listen("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	u, err := net.ListenPacket("udp", address)
	if err != nil {
		t.Fatal(err)
	}
	u.Close()
}

func TestAListenerServesEachConnectionAndEndsWithItsTest(t *testing.T) {
	var address string
	t.Run("inner", func(t *testing.T) {
		address = Listen(t, func(c net.Conn) { io.WriteString(c, "hello") })
		for range 2 {
			c, err := net.Dial("tcp", address)
			if err != nil {
				t.Fatal(err)
			}
			defer c.Close()
			if got, err := io.ReadAll(c); err != nil || string(got) != "hello" {
				t.Fatalf("got %q, %v", got, err)
			}
		}
	})
	if c, err := net.Dial("tcp", address); err == nil {
		c.Close()
		t.Error("it listens after the end of its test")
	}
}
