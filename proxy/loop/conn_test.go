//go:build linux

package loop

import (
	"bytes"
	"io"
	"testing"
)

func TestBytesOfAllSizesComeBackFromAnEcho(t *testing.T) {
	w := startWorker(t, WorkerOptions{})
	l := listen(t, w, ListenerOptions{Addr: loopback}, serveEcho)
	for _, size := range []int{1, 1000, ReadBufferBytes - 1, ReadBufferBytes, ReadBufferBytes + 1, 8 << 20} {
		c := dial(t, l.Addr())
		sent := bytes.Repeat([]byte("rauta"), size/5+1)[:size]
		go func() {
			_, _ = c.Write(sent)
			_ = c.CloseWrite()
		}()
		got := make([]byte, size)
		if _, err := io.ReadFull(c, got); err != nil {
			t.Fatalf("%d bytes: %v", size, err)
		}
		if !bytes.Equal(got, sent) {
			t.Fatalf("%d bytes came back changed", size)
		}
	}
}
