package loop

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
	free       [][]byte
}

type buffers struct {
	classes [3]bufferClass
	out     int // given out and not put back
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
		}
		return
	}
	if cap(b) <= BufferMax {
		panic("loop: PutBuffer got a slice that GetBuffer did not give out")
	}
}

// BuffersOut is the number of buffers that GetBuffer has given out and that were not put back: none when no connection
// holds bytes.
func (w *Worker) BuffersOut() int {
	w.owner.check()
	return w.buffers.out
}
