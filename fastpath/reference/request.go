package reference

import (
	"errors"
	"io"
	"os"
	"sync"
	"time"

	"rauta.io/rauta/fastpath/wire"
	"rauta.io/rauta/proxy/exchange"
	"rauta.io/rauta/proxy/message"
)

// Watermarks in bytes of what waits in one direction of one exchange: above high the source pauses, at low it goes on.
const (
	bufferedHigh = 64 << 10
	bufferedLow  = 16 << 10
)

// errAborted ends a response that must not look complete.
var errAborted = errors.New("the response was broken off")

// request is one request of either protocol. It implements exchange.Downstream by remembering what it is told; the
// goroutines that serve the request wait for changes and do the reading and writing.
type request struct {
	// Immutable.
	core *core
	// Set once, before the exchange starts.
	version     message.Version
	toHead      bool
	closeAsked  bool
	keepAlive10 bool
	refused     bool // the head was bad: what follows is not understood

	// Guarded by core.mu; changed is signalled with it held.
	changed  sync.Cond
	x        *exchange.Exchange // nil: the exchange is over
	interims []*message.Response
	head     *message.Response // the final head, or that of a tunnel
	body     []byte            // of the response, not yet taken
	taken    int               // of body
	ended    bool
	aborted  bool
	starved  bool // the exchange waits for OnClientWritable
	paused   bool // the exchange takes no body
	complete bool // the request body has been read
	pumping  bool // a goroutine reads the request body
	pumped   bool // and it has been started
}

func newRequest(c *core) *request {
	r := &request{core: c}
	r.changed.L = &c.mu
	return r
}

// begin parses head, which is complete, and starts the exchange. sized reports what the server that read the request
// holds for the length of its body: -1 for chunked, 0 for none; if it is of another opinion than our parser the request
// is refused, because one of them is wrong about where the next one starts. It reports whether a body is to be read.
func (r *request) begin(head []byte, peer *exchange.Peer, version message.Version, length int64) (body bool) {
	c := r.core
	c.lock()
	defer c.mu.Unlock()
	x := c.exchange.New(r, peer)
	r.x = x
	var parser wire.RequestParser
	n, reason := parser.Parse(head, &x.Req, &c.e.opt.Limits.Request)
	req := &x.Req
	r.toHead = req.MethodID == message.MethodHead
	r.version = version
	switch {
	case reason != wire.OK:
		c.exchange.Shard.ParseError(uint8(reason))
		r.refuse(reason.Status(), reason.String(), head)
		return false
	case n != len(head) || framedLength(req) != length:
		r.refuse(400, "ambiguous_head", head)
		return false
	}
	if parser.DroppedFields > 0 {
		c.exchange.Shard.FieldDropped(parser.DroppedFields)
	}
	req.Version = version
	r.closeAsked = req.Close
	r.keepAlive10 = version == message.HTTP10 && !req.Close
	body = req.Framing == message.Streamed || req.Framing == message.Sized && req.Length > 0
	sized0 := req.Framing == message.Sized && req.Length == 0
	r.complete = !body
	x.Start()
	if sized0 && r.x == x {
		x.OnRequestEnd(nil)
	}
	return body && r.x != nil
}

// framedLength is the length of the body as begin takes it.
func framedLength(req *message.Request) int64 {
	if req.Framing == message.NoBody {
		return 0
	}
	return req.Length
}

// refuse answers a head that breaks the protocol or a limit.
func (r *request) refuse(status int, reason string, head []byte) {
	r.closeAsked, r.refused = true, true
	r.x.Req.Received = head
	r.x.Refuse(status, reason)
}

// refuseBytes answers what could not even be parsed as a head.
func (r *request) refuseBytes(peer *exchange.Peer, status int, reason string) {
	r.core.do(func() {
		r.version = message.HTTP11
		r.x = r.core.exchange.New(r, peer)
		r.refuse(status, reason, nil)
	})
}

// SendHead implements exchange.Downstream.
func (r *request) SendHead(resp *message.Response) {
	if resp.Status == 100 {
		return // fasthttp and http2 send it themselves, when the body is asked for
	}
	own := &message.Response{
		Status: resp.Status, Version: resp.Version, Framing: resp.Framing, Length: resp.Length, Upgrade: resp.Upgrade,
		Close: resp.Close,
	}
	own.Copy(&resp.Head)
	if resp.Status < 200 && resp.Status != 101 {
		r.interims = append(r.interims, own)
	} else {
		r.head = own
	}
	r.changed.Broadcast()
}

// SendData implements exchange.Downstream.
func (r *request) SendData(p []byte) bool {
	r.body = append(r.body, p...)
	r.changed.Broadcast()
	r.starved = len(r.body)-r.taken >= bufferedHigh
	return !r.starved
}

// SendEnd implements exchange.Downstream.
func (r *request) SendEnd(*message.Head) {
	r.ended = true
	r.changed.Broadcast()
}

// PauseBody implements exchange.Downstream.
func (r *request) PauseBody() { r.paused = true }

// ResumeBody implements exchange.Downstream.
func (r *request) ResumeBody() {
	r.paused = false
	r.changed.Broadcast()
}

// Abort implements exchange.Downstream.
func (r *request) Abort(bool) {
	r.aborted = true
	r.x = nil
	r.changed.Broadcast()
}

// Finished implements exchange.Downstream.
func (r *request) Finished() (taken bool) {
	r.x = nil
	r.changed.Broadcast()
	return true
}

// gone tells the exchange, if there still is one, that the client is gone.
func (r *request) gone(reason string) {
	r.core.do(func() {
		if x := r.x; x != nil {
			r.x = nil
			x.OnClientGone(reason)
			r.aborted = true
			r.changed.Broadcast()
		}
	})
}

// awaitHead waits for the final head and passes interim ones to f on the way. It returns nil if there will be none,
// because the client is gone.
func (r *request) awaitHead(f func(*message.Response)) *message.Response {
	c := r.core
	c.mu.Lock()
	for {
		for len(r.interims) > 0 {
			interims := r.interims
			r.interims = nil
			c.mu.Unlock()
			for _, resp := range interims {
				f(resp)
			}
			c.mu.Lock()
		}
		if r.head != nil || r.x == nil {
			break
		}
		r.changed.Wait()
	}
	defer c.mu.Unlock()
	return r.head
}

// Read implements io.Reader: the response body, or what a tunnel carries to the client.
func (r *request) Read(p []byte) (int, error) {
	r.core.lock()
	defer r.core.mu.Unlock()
	for r.taken == len(r.body) {
		switch {
		case r.aborted:
			return 0, errAborted
		case r.ended:
			return 0, io.EOF
		}
		r.changed.Wait()
	}
	n := copy(p, r.body[r.taken:])
	r.taken += n
	left := len(r.body) - r.taken
	if left == 0 {
		r.body, r.taken = r.body[:0], 0
	}
	if r.starved && left <= bufferedLow && r.x != nil {
		r.starved = false
		r.core.wheel.SetNow(r.core.e.now())
		r.x.OnClientWritable()
	}
	return n, nil
}

// drained reports whether everything of the response that has come was taken.
func (r *request) drained() bool {
	r.core.mu.Lock()
	defer r.core.mu.Unlock()
	return r.taken == len(r.body)
}

// whole reports whether the response is here completely, whether the request was read completely, and whether the
// connection is to be closed.
func (r *request) whole() (response, request, closes bool) {
	r.core.mu.Lock()
	defer r.core.mu.Unlock()
	return r.ended, r.complete, r.closeAsked
}

// startPump marks that a goroutine is to read from the client; false means that the exchange is over.
func (r *request) startPump() bool {
	r.core.mu.Lock()
	defer r.core.mu.Unlock()
	r.pumping = r.x != nil
	r.pumped = r.pumped || r.pumping
	return r.pumping
}

// pump passes the request body on, pausing when it is told to. arm sets the time limit of the next read: the longest
// pause, or when the rate falls below the least one.
func (r *request) pump(body io.Reader, arm func(in time.Duration)) {
	defer r.endPump()
	c := r.core
	limits := &c.e.opt.Limits
	buf := make([]byte, pumpChunk)
	began, bytes := c.e.now(), int64(0)
	next := func() {
		age := int64(c.e.now() - began)
		enough := max(limits.BodyRateGrace, bytes*1e9/max(limits.BodyRateMin, 1))
		arm(time.Duration(min(limits.BodyIdle, enough-age)))
	}
	for r.awaitResume(next) {
		n, err := body.Read(buf)
		bytes += int64(n)
		age := int64(c.e.now() - began)
		slow := age > limits.BodyRateGrace && bytes < age/1e9*limits.BodyRateMin
		c.do(func() { r.onBody(buf[:n], err, slow) })
		if err != nil {
			break
		}
	}
}

func (r *request) endPump() {
	r.core.do(func() {
		r.pumping = false
		r.changed.Broadcast()
	})
}

// pumpChunk is what is read of a body at once, in bytes.
const pumpChunk = 32 << 10

// awaitResume waits until a part of the body is wanted, and calls arm then; false means that none will be. The lock is
// held while arm runs, so that it can't undo what finish does to free a read.
func (r *request) awaitResume(arm func()) bool {
	r.core.mu.Lock()
	defer r.core.mu.Unlock()
	for r.paused && r.x != nil {
		r.changed.Wait()
	}
	if r.x == nil {
		return false
	}
	arm()
	return true
}

func (r *request) onBody(p []byte, err error, slow bool) {
	x := r.x
	if x == nil {
		return
	}
	if len(p) > 0 {
		x.OnRequestData(p)
	}
	switch {
	case r.x != x:
	case err == io.EOF:
		r.complete = true
		x.OnRequestEnd(nil)
	case errors.Is(err, os.ErrDeadlineExceeded):
		r.closeAsked = true
		x.OnBadRequestBody(408, "body_timeout")
	case errors.Is(err, io.ErrUnexpectedEOF) || isConnError(err):
		r.x, r.aborted = nil, true
		x.OnClientGone("client_closed_early")
		r.changed.Broadcast()
	case err != nil:
		r.onBadBody(err)
	case slow && r.head == nil:
		r.closeAsked = true
		x.OnBadRequestBody(408, "body_too_slow")
	}
}

// onBadBody: the body breaks the protocol, as the gate says or as fasthttp does.
func (r *request) onBadBody(err error) {
	r.closeAsked = true
	var refused *refusal
	if !errors.As(err, &refused) {
		r.x.OnBadRequestBody(400, "bad_body")
		return
	}
	r.core.exchange.Shard.ParseError(uint8(refused.reason))
	r.x.OnBadRequestBody(refused.reason.Status(), refused.reason.String())
}

// finish ends the exchange if the client stopped taking the response, and waits for the pump, which unblock frees from
// a read that may never return.
func (r *request) finish(unblock func()) {
	r.gone("client_reset")
	r.core.mu.Lock()
	defer r.core.mu.Unlock()
	for first := true; r.pumping; first = false {
		if first {
			unblock()
		}
		r.changed.Wait()
	}
}

// pumpStarted reports whether a goroutine reads, or has read, the request body.
func (r *request) pumpStarted() bool {
	r.core.mu.Lock()
	defer r.core.mu.Unlock()
	return r.pumped
}

// awaitEnd waits until a response without a body is over.
func (r *request) awaitEnd() {
	r.core.mu.Lock()
	defer r.core.mu.Unlock()
	for !r.ended && !r.aborted {
		r.changed.Wait()
	}
}

// awaitOver waits until the exchange is over.
func (r *request) awaitOver() {
	r.core.mu.Lock()
	defer r.core.mu.Unlock()
	for r.x != nil {
		r.changed.Wait()
	}
}
