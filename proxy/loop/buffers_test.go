//go:build linux

package loop

import (
	"testing"

	"rauta.io/rauta/proxy/clock"
)

func TestABufferHasTheSizeAskedForAndIsUsedAgain(t *testing.T) {
	w := newWorker(t, 0, WorkerOptions{})
	for _, size := range []int{1, 4096, 4097, 16 << 10, 16<<10 + 1, BufferMax, BufferMax + 1, 1 << 20} {
		b := w.GetBuffer(size)
		if len(b) != 0 || cap(b) < size {
			t.Errorf("asked for %d, got length %d and capacity %d", size, len(b), cap(b))
		}
		first := &b[:1][0]
		w.PutBuffer(b[:1])
		again := w.GetBuffer(size)
		if size <= BufferMax && &again[:1][0] != first {
			t.Errorf("a buffer of %d bytes was not used again", size)
		}
		if size > BufferMax && &again[:1][0] == first {
			t.Errorf("a buffer of %d bytes was kept", size)
		}
		w.PutBuffer(again)
	}
}

func TestAForeignSliceIsNotTakenAsABuffer(t *testing.T) {
	w := newWorker(t, 0, WorkerOptions{})
	defer func() {
		if recover() == nil {
			t.Error("it was taken")
		}
	}()
	w.PutBuffer(make([]byte, 100))
}

func TestTheFreeListIsBounded(t *testing.T) {
	w := newWorker(t, 0, WorkerOptions{})
	var out [][]byte
	for range 200 {
		out = append(out, w.GetBuffer(BufferMax))
	}
	for _, b := range out {
		w.PutBuffer(b)
	}
	if n := len(w.buffers.classes[2].free); n != 64 {
		t.Errorf("%d buffers of 64 KiB are kept, want 64 (4 MiB)", n)
	}
}

func TestBuffersThatAreNotNeededAreGivenBack(t *testing.T) {
	w := newWorker(t, 0, WorkerOptions{})
	hold := func(n int) {
		var out [][]byte
		for range n {
			out = append(out, w.GetBuffer(1))
		}
		for _, b := range out {
			w.PutBuffer(b)
		}
	}
	kept := func() int { return len(w.buffers.classes[0].free) }
	second := func() { w.wheel.Advance(w.wheel.Now() + trimEvery + clock.Tick) }
	hold(1000)
	second()                                                   // it had allocated them in this second
	for _, want := range []int{1000 - 495, 1000 - 495 - 248} { // half of what is beyond the 10 in use
		hold(10)
		second()
		if n := kept(); n != want {
			t.Errorf("%d are kept, want %d", n, want)
		}
	}
	for range 20 {
		hold(10)
		second()
	}
	if n := kept(); n != 10 {
		t.Errorf("%d are kept of 10 that are in use", n)
	}
	for range 10 {
		second()
	}
	if n := kept(); n != 0 || w.wheel.Next() >= 0 {
		t.Errorf("%d are kept and the timer runs (%d) although nothing happens", n, w.wheel.Next())
	}
}
