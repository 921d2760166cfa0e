package exchange

import (
	"rauta.io/rauta/proxy/clock"
)

// Defaults of timeouts that a rule does not set, in nanoseconds.
const (
	// responseTimeout: from the end of the request sent to the response head (nginx and HAProxy users expect 60 s).
	responseTimeout = 60e9
	// streamIdleTimeout: no byte in either direction while a body is under way (Envoy: 5 min). For tunnels only once one
	// of their halves is closed, while both are open rules may limit it; and not for gRPC.
	streamIdleTimeout = 300e9
)

// deadlines are the points in time at which an exchange gives up; 0 means none. One timer serves them all: it is armed
// for the earliest, and moving it later costs two stores.
type deadlines struct {
	timer    clock.Timer
	start    clock.Time // end of the request head
	request  clock.Time // whole exchange
	attempt  clock.Time // the attempt under way
	response clock.Time // the response head
	retry    clock.Time // the next attempt
	touched  clock.Time // last byte in either direction once a stream is there; of tunnels only where that is limited
	asked    clock.Time // when the client of a gRPC call gives up
	patient  bool       // a gRPC call: silence is no failure
	prefix   int        // bytes of the path that the rule's prefix match covered
}

func (d *deadlines) reset() {
	d.start, d.request, d.attempt, d.response, d.touched, d.prefix = 0, 0, 0, 0, 0, 0
	d.asked, d.patient, d.retry = 0, false, 0
}

// within turns a rule's timeout into a deadline: 0 takes the default, a negative one means none.
func within(from clock.Time, timeout, def int64) clock.Time {
	if timeout == 0 {
		timeout = def
	}
	if timeout <= 0 {
		return 0
	}
	return from + clock.Time(timeout)
}

// armAttempt starts the clock of one attempt, and at the first one that of the request.
func (d *deadlines) armAttempt(x *Exchange) {
	now := x.w.Clock.Now()
	d.request = within(d.start, x.rule.RequestTimeout, 0)
	if d.asked != 0 && (d.request == 0 || d.asked < d.request) {
		d.request = d.asked
	}
	d.attempt = within(now, x.rule.BackendTimeout, 0)
	d.retry = 0
	d.response = d.responseFrom(x, now) // a wait for a connection counts too
	d.touched = 0
	d.arm(x)
}

// armUpload: there is a stream, and a request body to be sent.
func (d *deadlines) armUpload(x *Exchange, now clock.Time) {
	d.response = 0
	d.touched = now
	d.arm(x)
}

// armResponse: the request has been sent, the response head is due.
func (d *deadlines) armResponse(x *Exchange, now clock.Time) {
	d.response = d.responseFrom(x, now)
	d.touched = now
	d.arm(x)
}

// responseFrom is when the response head is due. A gRPC server may send it with its first message, whenever that is: there
// only a route's own timeout counts.
func (d *deadlines) responseFrom(x *Exchange, now clock.Time) clock.Time {
	def := int64(responseTimeout)
	if d.patient {
		def = 0
	}
	return within(now, x.rule.ResponseTimeout, def)
}

// headArrived: from now on only idleness and the request's own timeouts count.
func (d *deadlines) headArrived(x *Exchange) {
	d.response = 0
	d.arm(x)
}

// tunnel ends all deadlines: a tunnel lives as long as its two ends, which the kernel probes, unless its rule has a limit
// on idleness.
func (d *deadlines) tunnel(x *Exchange) {
	d.request, d.attempt, d.response, d.touched, d.patient = 0, 0, 0, 0, false
	if x.rule.TunnelIdle > 0 {
		d.touched = x.w.Clock.Now()
	}
	d.arm(x)
}

// closingTunnel: the ends of the tunnel have been asked to close it.
func (d *deadlines) closingTunnel(x *Exchange) {
	d.attempt = x.w.Clock.Now() + TunnelCloseTime
	d.arm(x)
}

// idleMax is the longest time without a byte in either direction.
func (x *Exchange) idleMax() clock.Time {
	if x.tunnel != nil && x.rule.TunnelIdle > 0 {
		return clock.Time(x.rule.TunnelIdle)
	}
	return streamIdleTimeout
}

// halfTunnel: one end has closed its half. What the other still has to say may take any time, but not its silence: an
// end that never closes would keep the tunnel for ever.
func (d *deadlines) halfTunnel(x *Exchange) {
	d.touched = x.w.Clock.Now()
	d.arm(x)
}

func (d *deadlines) stop(x *Exchange) { x.w.Clock.Set(&d.timer, 0) }

func (d *deadlines) arm(x *Exchange) {
	if t := x.tunnel; t != nil && t.closing != notClosing {
		x.w.Clock.Set(&d.timer, d.attempt)
		return
	}
	next := d.response
	if next == 0 && d.touched != 0 && !d.patient {
		next = d.touched + x.idleMax()
	}
	for _, t := range [...]clock.Time{d.request, d.attempt, d.retry} {
		if t != 0 && (next == 0 || t < next) {
			next = t
		}
	}
	x.w.Clock.Set(&d.timer, next)
}

// onDeadline fires at the earliest deadline as of when it was armed.
func (x *Exchange) onDeadline(now clock.Time) {
	d := &x.limits
	passed := func(t clock.Time) bool { return t != 0 && t <= now }
	idle := !d.patient && d.touched != 0 && d.response == 0 && d.touched+x.idleMax() <= now
	t := x.tunnel
	switch {
	case t != nil && t.closing != notClosing:
		if passed(d.attempt) {
			t.cut()
			return
		}
		d.arm(x)
	case idle && t != nil && !t.backendEnded && !t.clientEnded:
		x.closeTunnel("tunnel_idle_timeout")
	case passed(d.request):
		if d.request == d.asked {
			x.fail(504, reasonGRPCTimeout) // a client that is in a hurry must not get a healthy endpoint ejected
			return
		}
		x.timeout("request_timeout")
	case passed(d.retry):
		d.retry = 0
		x.nextAttempt()
	case passed(d.attempt):
		x.attemptTimeout("backend_request_timeout")
	case passed(d.response):
		x.attemptTimeout("response_timeout")
	case idle:
		x.timeout("stream_idle_timeout")
	default:
		d.arm(x)
	}
}

// timeout gives up. It is the endpoint's fault only if it had the whole request: else clients that send slowly could
// get a healthy endpoint ejected.
func (x *Exchange) timeout(reason string) {
	x.blameTimeout()
	x.fail(504, reason)
}

// attemptTimeout is timeout for an attempt, which another one may follow.
func (x *Exchange) attemptTimeout(reason string) {
	x.blameTimeout()
	if !x.retryAfterTimeout(reason) {
		x.fail(504, reason)
	}
}

func (x *Exchange) blameTimeout() {
	a := &x.attempt
	if a.endpoint != nil && a.stream != nil && !a.retired && x.phase == phaseHead && x.requestEnded {
		a.endpoint.Report(x.w.Upstream, false)
	}
}
