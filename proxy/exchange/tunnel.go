package exchange

import (
	"rauta.io/rauta/proxy/list"
	"rauta.io/rauta/proxy/message"
	"rauta.io/rauta/proxy/observe"
	"rauta.io/rauta/proxy/websocket"
)

const (
	// TunnelCloseTime is how long the ends of a tunnel have, in nanoseconds, to close it once they have been asked to: a
	// round trip of each end and what its application does at the end.
	TunnelCloseTime = 5e9
	// tunnelsClosedAtOnce bounds the tunnels that one call of CloseTunnels asks to close, so that requests get their turn.
	tunnelsClosedAtOnce = 1000
)

// tunnel is what an exchange has beyond its 101.
type tunnel struct {
	x     *Exchange
	place list.Node[tunnel] // in the worker's list, which it leaves when it begins to close

	backendEnded, clientEnded bool // the half has been closed from that end

	websocket bool
	frames    websocket.Tracker // of what the back end sends; only of a WebSocket
	closing   closing
	reason    string // why it closes
}

// closing is how far the end of a tunnel has come that RAUTA has asked for.
type closing uint8

const (
	notClosing  closing = iota
	closeDue            // the client gets a close frame at the end of the frame that is under way
	closeSent           // it has got one: nothing more goes to it
	halvesEnded         // both ends have been told that nothing more comes
)

// onSwitch turns the exchange into a tunnel if that is what the client asked for (RFC 9110 section 7.8), and if its
// request has been sent: what is left of a body must not become the tunnel's first bytes.
func (x *Exchange) onSwitch(resp *message.Response) {
	asked := x.Req.Bytes(x.Req.Upgrade)
	if len(asked) == 0 || !equalTokens(asked, resp.Bytes(resp.Upgrade)) || !x.requestEnded {
		x.fail(502, "unexpected_switching_protocols")
		return
	}
	now := x.w.Clock.Now()
	x.rec.FirstByteAt = x.since(now)
	x.enter(observe.StageBackendBody)
	x.rec.Status, x.rec.BackendStatus = resp.Status, resp.Status
	if x.spans != nil {
		x.spans.answeredIn(resp.Version)
	}
	x.phase = phaseTunnel
	x.loseBody()
	t := &tunnel{x: x, websocket: message.EqualFold(asked, websocket.Protocol)}
	x.tunnel = t
	t.place.Item = t
	x.w.tunnels.PushFront(&t.place)
	x.limits.tunnel(x)
	x.rule.Filters.Response(resp)
	x.backend.Filters.Response(resp)
	x.down.SendHead(resp)
	if x.w.closingTunnels {
		x.closeTunnel("drained")
	}
}

func equalTokens(a, b []byte) bool {
	if len(a) != len(b) {
		return false
	}
	for i := range a {
		if a[i] != b[i] && (a[i]|0x20 != b[i]|0x20 || a[i]|0x20 < 'a' || a[i]|0x20 > 'z') {
			return false
		}
	}
	return true
}

// fromBackend passes on what the back end sends.
func (t *tunnel) fromBackend(p []byte) {
	x := t.x
	switch t.closing {
	case notClosing:
		if t.websocket {
			t.frames.Pass(p)
		}
	case closeDue:
		p = p[:t.frames.PassFrame(p)]
	default:
		return // there is no place for it any more
	}
	x.rec.BytesOut += int64(len(p))
	if !x.down.SendData(p) {
		x.enter(observe.StageClientWrite)
		x.attempt.stream.PauseBody()
	}
	if t.closing == closeDue && t.frames.AtBoundary() {
		t.sendClose()
	}
}

// endOfBackend: the back end has closed its half.
func (t *tunnel) endOfBackend() {
	if t.backendEnded = true; t.closing != halvesEnded {
		t.x.down.SendEnd(nil)
	}
	t.endHalf()
}

// endOfClient: the client has closed its half.
func (t *tunnel) endOfClient() {
	if t.clientEnded = true; t.closing != halvesEnded {
		t.x.attempt.stream.SendEnd(nil)
	}
	t.endHalf()
}

// endHalf finishes the tunnel once both halves are closed.
func (t *tunnel) endHalf() {
	if !t.backendEnded || !t.clientEnded {
		t.x.limits.halfTunnel(t.x)
		return
	}
	t.finish()
}

func (t *tunnel) finish() {
	x := t.x
	x.dropAttempt()
	x.down.Finished() // true of tunnels
	x.finish(t.reason)
}

// closeTunnel asks both ends to close. The client of a WebSocket gets a close frame that says so (RFC 6455 section 7.4.1),
// where no other frame is under way; its answer, and what it sends before that, goes to the back end, which closes then.
// The ends of other tunnels see that nothing more comes.
func (x *Exchange) closeTunnel(reason string) {
	t := x.tunnel
	t.reason = reason
	x.w.tunnels.Remove(&t.place)
	switch {
	case t.backendEnded:
		t.closing = closeSent // the client knows
	case !t.websocket:
		t.closing = halvesEnded
		x.down.SendEnd(nil)
		if !t.clientEnded {
			x.attempt.stream.SendEnd(nil)
		}
	case t.frames.AtBoundary():
		t.sendClose()
	default:
		t.closing = closeDue
	}
	x.limits.closingTunnel(x)
}

func (t *tunnel) sendClose() {
	t.closing = closeSent
	frame := websocket.CloseGoingAway()
	t.x.rec.BytesOut += int64(len(frame))
	t.x.down.SendData(frame[:])
}

// cut ends a tunnel whose ends have had their time.
func (t *tunnel) cut() {
	if !t.backendEnded && t.closing != halvesEnded {
		t.x.down.SendEnd(nil)
	}
	t.finish()
}

// CloseTunnels asks the ends of all tunnels to close, a number of them at a time: call it until the worker is idle. A
// tunnel that opens after the first call closes at once.
func (w *Worker) CloseTunnels() {
	w.closingTunnels = true
	for n := 0; n < tunnelsClosedAtOnce && w.tunnels.Len() > 0; n++ {
		w.tunnels.Front().Item.x.closeTunnel("drained")
	}
}
