package loop

import (
	"crypto/tls"
	"fmt"
	"net"
	"runtime"

	"rauta.io/rauta/proxy/clock"
	"rauta.io/rauta/proxy/list"
)

const (
	// handshakesMax is the number of TLS handshakes of one worker that may be under way with clients, and likewise with
	// back ends, almost all of them waiting for their peers: at 30 KiB each (goroutine, tls.Conn, flight), 120 MiB.
	// Beyond it the oldest is given up, so that stalled ones keep nobody out. Clients can't have those with back ends
	// given up, nor the other way round.
	handshakesMax = 4096
	// helloBytesMax bounds what is gathered, in bytes, before crypto/tls looks at it: a ClientHello with post-quantum
	// key share and large ticket has 4 KiB. What is larger goes to crypto/tls in pieces.
	helloBytesMax = 32 << 10
	// handshakeReadBytes is the most that is handed to crypto/tls at a time.
	handshakeReadBytes = 16 << 10
)

// handshakesAtOnce is how many handshakes compute at a time in the whole group: half of the cores, so that the loops
// keep theirs however many clients connect. Waiting for a peer doesn't count.
func handshakesAtOnce() int { return max(1, runtime.NumCPU()/2) }

// dialsAtOnce is the same for handshakes with back ends, which clients that connect in masses must not hold up: requests
// of others wait for them. There are fewer, because their connections are used again.
func dialsAtOnce() int { return max(1, runtime.NumCPU()/4) }

// handshake is a TLS handshake under way. crypto/tls makes errors of a handshake sticky, temporary ones too, so it has
// to block: it runs on a goroutine of its own. But every byte is received and sent by the worker. The two take turns:
// the goroutine computes, and when it needs more from the peer, it hands everything to the worker by mailbox and waits;
// the worker sends what is to be sent, waits for bytes of the peer with all its other connections, and hands them back.
// What is quick needs no other thread: then the goroutine is a coroutine of the worker's, see quick_linux.go.
type handshake struct {
	// Immutable.
	c       *Conn
	opt     TLSOptions
	list    *handshakeList
	tokens  chan struct{}
	resume  chan struct{} // worker -> goroutine: your turn
	aborted chan struct{} // closed by the worker: give up

	// Owned by the worker.
	timer    clock.Timer
	state    handshakeState
	readable bool   // the socket may hold bytes
	hangUp   Events // HangUp if it was seen: no event follows it
	unsent   []byte // what the socket did not take yet
	hello    helloScan
	told     bool                 // Done was called
	place    list.Node[handshake] // in list
	quick    *coroutine           // nil for a handshake that computes on a goroutine

	// Owned by who has the turn; passed on by the mailbox and by resume.
	mail     Message
	secure   *secure
	in       []byte // from the peer
	used     int    // of in
	out      []byte // for the peer
	held     bool   // a token
	finished bool
	err      error
}

type handshakeState uint8

const (
	handshakeGathers handshakeState = iota // the worker gathers the ClientHello
	handshakeRuns                          // the goroutine has the turn
	handshakeWaits                         // for the peer
	handshakeOver
)

// OnEvent implements Handler.
func (h *handshake) OnEvent(ev Events) {
	if h.state == handshakeOver { // a panic has closed the connection
		if !h.told {
			h.tell(h.c.Err())
		}
		return
	}
	if ev&Error != 0 {
		h.readable = true // the read says what is wrong
	}
	if ev&Writable != 0 && !h.flush() {
		h.fail(h.c.Err())
		return
	}
	if ev&(Readable|HangUp) != 0 {
		h.readable = true
		h.hangUp |= ev & HangUp
	}
	h.receive()
}

// receive takes what has come while the turn is the worker's.
func (h *handshake) receive() {
	if h.state == handshakeGathers && h.gathered() {
		h.decide()
	}
	for h.readable && (h.state == handshakeGathers || h.state == handshakeWaits) {
		buf := h.c.w.readBuffer[:handshakeReadBytes]
		n, st := h.c.Read(buf)
		switch st {
		case Again:
			h.readable = false
			return
		case EOF:
			h.fail(ErrTruncated)
			return
		case Failed:
			h.fail(h.c.Err())
			return
		}
		// A short receive has emptied the socket. Behind a FIN comes no event.
		h.readable = n == len(buf) || h.hangUp != 0
		h.in = append(h.in, buf[:n]...)
		switch {
		case h.state == handshakeWaits && h.quick != nil:
			h.step()
		case h.state == handshakeWaits:
			h.state = handshakeRuns
			h.resume <- struct{}{}
		case h.gathered():
			h.decide()
		}
	}
}

func (h *handshake) gathered() bool { return len(h.in) >= helloBytesMax || h.hello.complete(h.in) }

// decide begins the handshake, unless the connection is for somebody else.
func (h *handshake) decide() {
	if h.opt.Hello != nil {
		if take := h.opt.Hello(serverName(h.in)); take != nil {
			h.giveAway(take)
			return
		}
	}
	h.start()
}

// giveAway hands the connection over as it was before the handshake.
func (h *handshake) giveAway(take func(*Conn, []byte)) {
	c := h.c
	h.end()
	c.handler = nil
	take(c, h.in)
	if h.readable { // what came behind brings no further event
		c.Ready(Readable | h.hangUp)
	}
}

// start begins the goroutine.
func (h *handshake) start() {
	h.secure = &secure{c: h.c, shake: h}
	if h.opt.Client {
		h.secure.conn = tls.Client(h.secure, h.opt.Config)
	} else {
		h.in = refragment(h.in)
		h.secure.conn = tls.Server(h.secure, h.opt.Config)
	}
	if h.opt.Quick && h.c.w.quickLeft > 0 {
		h.c.w.quickLeft--
		h.quick = h.c.w.takeCoroutine()
		h.quick.h = h
		h.step()
		return
	}
	h.state = handshakeRuns
	go h.run()
}

// run is the goroutine.
func (h *handshake) run() {
	if h.acquire() {
		h.err = h.compute()
		h.release()
	} else {
		h.err = net.ErrClosed
	}
	h.finished = true
	select {
	case <-h.aborted: // nobody wants to know; and the message may still be on its way from read
	default:
		h.c.w.Send(&h.mail)
	}
}

// compute is the handshake; a panic in it, of a callback of the configuration for instance, is an error like others.
func (h *handshake) compute() (err error) {
	defer func() {
		if v := recover(); v != nil {
			err = fmt.Errorf("panic in a TLS handshake: %v", v)
		}
	}()
	if err := h.secure.conn.Handshake(); err != nil || h.opt.Examine == nil {
		return err
	}
	h.secure.examined = h.opt.Examine(h.secure.conn.ConnectionState())
	return nil
}

func (h *handshake) acquire() bool {
	select {
	case h.tokens <- struct{}{}:
		h.held = true
		return true
	case <-h.aborted:
		return false
	}
}

func (h *handshake) release() {
	if h.held {
		h.held = false
		<-h.tokens
	}
}

// read is net.Conn's Read for the goroutine.
func (h *handshake) read(p []byte) (int, error) {
	if h.used == len(h.in) {
		h.in, h.used = h.in[:0], 0
		if h.quick != nil {
			if !h.quick.yield(struct{}{}) {
				return 0, net.ErrClosed
			}
			return h.take(p), nil
		}
		h.release()
		if !h.c.w.Send(&h.mail) {
			return 0, net.ErrClosed
		}
		select {
		case <-h.resume:
		case <-h.aborted:
			return 0, net.ErrClosed
		}
		if !h.acquire() {
			return 0, net.ErrClosed
		}
	}
	return h.take(p), nil
}

func (h *handshake) take(p []byte) int {
	n := h.secure.give(p, h.in[h.used:])
	h.used += n
	return n
}

// OnMessage implements Receiver: the turn is the worker's again.
func (h *handshake) OnMessage() {
	if h.state == handshakeOver {
		return
	}
	h.c.w.Blame(h.c)
	if h.settle() {
		h.receive()
	}
}

// settle sends what there is, and says whether the handshake waits for the peer now.
func (h *handshake) settle() bool {
	h.unsent = append(h.unsent, h.out...)
	h.out = h.out[:0]
	sent := h.flush()
	switch {
	case h.finished && h.err != nil:
		h.fail(h.err)
	case !sent:
		h.fail(h.c.Err())
	case h.finished:
		h.succeed()
	default:
		h.state = handshakeWaits
		return true
	}
	return false
}

// flush sends what is left; false means that the connection has failed.
func (h *handshake) flush() bool {
	if len(h.unsent) == 0 {
		return true
	}
	n, st := h.c.send(h.unsent)
	h.unsent = h.unsent[:copy(h.unsent, h.unsent[n:])]
	return st != Failed
}

// succeed makes the connection one that an engine can use.
func (h *handshake) succeed() {
	c := h.c
	h.list.succeeded++
	s := h.secure
	h.end()
	s.shake = nil
	s.empty, s.hangUp = !h.readable, h.hangUp != 0
	s.adopt(h.in[h.used:], h.unsent)
	c.tls = s
	c.handler = nil
	h.tell(nil)
	if s.in != nil || h.readable { // what came behind the handshake brings no further event
		c.Ready(Readable | h.hangUp)
	}
}

// fail closes the connection and tells why.
func (h *handshake) fail(err error) {
	h.list.failed++
	h.c.Close()
	h.tell(err)
}

func (h *handshake) tell(err error) {
	h.told = true
	h.opt.Done(h.c, err)
}

// end takes the handshake out of the worker. A goroutine that waits, or will, gives up.
func (h *handshake) end() {
	w := h.c.w
	h.state = handshakeOver
	w.wheel.Remove(&h.timer)
	h.list.Remove(&h.place)
	w.countsChanged = true
	h.c.shake = nil
	close(h.aborted)
	if h.quick != nil { // it waits in read
		h.quick.stop()
		h.quick = nil
	}
}

func (h *handshake) onDeadline(clock.Time) {
	w := h.c.w
	w.Blame(h.c)
	h.fail(ErrHandshakeTimeout)
	w.Blame(nil)
}

// handshakeList holds the handshakes of a worker with clients, or with back ends, oldest first.
type handshakeList struct {
	list.List[handshake]
	max               int
	succeeded, failed uint64
}

func (l *handshakeList) publish(s *HandshakeStats) {
	s.Succeeded.Store(l.succeeded)
	s.Failed.Store(l.failed)
	s.Open.Store(int64(l.Len()))
}
