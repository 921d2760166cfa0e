//go:build linux && invariants

package loop

import (
	"bytes"
	"testing"
)

func mustPanic(t *testing.T, what string, fn func()) {
	t.Helper()
	defer func() {
		if recover() == nil {
			t.Errorf("%s did not panic", what)
		}
	}()
	fn()
}

func TestPuttingABufferBackTwicePanics(t *testing.T) {
	w := newWorker(t, 0, WorkerOptions{})
	b := w.GetBuffer(100)
	w.PutBuffer(b)
	mustPanic(t, "the second PutBuffer", func() { w.PutBuffer(b) })
}

func TestAReleasedBufferIsPoisoned(t *testing.T) {
	w := newWorker(t, 0, WorkerOptions{})
	b := append(w.GetBuffer(100), "secret"...)
	w.PutBuffer(b)
	if bytes.Contains(b[:6], []byte("secret")) {
		t.Error("it still holds what was in it")
	}
}

func TestAWorkersMethodsOnAnotherThreadPanic(t *testing.T) {
	w := startWorker(t, WorkerOptions{})
	_, c := connected(t, w)
	for what, fn := range map[string]func(){
		"GetBuffer":   func() { w.GetBuffer(1) },
		"ReadBuffer":  func() { w.ReadBuffer() },
		"AtEndOfTurn": func() { w.AtEndOfTurn(nil) },
		"Ready":       func() { w.Ready(nil, Readable) },
		"Read":        func() { c.Read(make([]byte, 1)) },
		"Write":       func() { c.Write([]byte{1}) },
		"Close":       c.Close,
		"Listen":      func() { _, _ = w.Listen(ListenerOptions{Addr: loopback}, nil) },
	} {
		mustPanic(t, what, fn)
	}
}

func TestSendingAMessageThatIsStillQueuedPanics(t *testing.T) {
	w := newWorker(t, 0, WorkerOptions{})
	m := &Message{To: postedFunc(func() {})}
	w.Send(m)
	mustPanic(t, "the second Send", func() { w.Send(m) })
}
