package exchange

import "rauta.io/rauta/proxy/observe"

// beginStages: the head is complete.
func (x *Exchange) beginStages() {
	x.stage, x.staged = observe.StageProxy, x.limits.start
	if x.peer.Queued > 0 {
		x.rec.Stages[observe.StageAcceptQueue], x.peer.Queued = x.peer.Queued, 0
	}
}

// LayInSocket says for how many nanoseconds the first byte of the request has lain in the socket before it was read; 0 if
// that is not known. Called before Start.
func (x *Exchange) LayInSocket(ns int64) { x.rec.Stages[observe.StageSocketWait] = ns }

// Route is the route that has matched, nil for none.
func (x *Exchange) Route() *observe.Route {
	if x.rule == nil {
		return nil
	}
	return x.rule.Stats
}

// enter ends a stage and begins another. Each moment belongs to one stage only, so that all of them add up to the whole;
// those of one turn of the loop share a clock reading, and take no time.
func (x *Exchange) enter(stage observe.Stage) {
	x.endStages()
	x.stage = stage
}

func (x *Exchange) endStages() {
	now := x.w.Clock.Now()
	x.rec.Stages[x.stage] += int64(now - x.staged)
	x.staged = now
}
