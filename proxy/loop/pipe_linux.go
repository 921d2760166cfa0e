package loop

import (
	"syscall"

	"golang.org/x/sys/unix"
)

const (
	// PipeBytes is the capacity that a pipe is given; the kernel may grant less (fs.pipe-user-pages-soft). Larger ones gained
	// nothing more (PERF.md).
	PipeBytes = 256 << 10
	// pipesMax is how many pipes of a worker may be out: 32 MiB of kernel memory, should none of the receivers keep up.
	// Whoever gets none copies.
	pipesMax = 128
	// pipesKeep is how many a worker keeps for reuse.
	pipesKeep = 16
)

// Flags of splice(2).
const (
	spliceMove     = 1
	spliceNonblock = 2
)

// Pipe carries bytes from one plain connection to another without copying them through user space. It belongs to who got
// it until it is put back.
type Pipe struct {
	read, write int
	held        int // bytes in it
}

// Held is how many bytes are in the pipe.
func (p *Pipe) Held() int { return p.held }

// GetPipe returns an empty pipe, nil if there is none to be had.
func (w *Worker) GetPipe() *Pipe {
	w.owner.check()
	if n := len(w.pipes.free) - 1; n >= 0 {
		p := w.pipes.free[n]
		w.pipes.free = w.pipes.free[:n]
		w.pipes.out++
		return p
	}
	if w.pipes.out >= pipesMax {
		return nil
	}
	var fds [2]int
	if err := unix.Pipe2(fds[:], unix.O_NONBLOCK|unix.O_CLOEXEC); err != nil {
		return nil
	}
	_, _ = unix.FcntlInt(uintptr(fds[1]), unix.F_SETPIPE_SZ, PipeBytes) // a smaller one works as well
	w.pipes.out++
	return &Pipe{read: fds[0], write: fds[1]}
}

// PutPipe gives a pipe back. One that still holds bytes is closed with them.
func (w *Worker) PutPipe(p *Pipe) {
	w.owner.check()
	w.pipes.out--
	if p.held == 0 && len(w.pipes.free) < pipesKeep {
		w.pipes.free = append(w.pipes.free, p)
		return
	}
	p.close()
}

func (p *Pipe) close() {
	_ = unix.Close(p.read)
	_ = unix.Close(p.write)
}

// pipes are those of a worker.
type pipes struct {
	free []*Pipe
	out  int
}

// SpliceFrom receives up to size bytes into p, which must be empty: with bytes in it, Again could mean that the pipe is
// full. It never returns (0, OK). The connection must be plain.
func (c *Conn) SpliceFrom(p *Pipe, size int) (n int, st Status) {
	n, errno := c.splice(c.fd, p.write, size)
	p.held += n
	switch {
	case n > 0:
		return n, OK
	case errno == 0:
		return 0, EOF
	case errno == unix.EAGAIN:
		return 0, Again
	}
	c.errno = errno
	return 0, Failed
}

// SpliceTo sends what p holds. With Again some is left, and Writable follows. The connection must be plain.
func (c *Conn) SpliceTo(p *Pipe) (n int, st Status) {
	for p.held > 0 {
		k, errno := c.splice(p.read, c.fd, p.held)
		n += k
		p.held -= k
		switch {
		case k > 0:
		case errno == unix.EAGAIN:
			return n, Again
		case errno == 0:
			errno = unix.EPIPE // the kernel says that there is nothing, and we know better
			fallthrough
		default:
			c.errno = errno
			return n, Failed
		}
	}
	return n, OK
}

func (c *Conn) splice(from, to, size int) (n int, errno syscall.Errno) {
	c.w.owner.check()
	if c.closed {
		return 0, unix.EBADF
	}
	for {
		c.w.counts.transfers++
		r, _, e := syscall.RawSyscall6(unix.SYS_SPLICE, uintptr(from), 0, uintptr(to), 0, uintptr(size), spliceMove|spliceNonblock)
		switch e {
		case 0:
			return int(r), 0
		case unix.EINTR:
		default:
			return 0, e
		}
	}
}
