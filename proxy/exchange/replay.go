package exchange

import "rauta.io/rauta/proxy/message"

// Bounds of what is kept of request bodies for another attempt, in bytes and in buffers.
const (
	// replayBytesMax is the most of one body: forms and gRPC messages fit, uploads do not.
	replayBytesMax = 64 << 10
	// replaySmallMax of it stays with the exchange, like heads, so that usual requests take no buffer of the worker's.
	replaySmallMax = headKeepMax
	// replaysMax is how many exchanges of a worker have a buffer for more than that at a time: 4 MiB. Further ones are not
	// tried again once they have passed more on.
	replaysMax = 64
	// replaysKept of the buffers stay for reuse.
	replaysKept = 16
)

// replay is what has been passed on of a request body, as long as there may be another attempt.
type replay struct {
	data  []byte // all of it, unless gone
	small []byte // the exchange's own room, while data is a buffer of the worker's
	large bool   // data is one
	gone  bool   // something has been passed on and not kept: there can be no other attempt
}

// keepBody keeps a part of the request body.
func (x *Exchange) keepBody(p []byte) {
	r := &x.replay
	if r.gone {
		return
	}
	need := len(r.data) + len(p)
	switch {
	case x.phase != phaseHead || need > replayBytesMax:
		x.loseBody()
		return
	case need <= replaySmallMax || r.large:
	case x.Req.Framing == message.Sized && x.Req.Length > replayBytesMax: // it would be lost later anyway
		x.loseBody()
		return
	default:
		large := x.w.replays.take()
		if large == nil {
			x.loseBody()
			return
		}
		r.data, r.small, r.large = append(large, r.data...), r.data, true
	}
	r.data = append(r.data, p...)
}

// loseBody: there will be no other attempt.
func (x *Exchange) loseBody() {
	x.dropReplay()
	x.replay.gone = true
}

// dropReplay forgets what was kept.
func (x *Exchange) dropReplay() {
	r := &x.replay
	if r.large {
		x.w.replays.put(r.data)
		r.data, r.small, r.large = r.small, nil, false
	}
	r.data = r.data[:0]
}

// replays are the buffers of a worker for what exchanges keep of bodies.
type replays struct {
	free  [][]byte
	taken int
}

// take returns an empty buffer of replayBytesMax, nil if too many are in use.
func (r *replays) take() []byte {
	if r.taken >= replaysMax {
		return nil
	}
	r.taken++
	if n := len(r.free); n > 0 {
		b := r.free[n-1]
		r.free = r.free[:n-1]
		return b
	}
	return make([]byte, 0, replayBytesMax)
}

func (r *replays) put(b []byte) {
	r.taken--
	if len(r.free) < replaysKept {
		r.free = append(r.free, b[:0])
	}
}
