package generator

import (
	"fmt"
	"math/rand/v2"
	"os"

	"rauta.io/rauta/loadtest/procfs"
	"rauta.io/rauta/loadtest/rawio"
)

const (
	// settleNanos is how long a proxy without requests gets to fall asleep before its CPU clock is read.
	settleNanos = 300_000
	// drainNanosMax is how long answers may take after the end of a slice before they count as failed.
	drainNanosMax = 3_000_000_000
	// failuresMax ends a command early: a proxy that fails this often has nothing left to measure.
	failuresMax = 10_000
)

// load is the state of the command being run.
type load struct {
	requests   [][]byte
	body       []byte
	targets    []*target
	active     *target // may send; nil while draining
	inFlight   int
	answered   uint64 // in this slice
	lastAnswer int64
	open       bool        // open loop: requests have a schedule
	free       []requester // open loop: those without a request
	backlog    []int64     // open loop: intended send times that found no free connection
	progress   *uint64     // nil: nobody wants to know
}

func (l *loop) run(command *Command) ([]*Result, error) {
	if command.Kind == Serve {
		return nil, nil
	}
	l.disconnectAll()
	if command.Kind == Release {
		return nil, nil
	}
	l.prepare(command)
	if command.Progress != "" {
		progress, unmap, err := rawio.MapCounter(command.Progress)
		if err != nil {
			return nil, fmt.Errorf("the file of progress: %w", err)
		}
		defer unmap()
		l.load.progress = progress
	}
	results := make([]*Result, len(l.load.targets))
	for i, t := range l.load.targets {
		results[i] = t.result
	}
	if command.Kind == Idle {
		return results, l.openIdle()
	}
	defer l.disconnectAll()
	return results, l.slices(command)
}

func (l *loop) disconnectAll() {
	for _, t := range l.load.targets {
		for _, r := range t.requesters {
			r.disconnect(l)
		}
	}
	l.load = load{}
}

func (l *loop) prepare(command *Command) {
	l.random = rand.New(rand.NewPCG(command.Seed, 0))
	l.load = load{body: pattern(command.BodyBytes), open: command.Kind == Rate}
	for _, head := range command.Requests {
		l.load.requests = append(l.load.requests, append([]byte(head), pattern(command.UploadBytes)...))
	}
	if command.GRPC {
		l.load.body = grpcMessage(l.load.body)
	}
	var asks []*authority
	if command.Protocol == HTTP2 || command.Protocol == Tunnels {
		asks = authorities(command.Requests, command)
	}
	for _, described := range command.Targets {
		t := &target{Target: described, result: &Result{Failures: map[string]uint64{}, Generation: -1}, record: true}
		if command.Secure {
			t.tls = clientTLS(command)
		}
		for j := range command.Connections {
			switch command.Protocol {
			case HTTP2:
				for _, s := range newH2Conn(t, asks[j%len(asks)], l.load.body, command).streams {
					t.requesters = append(t.requesters, s)
				}
			case Tunnels:
				for _, s := range newH2Tunnels(t, asks[j%len(asks)], command).sockets {
					t.requesters = append(t.requesters, s)
				}
			case WebSocket:
				t.requesters = append(t.requesters, newWSConn(t, command.Requests[j%len(command.Requests)], command))
			case UDP:
				t.requesters = append(t.requesters, newUDPConn(t, command))
			default:
				t.requesters = append(t.requesters, &clientConn{socket: socket{fd: -1}, target: t, next: j % len(l.load.requests)})
			}
		}
		l.load.targets = append(l.load.targets, t)
	}
}

// released ends a request that was in flight, and decides what its connection does after its answer, or after the failure
// that took its place.
func (d *load) released(l *loop, r requester, now int64) {
	d.inFlight--
	switch {
	case d.open && len(d.backlog) > 0:
		due := d.backlog[0]
		d.backlog = d.backlog[1:]
		d.sendOrFree(l, r, due)
	case d.open:
		d.free = append(d.free, r)
	case d.active == r.of():
		r.send(l, now)
	}
}

func (d *load) sendOrFree(l *loop, r requester, due int64) {
	if !r.send(l, due) {
		d.free = append(d.free, r)
	}
}

// slices runs all rounds, the targets in a new random order each time.
func (l *loop) slices(command *Command) error {
	first := 0
	if command.WarmUp {
		first = -1
	}
	if command.Resume {
		for _, t := range l.load.targets {
			if err := l.getSession(t, command.Requests[0]); err != nil {
				return fmt.Errorf("%s: getting a session to resume: %w", t.Name, err)
			}
		}
	}
	if command.EndToEnd {
		for _, t := range l.load.targets {
			if err := l.openEndToEnd(t); err != nil {
				return fmt.Errorf("%s: %w", t.Name, err)
			}
		}
	}
	order := l.random.Perm(len(l.load.targets))
	for round := first; round < command.Rounds; round++ {
		if round == 0 {
			if err := l.readTicks(-1); err != nil {
				return err
			}
		}
		l.random.Shuffle(len(order), func(i, j int) { order[i], order[j] = order[j], order[i] })
		for _, i := range order {
			t := l.load.targets[i]
			t.record = round >= 0
			sample, err := l.slice(t, command)
			if err != nil {
				return fmt.Errorf("%s: %w", t.Name, err)
			}
			sample.Round = round
			if t.record {
				t.result.Samples = append(t.result.Samples, sample)
			}
			if t.result.Failed() > failuresMax {
				return nil
			}
		}
	}
	return l.readTicks(1)
}

// readTicks adds the user and system time up to now, with the given sign, so that begin and end make a difference.
func (l *loop) readTicks(sign int64) error {
	for _, t := range l.load.targets {
		user, system, err := procfs.Ticks(t.PIDs)
		if err != nil {
			return fmt.Errorf("%s: %w", t.Name, err)
		}
		t.result.UserTicks += uint64(sign * int64(user))
		t.result.SystemTicks += uint64(sign * int64(system))
	}
	return nil
}

func (l *loop) slice(t *target, command *Command) (Sample, error) {
	var machine machineClock
	if command.WholeMachine {
		if err := machine.start(l.now()); err != nil {
			return Sample{}, err
		}
	}
	before, err := procfs.ReadCPU(t.PIDs)
	if err != nil {
		return Sample{}, err
	}
	d := &l.load
	d.answered = 0
	failed := t.result.Failed()
	begin := l.now()
	end := begin + command.SliceNanos
	d.lastAnswer, d.active = begin, t
	switch {
	case command.Kind == Shakes:
		err = l.shakeSlice(t, end)
	case d.open:
		err = l.sendOnSchedule(t, begin, end, command.PerSecond)
	default:
		err = l.saturate(t, end, command.WholeMachine || command.Progress != "")
	}
	d.active = nil
	if err == nil {
		err = l.drain(t, end)
	}
	if err != nil {
		return Sample{}, err
	}
	after, err := procfs.ReadCPU(t.PIDs)
	if err != nil {
		return Sample{}, err
	}
	cpu := after.Sub(before)
	sample := Sample{CPUNanos: cpu.Used, WaitNanos: cpu.Waiting, WallNanos: d.lastAnswer - begin, Requests: d.answered,
		Failed: t.result.Failed() - failed}
	if command.WholeMachine {
		sample.MachineNanos, sample.OwnNanos, err = machine.worked(l.now())
	}
	return sample, err
}

// machineClock measures for how long all processors together worked, and for how long this process did.
type machineClock struct {
	began int64
	idle  procfs.Idle
	own   procfs.CPU
}

func (c *machineClock) start(now int64) (err error) {
	if c.idle, err = procfs.ReadIdle(); err != nil {
		return err
	}
	c.began = now
	c.own, err = procfs.ReadCPU([]int{os.Getpid()})
	return err
}

func (c *machineClock) worked(now int64) (nanos int64, own uint64, err error) {
	used, err := procfs.ReadCPU([]int{os.Getpid()})
	if err != nil {
		return 0, 0, err
	}
	idle, err := procfs.ReadIdle()
	return (now-c.began)*int64(idle.Processors) - int64(idle.Nanos-c.idle.Nanos), used.Sub(c.own).Used, err
}

// sleepMillisMax is how long a generator sleeps that has nothing to do, so that it sees the end of its slice.
const sleepMillisMax = 10

func (l *loop) saturate(t *target, end int64, sleeps bool) error {
	wait := 0
	if sleeps {
		wait = sleepMillisMax
	}
	for _, r := range t.requesters {
		r.send(l, l.now())
	}
	for l.now() < end && t.result.Failed() <= failuresMax {
		if err := l.turn(wait); err != nil {
			return err
		}
	}
	return nil
}

// sendOnSchedule sends at fixed intervals, whether or not earlier answers have come: a proxy that stalls is charged
// with all requests that were to be sent meanwhile.
func (l *loop) sendOnSchedule(t *target, begin, end int64, perSecond float64) error {
	d := &l.load
	d.free = append(d.free[:0], t.requesters...)
	d.backlog = d.backlog[:0]
	interval := 1e9 / perSecond
	for sent := 0; ; {
		now := l.now()
		for due := begin + int64(float64(sent)*interval); due <= now && due < end; due = begin + int64(float64(sent)*interval) {
			sent++
			if len(d.free) == 0 {
				d.backlog = append(d.backlog, due)
				continue
			}
			r := d.free[len(d.free)-1]
			d.free = d.free[:len(d.free)-1]
			d.sendOrFree(l, r, due)
		}
		if now >= end || t.result.Failed() > failuresMax {
			return nil
		}
		if err := l.turn(0); err != nil {
			return err
		}
	}
}

// drain waits until every request is answered and the proxy has fallen asleep.
func (l *loop) drain(t *target, end int64) error {
	quiet := int64(-1)
	for {
		if err := l.turn(0); err != nil {
			return err
		}
		now := l.now()
		switch {
		case now > end+drainNanosMax:
			if late := len(l.load.backlog); late > 0 {
				t.result.Failures[failTimeout] += uint64(late)
				l.load.backlog = l.load.backlog[:0]
			}
			for _, r := range t.requesters {
				if r.busy() {
					r.fail(l, failTimeout)
				}
			}
			return nil
		case l.load.inFlight > 0:
			quiet = -1
		case quiet < 0:
			quiet = now
		case now-quiet > settleNanos:
			return nil
		}
	}
}

// idleAtOnce is the number of requests in flight while idle connections are opened.
const idleAtOnce = 64

// openIdle opens the connections a few at a time, sends one request on each, and leaves them open.
func (l *loop) openIdle() error {
	for _, t := range l.load.targets {
		for next := 0; next < len(t.requesters); {
			for last := min(next+idleAtOnce, len(t.requesters)); next < last; next++ {
				t.requesters[next].send(l, l.now())
			}
			if err := l.drain(t, l.now()); err != nil {
				return err
			}
			if t.result.Failed() > failuresMax {
				return nil
			}
		}
	}
	return nil
}
