package loop

// foundPerTurn bounds the sockets that the kernel is told of in one turn, each with a system call.
const foundPerTurn = 128

// tellOfAll tells the kernel of the sockets that are open, from a slot on, because its programs have come after them. New
// ones it is told of anyway.
func (w *Worker) tellOfAll(from int) {
	to := min(from+foundPerTurn, len(w.slots))
	for i := from; i < to; i++ {
		if c := w.slots[i].conn; c != nil {
			w.tellOf(c)
		}
	}
	if to < len(w.slots) {
		w.Post(func() { w.tellOfAll(to) })
	}
}

// tellOf tells the kernel of a socket that it may not know.
func (w *Worker) tellOf(c *Conn) {
	if c.datagram || w.opt.Kernel == nil {
		return
	}
	w.opt.Kernel.Found(c.fd, c.listener != nil, c.endpoint, int64(c.began))
	if c.untapped {
		if r := w.watch(); r != nil {
			c.untapped = false
			r.Join(&c.tap)
		}
	}
}
