//go:build linux

package loop

import (
	"bytes"
	"io"
	"net"
	"testing"
)

// splicing sends back what it gets by way of a pipe.
type splicing struct {
	c    *Conn
	pipe *Pipe
}

func (s *splicing) OnEvent(Events) {
	w := s.c.Worker()
	for {
		if s.pipe == nil {
			s.pipe = w.GetPipe()
		}
		if s.pipe.Held() > 0 {
			if _, st := s.c.SpliceTo(s.pipe); st != OK {
				return
			}
		}
		switch _, st := s.c.SpliceFrom(s.pipe, PipeBytes); st {
		case Again:
			w.PutPipe(s.pipe)
			s.pipe = nil
			return
		case EOF, Failed:
			w.PutPipe(s.pipe)
			s.c.Close()
			return
		}
	}
}

func TestBytesPassThroughAPipeUnchanged(t *testing.T) {
	w := startWorker(t, WorkerOptions{})
	l := listen(t, w, ListenerOptions{Addr: loopback}, func(_ *Worker, c *Conn) { c.SetHandler(&splicing{c: c}) })
	c := dial(t, l.Addr())
	message := bytes.Repeat([]byte("0123456789abcde"), 300_000)
	go func(c *net.TCPConn) {
		c.Write(message)
		c.CloseWrite()
	}(c)
	got, err := io.ReadAll(c)
	if err != nil || !bytes.Equal(got, message) {
		t.Errorf("%d of %d bytes, %v", len(got), len(message), err)
	}
	on(t, w, func() {
		if w.pipes.out != 0 || len(w.pipes.free) != 1 {
			t.Errorf("%d pipes are out, %d kept", w.pipes.out, len(w.pipes.free))
		}
	})
}

func TestPipesAreBounded(t *testing.T) {
	w := startWorker(t, WorkerOptions{})
	on(t, w, func() {
		var got []*Pipe
		for range pipesMax {
			p := w.GetPipe()
			if p == nil {
				t.Error("no pipe below the limit")
				return
			}
			got = append(got, p)
		}
		if w.GetPipe() != nil {
			t.Error("a pipe beyond the limit")
		}
		got[0].held = 1 // is closed instead of kept
		for _, p := range got {
			w.PutPipe(p)
		}
		if len(w.pipes.free) != pipesKeep || w.pipes.out != 0 {
			t.Errorf("%d are kept, %d out", len(w.pipes.free), w.pipes.out)
		}
		for _, p := range w.pipes.free {
			if p.held != 0 {
				t.Error("a pipe with bytes in it is used again")
			}
		}
	})
}
