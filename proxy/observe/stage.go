package observe

import "sync/atomic"

// Stage is a part of the time of a request. Each moment of it belongs to exactly one stage, so that they add up to the
// whole: the first two come before the complete head, the others are the duration.
type Stage uint8

// Stages, in the order in which a request goes through them.
const (
	// StageAcceptQueue: a connection waited for accept(2). Only the kernel knows; the first request of a connection has it.
	StageAcceptQueue Stage = iota
	// StageSocketWait: bytes lay in the socket before they were read. Only the kernel knows.
	StageSocketWait
	// StageProxy is RAUTA's own: from the complete head, without what follows, and the waits before repeated attempts.
	StageProxy
	// StageBackendConnect: from the choice of an endpoint to a connection, or stream, that takes the request.
	StageBackendConnect
	// StageRequestBody: from there until the request was sent. Its client and its back end share that time; without a body it
	// is none.
	StageRequestBody
	// StageBackendTTFB: from there to the head of the response.
	StageBackendTTFB
	// StageBackendBody: from there to the last byte of the response, without the time in which the client held it back. Of
	// tunnels it is their life.
	StageBackendBody
	// StageClientWrite: the client took no more although there were bytes for it, and from the back end's last byte until
	// the client's socket had taken it.
	StageClientWrite
	StageCount
)

// kernelStages come first, and are not part of the duration.
const kernelStages = StageProxy

// String returns the value of the label "stage".
func (s Stage) String() string { return stageLabels[s] }

var stageLabels = [StageCount]string{
	"accept_queue", "socket_wait", "proxy", "backend_connect", "request_body", "backend_ttfb", "backend_body", "client_write",
}

// stageBoundsCount is the number of finite buckets of a stage: half of those of the duration, because a route has a
// histogram for each stage, and a scrape all of their lines.
const stageBoundsCount = 10

// stageBoundsNs are the upper bounds of a stage in nanoseconds, inclusive; each is one of the duration, too.
var stageBoundsNs = [stageBoundsCount]int64{50e3, 250e3, 1e6, 5e6, 25e6, 100e6, 500e6, 2.5e9, 10e9, 60e9}

var stageBoundLabels = [stageBoundsCount + 1]string{
	"5e-05", "0.00025", "0.001", "0.005", "0.025", "0.1", "0.5", "2.5", "10", "60", "+Inf",
}

// fewBuckets are the histograms that have these bounds.
var fewBuckets = []string{"rauta_request_stage_seconds", "rauta_backend_connect_seconds", "rauta_backend_ttfb_seconds"}

// stageHistogram is what one worker counts for one stage of a route: 96 bytes. Requests that spent no time in the stage
// are not counted here: most requests spend time in one or two stages, by the clock of a loop, which moves once in a turn.
type stageHistogram struct {
	buckets [stageBoundsCount + 1]atomic.Uint64
	sumNs   atomic.Uint64
}

func (h *stageHistogram) add(ns int64) {
	h.buckets[bucketOf(stageBoundsNs[:], ns)].Add(1)
	h.sumNs.Add(uint64(ns))
}

// stageCells are the stages in which requests spent time, each made at the first one.
type stageCells [StageCount]atomic.Pointer[stageHistogram]

func (c *stageCells) add(stage Stage, ns int64) {
	h := c[stage].Load()
	if h == nil {
		c[stage].CompareAndSwap(nil, new(stageHistogram))
		h = c[stage].Load()
	}
	h.add(ns)
}

// count counts what a request spent in each stage.
func (c *stageCells) count(rec *Record) {
	for stage := range StageCount {
		if ns := rec.Stages[stage]; ns > 0 {
			c.add(stage, ns)
		}
	}
}

// stageSum is the sum of several workers' histograms of one stage.
type stageSum struct {
	buckets [stageBoundsCount + 1]uint64
	sumNs   uint64
}

func (s *stageSum) include(h *stageHistogram) {
	addBuckets(s.buckets[:], h.buckets[:])
	s.sumNs += h.sumNs.Load()
}

func (s *stageSum) count() (n uint64) {
	for _, bucket := range s.buckets {
		n += bucket
	}
	return n
}

// writeRouteStages writes the stages of one route in which any of its requests has spent time.
func (r *Registry) writeRouteStages(x *exposition, rt activeRoute) {
	var sums [StageCount]stageSum
	var has [StageCount]bool
	total := uint64(0)
	c := rt.cells.Load()
	for i := range c.byWorker {
		cell := c.byWorker[i].Load()
		if cell == nil {
			continue
		}
		for stage := range StageCount {
			if h := cell.stages[stage].Load(); h != nil {
				has[stage] = true
				sums[stage].include(h)
			}
		}
		total += cell.duration.count() // after them: who is in a stage is in the duration already
	}
	for stage := range StageCount {
		if !has[stage] {
			continue
		}
		sum := &sums[stage]
		if stage >= kernelStages { // those that spent no time in it
			sum.buckets[0] += total - min(sum.count(), total)
		}
		x.stage("rauta_request_stage_seconds", rt.labels+`,stage="`+stageLabels[stage]+`"`, sum)
	}
}

// stage writes the cumulative buckets, sum and count of one stage.
func (x *exposition) stage(name, labels string, sum *stageSum) {
	x.buckets(name, labels, stageBoundLabels[:], sum.buckets[:], sum.sumNs)
}
