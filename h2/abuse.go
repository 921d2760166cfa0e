package h2

import "rauta.io/rauta/proxy/clock"

// budget is a token bucket: perMinute tokens at most, which come back within a minute.
type budget struct {
	spent int64 // nanoseconds of refill that are owed
	at    clock.Time
}

const minute = 60e9

// take spends one token; false means that there is none.
func (b *budget) take(now clock.Time, perMinute int64) bool {
	b.spent = max(b.spent-int64(now-b.at), 0)
	b.at = now
	b.spent += minute / perMinute
	return b.spent <= minute
}

// earn gives n tokens back.
func (b *budget) earn(n, perMinute int64) { b.spent = max(b.spent-n*(minute/perMinute), 0) }

// budgets are what a peer may do without effect.
type budgets struct {
	pings, settings, priorities, empty, windowUpdates budget
}

// earnByData: a DATA frame of ours was framed.
func (b *budgets) earnByData() {
	b.pings.earn(1, pingsPerMinute)
	b.windowUpdates.earn(windowUpdatesPerData, windowUpdatesPerMinute)
}

// earnByStream: a request has come.
func (b *budgets) earnByStream() {
	b.pings.earn(1, pingsPerMinute)
	b.priorities.earn(2, prioritiesPerMinute)
	b.windowUpdates.earn(2, windowUpdatesPerMinute)
}

// resetLog remembers the last resetsMax resets.
type resetLog struct {
	next   int
	at     [resetsMax]clock.Time
	stream [resetsMax]uint32 // how many streams had been opened
}

// add takes a reset after opened streams; it reports whether there were too many.
func (l *resetLog) add(now clock.Time, opened uint32) bool {
	at, stream := l.at[l.next], l.stream[l.next]
	l.at[l.next], l.stream[l.next] = now, opened
	l.next = (l.next + 1) % resetsMax
	return at != 0 && now-at <= resetsWithin && opened-stream <= resetsOf
}
