// Package dial makes a worker's connections to endpoints.
//
// It owns a connection from the connect over the TLS handshake to the moment when it can carry a request, and the deadline
// of all that. It does
// not own when a connection is wanted (proxy/upstream), nor what is spoken on it: the engine of the protocol takes it
// over. proxy/server makes one Dialer for each worker.
package dial

import (
	"errors"
	"syscall"

	"rauta.io/rauta/proxy/certs"
	"rauta.io/rauta/proxy/clock"
	"rauta.io/rauta/proxy/config"
	"rauta.io/rauta/proxy/loop"
	"rauta.io/rauta/proxy/upstream"
)

// Engine speaks one protocol to back ends.
type Engine interface {
	// Attach takes over a connection that is open and has been silent as far as the protocol demands. It reports it once,
	// with p.Ready or p.DialFailed, possibly before it returns. What has come already is delivered as an event.
	Attach(conn *loop.Conn, p *upstream.Pool)
}

// Dialer implements upstream.Dialer for one worker. All methods are for the worker's thread.
type Dialer struct {
	// OnTLSFailure, if not nil, is told of handshakes with back ends that failed, for people to read: one in
	// reportInterval at most, and how many there were since.
	OnTLSFailure func(e *upstream.Endpoint, err error, failures int)

	// Immutable.
	loop  *loop.Worker
	http1 Engine
	http2 Engine // nil: not spoken

	// Owned by the worker.
	reportFrom clock.Time // the next failure from then on is told
	failures   int        // since the last that was
}

// reportInterval, in nanoseconds: a back end whose certificate has expired makes every request fail.
const reportInterval = clock.Time(10e9)

// New returns the dialer of a worker.
func New(w *loop.Worker, http1, http2 Engine) *Dialer {
	return &Dialer{loop: w, http1: http1, http2: http2}
}

// attempt is one connection on its way. It implements loop.Handler.
type attempt struct {
	// Immutable.
	d    *Dialer
	pool *upstream.Pool
	conn *loop.Conn
	from clock.Time

	// Owned by the worker.
	timer clock.Timer // of the whole attempt; the handshake, if there is one, takes its deadline over
}

// Dial implements upstream.Dialer.
func (d *Dialer) Dial(p *upstream.Pool) {
	a := &attempt{d: d, pool: p, from: d.loop.Now()}
	a.timer.Fire = a.onTimeout
	conn, err := d.loop.ConnectTo(p.Endpoint().Addr, p.Endpoint().Stats, a)
	if err != nil {
		p.DialFailed(upstream.Failure{Stage: upstream.StageConnect, Cause: upstream.CauseConnectFailed, Err: err})
		return
	}
	a.conn = conn
	d.loop.Wheel().Set(&a.timer, d.loop.Now()+clock.Time(p.ConnectTimeout()))
}

// OnEvent implements loop.Handler.
func (a *attempt) OnEvent(ev loop.Events) {
	err := a.conn.ConnectResult()
	if errors.Is(err, loop.ErrConnecting) {
		return
	}
	if err != nil {
		a.fail(upstream.CauseConnectFailed, "", err)
		return
	}
	e := a.pool.Endpoint()
	if e.TLS == nil {
		a.attach(e.Protocol, ev&(loop.Readable|loop.HangUp|loop.Error))
		return
	}
	deadline := a.timer.Deadline()
	a.d.loop.Wheel().Remove(&a.timer)
	a.conn.StartTLS(loop.TLSOptions{Client: true, Config: e.TLS.Config(e.Name, e.Protocol), Deadline: deadline, Done: a.secured})
}

// secured ends the handshake; if it failed, the connection is closed already.
func (a *attempt) secured(conn *loop.Conn, err error) {
	if err != nil {
		a.shakeFailed(err)
		return
	}
	state, _ := conn.TLS()
	protocol := config.BackendHTTP1
	if state.Protocol == "h2" {
		protocol = config.BackendH2
	}
	if protocol != config.BackendH2 && a.pool.Endpoint().Protocol == config.BackendH2 {
		a.fail(upstream.CauseTLS, "tls_without_h2", nil)
		return
	}
	a.attach(protocol, loop.Readable)
}

func (a *attempt) shakeFailed(err error) {
	if errors.Is(err, loop.ErrHandshakeTimeout) {
		a.fail(upstream.CauseConnectTimeout, "", err)
		return
	}
	a.d.report(a.pool.Endpoint(), err)
	a.fail(upstream.CauseTLS, certs.Problem(err), err)
}

// report tells people why handshakes fail.
func (d *Dialer) report(e *upstream.Endpoint, err error) {
	d.failures++
	if d.OnTLSFailure == nil || d.loop.Now() < d.reportFrom {
		return
	}
	d.reportFrom = d.loop.Now() + reportInterval
	d.OnTLSFailure(e, err, d.failures)
	d.failures = 0
}

// attach hands the connection over; came is what the socket has told of besides being connected. The edge does not come
// again.
func (a *attempt) attach(protocol config.BackendProtocol, came loop.Events) {
	engine := a.d.http1
	if protocol == config.BackendH2 {
		engine = a.d.http2
	}
	if engine == nil {
		a.fail(upstream.CauseProtocol, "http2_not_spoken", nil)
		return
	}
	// A back end that speaks HTTP/2 may send its settings first (RFC 9113 section 3.4).
	if came != 0 && protocol != config.BackendH2 {
		if !a.silent() {
			return
		}
		came = 0
	}
	a.d.loop.Wheel().Remove(&a.timer)
	a.pool.Connected(int64(a.d.loop.Now() - a.from))
	engine.Attach(a.conn, a.pool)
	if came != 0 {
		a.conn.Ready(came)
	}
}

// silent looks whether the back end has sent or closed anything although it owes nothing, and fails then: the bytes would
// be taken for the response to the first request (attack row 34).
func (a *attempt) silent() bool {
	_, st := a.conn.Read(a.d.loop.ReadBuffer()[:1])
	switch {
	case st == loop.Again:
		return true
	case st == loop.EOF:
		a.fail(upstream.CauseEOF, "", nil)
	case st == loop.OK:
		a.fail(upstream.CauseProtocol, "", nil)
	case a.conn.Secured(): // an alert: for the back end the handshake was not over
		a.shakeFailed(a.conn.Err())
	default:
		a.fail(upstream.CauseReset, "", a.conn.Err())
	}
	return false
}

func (a *attempt) onTimeout(clock.Time) {
	a.d.loop.Blame(a.conn)
	defer a.d.loop.Blame(nil)
	a.fail(upstream.CauseConnectTimeout, "", syscall.ETIMEDOUT)
}

// fail ends the attempt.
func (a *attempt) fail(cause upstream.Cause, detail string, err error) {
	a.d.loop.Wheel().Remove(&a.timer)
	a.conn.Close()
	a.pool.DialFailed(upstream.Failure{Stage: upstream.StageConnect, Cause: cause, Detail: detail, Err: err})
}
