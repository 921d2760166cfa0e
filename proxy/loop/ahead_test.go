//go:build linux

package loop

import (
	"bytes"
	"errors"
	"testing"

	"golang.org/x/sys/unix"
)

// aheadRig is a worker whose turns the test takes, with connections that allow receiving ahead and have got one byte each.
type aheadRig struct {
	*testing.T
	w       *Worker
	clients []int
	conns   []*Conn
}

func newAheadRig(t *testing.T, n int) *aheadRig {
	t.Helper()
	r := &aheadRig{T: t, w: newWorker(t, 0, WorkerOptions{})}
	for range n {
		pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_NONBLOCK, 0)
		if err != nil {
			t.Fatal(err)
		}
		c := &Conn{w: r.w, fd: pair[0], slot: noSlot}
		if err := r.w.register(c); err != nil {
			t.Fatal(err)
		}
		c.ReceiveAhead()
		r.clients, r.conns = append(r.clients, pair[1]), append(r.conns, c)
	}
	t.Cleanup(func() {
		r.w.Stop()
		_ = r.w.Run()
		if out := r.w.BuffersOut(); out != 0 {
			t.Errorf("%d buffers were not put back", out)
		}
		for _, fd := range r.clients {
			_ = unix.Close(fd)
		}
	})
	for i := range r.conns {
		r.reads(i, func(p []byte) {})
		r.write(i, []byte{'.'})
	}
	r.step()
	return r
}

func (r *aheadRig) write(i int, p []byte) {
	r.Helper()
	if n, err := unix.Write(r.clients[i], p); n != len(p) || err != nil {
		r.Fatalf("%d bytes written, %v", n, err)
	}
}

func (r *aheadRig) step() {
	r.Helper()
	if err := r.w.wait(); err != nil {
		r.Fatal(err)
	}
	r.w.turn()
}

// reads has a connection read once when it is readable.
func (r *aheadRig) reads(i int, got func(p []byte)) {
	c := r.conns[i]
	c.SetHandler(handlerFunc(func(ev Events) {
		if ev&Readable == 0 {
			return
		}
		n, st := c.Read(r.w.ReadBuffer())
		if st != OK {
			r.Errorf("connection %d: status %d", i, st)
		}
		got(r.w.ReadBuffer()[:n])
	}))
}

func TestABatchIsReceivedBeforeTheFirstOfItsHandlersRuns(t *testing.T) {
	const conns = aheadConns + 3
	r := newAheadRig(t, conns)
	ahead := []int{}
	for i := range r.conns {
		r.reads(i, func(p []byte) {
			if want := bytes.Repeat([]byte{byte(i)}, 10+i); !bytes.Equal(p, want) {
				t.Errorf("connection %d got %x", i, p)
			}
			left := 0
			for _, c := range r.conns {
				if c.ahead.bytes != nil {
					left++
				}
			}
			ahead = append(ahead, left)
		})
		r.write(i, bytes.Repeat([]byte{byte(i)}, 10+i))
	}
	r.step()
	if len(ahead) != conns || ahead[0] != aheadConns-1 || ahead[aheadConns] != 2 {
		t.Errorf("received ahead, by handler: %v", ahead)
	}
}

// TestAReadHasAllThatIsThere: a short one says that the socket is empty, and no further event comes.
func TestAReadHasAllThatIsThere(t *testing.T) {
	for _, size := range []int{1, aheadBytes - 1, aheadBytes, aheadBytes + 1, 5 * aheadBytes} {
		r := newAheadRig(t, 1)
		want := bytes.Repeat([]byte("0123456789abcde"), size/15+1)[:size]
		var got []byte
		r.reads(0, func(p []byte) { got = bytes.Clone(p) })
		r.write(0, want)
		r.step()
		if !bytes.Equal(got, want) {
			t.Errorf("%d of %d bytes with the first read", len(got), size)
		}
		if c := r.conns[0]; c.ahead.few != (size < aheadBytes) {
			t.Errorf("after %d bytes it is received ahead: %v", size, c.ahead.few)
		}
	}
}

func TestWhatAHandlerDoesNotAskForIsKeptInOrder(t *testing.T) {
	for _, size := range []int{3, 5, 100} {
		r := newAheadRig(t, 2)
		c := r.conns[0]
		c.SetHandler(handlerFunc(func(Events) {}))
		r.conns[1].SetHandler(handlerFunc(func(Events) {})) // it never asks: the worker's end gives its buffer back
		r.write(0, []byte("one, "))
		r.write(1, []byte("lost"))
		r.step()
		r.write(0, []byte("two"))
		r.step()
		var got []byte
		for {
			p := make([]byte, size)
			n, st := c.Read(p)
			if st != OK {
				t.Fatalf("status %d", st)
			}
			got = append(got, p[:n]...)
			if n < size {
				break // a short read has emptied the socket
			}
		}
		if string(got) != "one, two" {
			t.Errorf("got %q in pieces of %d", got, size)
		}
	}
}

func TestAClosedConnectionGivesBackWhatWasReceivedAhead(t *testing.T) {
	r := newAheadRig(t, 2)
	for i := range r.conns {
		other := r.conns[1-i]
		r.conns[i].SetHandler(handlerFunc(func(Events) { other.Close() }))
		r.write(i, []byte("x"))
	}
	r.step()
	if r.conns[0].Closed() == r.conns[1].Closed() {
		t.Error("a closed connection got its event")
	}
}

func TestAFailureBehindWhatWasReceivedAheadIsToldAfterIt(t *testing.T) {
	r := newAheadRig(t, 2)
	for i, want := range []string{string(make([]byte, aheadBytes)), ""} {
		c := r.conns[i]
		if n, err := unix.Write(c.fd, []byte("unread")); n != 6 || err != nil { // so that the close is a reset
			t.Fatal(n, err)
		}
		r.write(i, []byte(want))
		if err := unix.Close(r.clients[i]); err != nil {
			t.Fatal(err)
		}
		c.receiveInto(make([]byte, aheadBytes))
		p := make([]byte, 2*aheadBytes)
		if want != "" {
			if n, st := c.Read(p); string(p[:n]) != want || st != OK {
				t.Errorf("%d bytes, status %d", n, st)
			}
		}
		if n, st := c.Read(p); n != 0 || st != Failed || !errors.Is(c.Err(), unix.ECONNRESET) {
			t.Errorf("behind %d bytes: %d bytes, status %d, %v", len(want), n, st, c.Err())
		}
	}
	r.clients = nil
}
