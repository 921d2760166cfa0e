package exchange

import (
	"rauta.io/rauta/proxy/clock"
	"rauta.io/rauta/proxy/message"
	"rauta.io/rauta/proxy/observe"
	"rauta.io/rauta/proxy/upstream"
)

const (
	attemptsMax = 2 // without a Retry of the rule: one retry, besides attempts that no back end has looked at
	unsentMax   = 8 // of those: back ends end connections after some requests, and a busy one may meet that again
	// backoffDefault is the least time before an attempt that follows a response, or several failures, in nanoseconds.
	backoffDefault = 25e6
	// backoffGrowthMax is how often the time may double: the tenth attempt should not take minutes to come.
	backoffGrowthMax = 3
	// drainBytesMax is the most of a response that is read only to keep its connection, in bytes; error pages fit.
	drainBytesMax = 64 << 10
)

// retryAfterFailure makes another attempt after one that failed, if it may.
func (x *Exchange) retryAfterFailure(f upstream.Failure) bool {
	// What no back end has looked at is no load for one: connections that end in good order must not use the budget up.
	free := f.Stage == upstream.StageUnsent
	if free {
		x.unsent++
	}
	safe := x.Req.MethodID.Safe() && x.Req.Framing == message.NoBody
	if x.replay.gone || !f.Retriable(safe) && !x.mayRepeat(failureStatus(f), f.Stage <= upstream.StageConnect) {
		return false
	}
	if free {
		if x.unsent >= unsentMax || !x.attemptsLeft() {
			return false
		}
		x.countRetry(0, failureReason(f))
		x.pick(x.attempt.endpoint)
		return true
	}
	if !x.attemptsLeft() || !x.w.Upstream.AllowRetry() {
		return false
	}
	x.countRetry(0, failureReason(f))
	if r := x.rule.Retry; r == nil || r.Backoff == 0 && x.retries() == 0 {
		x.pick(x.attempt.endpoint) // elsewhere it may work at once
	} else {
		x.backOff()
	}
	return true
}

// retryAfterResponse makes another attempt instead of passing a response on, if the rule wants that. grpc is the status of
// a gRPC call, -1 for none. The response says that the request was refused, so the method does not matter.
func (x *Exchange) retryAfterResponse(resp *message.Response, grpc int) bool {
	if !x.rule.Retry.Has(resp.Status) && grpc != grpcUnavailable || x.replay.gone || !x.attemptsLeft() || !x.w.Upstream.AllowRetry() {
		return false
	}
	x.countRetry(resp.Status, "")
	x.rec.BackendStatus, x.rec.GRPCStatus, x.rec.FirstByteAt = 0, 0, 0
	x.backOff()
	if !x.requestEnded || resp.Framing == message.UntilClose { // what is left of the body is for the next one
		x.dropAttempt()
	}
	return true
}

// retryAfterTimeout makes another attempt after one that took too long, if the rule wants that.
func (x *Exchange) retryAfterTimeout(reason string) bool {
	a := &x.attempt
	if x.phase != phaseHead || x.replay.gone || a.stream != nil && !x.requestEnded || !x.mayRepeat(504, a.waiting) ||
		!x.attemptsLeft() || !x.w.Upstream.AllowRetry() {
		return false
	}
	x.countRetry(0, reason)
	x.dropAttempt()
	x.backOff()
	return true
}

// mayRepeat reports whether the rule wants another attempt after what would be answered with a status, though a back end
// may have done what was asked for already, unless the request was unsent.
func (x *Exchange) mayRepeat(status int, unsent bool) bool {
	r := x.rule.Retry
	return r != nil && r.Has(status) && (unsent || x.Req.MethodID.Idempotent())
}

// retries is the number of attempts before this one that a back end may have looked at.
func (x *Exchange) retries() int { return x.rec.Attempts - x.unsent - 1 }

func (x *Exchange) attemptsLeft() bool {
	most := attemptsMax
	if r := x.rule.Retry; r != nil {
		most = 1 + r.Attempts
	}
	return x.rec.Attempts-x.unsent < most
}

// countRetry counts the attempt that another one follows; status is what was answered, 0 for nothing, which the reason
// explains.
func (x *Exchange) countRetry(status int, reason string) {
	if x.spans != nil {
		x.endAttemptSpan(reason)
	}
	x.w.Shard.Retry()
	x.w.Shard.AttemptFailed(x.attempt.endpoint.Stats, status)
}

// backOff lets some time pass before the next attempt: the least time that the rule wants, doubled with each attempt, and
// up to half of it more, so that those that failed together do not come back together. The response to the one before is
// read to its end meanwhile, because that keeps its connection.
func (x *Exchange) backOff() {
	least := int64(backoffDefault)
	if r := x.rule.Retry; r != nil && r.Backoff > 0 {
		least = r.Backoff
	}
	least <<= min(x.retries(), backoffGrowthMax)
	spread := int64(uint64(least/2) * (x.w.rand() >> 32) >> 32)
	d := &x.limits
	d.attempt, d.response, d.touched = 0, 0, 0
	d.retry = x.w.Clock.Now() + clock.Time(least+spread)
	d.arm(x)
	x.attempt.retired, x.attempt.drained = true, 0
	x.enter(observe.StageProxy)
	if !x.requestEnded && x.Req.Framing != message.NoBody {
		x.down.PauseBody()
	}
}

// nextAttempt ends the wait.
func (x *Exchange) nextAttempt() {
	x.dropAttempt()
	x.pick(x.attempt.endpoint)
}

// drain throws a part of a response away.
func (x *Exchange) drain(p []byte) {
	if x.attempt.drained += len(p); x.attempt.drained > drainBytesMax {
		x.attempt.stream.PauseBody()
	}
}
