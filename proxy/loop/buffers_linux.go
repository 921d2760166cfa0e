package loop

import "rauta.io/rauta/proxy/clock"

// Sizes in bytes.
const (
	// ReadBufferBytes is the buffer that all connections of a worker read into: one per worker keeps it in cache and
	// an idle connection without memory; its size is what makes large bodies cheap.
	ReadBufferBytes = 256 << 10
	// BufferMax is the largest buffer that is kept for reuse.
	BufferMax = 64 << 10
)

// bufferClass is one size of buffer; keep bounds what a worker holds back: 4 MiB of each size.
type bufferClass struct {
	size, keep int
	free       [][]byte // the one used last at the end
	least      int      // of free, since the last trim: that many were not needed
}

// trimEvery is how often, in nanoseconds, half of the buffers that were not needed meanwhile are given to the garbage
// collector: what a flood has made a worker allocate does not stay, while traffic keeps what it uses.
const trimEvery = 1e9

type buffers struct {
	classes [3]bufferClass
	trim    clock.Timer
	trims   bool // trim runs: there are free buffers
	out     int  // given out and not put back
	ledger  bufferLedger
}

func newBuffers() buffers {
	return buffers{classes: [3]bufferClass{
		{size: 4 << 10, keep: 1024},
		{size: 16 << 10, keep: 256},
		{size: BufferMax, keep: 64},
	}}
}

// ReadBuffer is the worker's shared read buffer. What is in it is valid only until the handler returns: whoever needs
// bytes longer copies them into a buffer of its own.
func (w *Worker) ReadBuffer() []byte {
	w.owner.check()
	return w.readBuffer
}

// GetBuffer returns a buffer of length 0 and capacity of at least size bytes. Above BufferMax it is freshly allocated.
func (w *Worker) GetBuffer(size int) []byte {
	w.owner.check()
	w.buffers.out++
	for i := range w.buffers.classes {
		class := &w.buffers.classes[i]
		if size > class.size {
			continue
		}
		var b []byte
		if last := len(class.free) - 1; last >= 0 {
			b = class.free[last]
			class.free[last] = nil
			class.free = class.free[:last]
			class.least = min(class.least, last)
		} else {
			b = make([]byte, 0, class.size)
		}
		w.buffers.ledger.got(b)
		return b
	}
	return make([]byte, 0, size)
}

// PutBuffer gives a buffer of GetBuffer back; b must be the slice's beginning as it was given out, at any length.
// Nobody may keep a view of it. Buffers above BufferMax go to the garbage collector.
func (w *Worker) PutBuffer(b []byte) {
	w.owner.check()
	w.buffers.out--
	for i := range w.buffers.classes {
		class := &w.buffers.classes[i]
		if cap(b) != class.size {
			continue
		}
		w.buffers.ledger.put(b)
		if len(class.free) < class.keep {
			class.free = append(class.free, b[:0])
			w.trimLater()
		}
		return
	}
	if cap(b) <= BufferMax {
		panic("loop: PutBuffer got a slice that GetBuffer did not give out")
	}
}

// trimLater makes sure that free buffers are looked at.
func (w *Worker) trimLater() {
	if !w.buffers.trims {
		w.buffers.trims = true
		w.wheel.Set(&w.buffers.trim, w.Now()+trimEvery)
	}
}

// trimBuffers drops half of what was not needed since the last time, the oldest first.
func (w *Worker) trimBuffers(now clock.Time) {
	left := 0
	for i := range w.buffers.classes {
		class := &w.buffers.classes[i]
		n := copy(class.free, class.free[(class.least+1)/2:])
		clear(class.free[n:])
		class.free = class.free[:n]
		class.least = n
		left += n
	}
	if left == 0 {
		w.buffers.trims = false
		return
	}
	w.wheel.Set(&w.buffers.trim, now+trimEvery)
}

// BuffersOut is the number of buffers that GetBuffer has given out and that were not put back: none when no connection
// holds bytes.
func (w *Worker) BuffersOut() int {
	w.owner.check()
	return w.buffers.out
}
