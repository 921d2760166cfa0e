package loop

import (
	"fmt"
	"os"
	"runtime"
	"strings"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"rauta.io/rauta/proxy/clock"
	"rauta.io/rauta/proxy/observe"
)

// WorkerOptions configures one worker.
type WorkerOptions struct {
	// Group is what the workers of a process share. nil: the worker is alone, in a group of its own.
	Group *Group
	// ConnectionsMax bounds accepted connections of the group made for a nil Group. 0: ConnectionsMaxDefault.
	ConnectionsMax int
	// OnPressure is called on the worker's thread when no connection may be accepted, be it by another worker of the group:
	// it should close its oldest idle ones, its share of those of the group. Called at most once per turn.
	OnPressure func(w *Worker)
	// OnPanic is called on the worker's thread after the panic of a handler; the connection is closed already.
	OnPanic func(value any, stack []byte)
	// Active returns how many streams are in progress, for the choice of who gets the next connection. It is asked at the
	// end of every turn, since a number from the last accept may be as old as that. nil: none are.
	Active func() int
	// Gather is the longest time that turns may be apart in order that requests gather, where that is found to save CPU
	// time; 0: they never are. Finished is then how many requests the worker has finished so far.
	Gather   time.Duration
	Finished func() uint64
	// OnStall is called on the worker's thread after a turn of StallNanoseconds and more, with its length in nanoseconds.
	OnStall func(took int64)
	// Kernel is told of every TCP socket; nil: nobody is.
	Kernel observe.Kernel
}

// Worker is one event loop. Methods are for its own thread unless they say otherwise; before Run, any one goroutine
// may use it to prepare listeners and connections.
type Worker struct {
	// Immutable.
	id    int
	group *Group
	opt   WorkerOptions
	epfd  int
	// requests watches requests on client connections; nil: nothing does yet.
	requests observe.Requests

	// Owned by the worker's thread.
	rawSleep    bool // see sleep
	wheel       *clock.Wheel
	time        timekeeper
	turnBegan   clock.Time
	gatherer    gatherer
	events      []unix.EpollEvent
	slots       []slot
	freeSlots   []int32
	listeners   []*Listener // by slot; nil: free
	readBuffer  []byte
	ahead       []byte       // what was received ahead; allocated with the first batch
	aheadUntil  int          // up to where the batch has been received ahead
	coroutines  []*coroutine // idle
	quickLeft   int          // handshakes that may begin on this thread in this turn
	buffers     buffers
	cipher      cipherBuffers
	datagrams   *datagrams
	pipes       pipes
	handshakes  handshakeList       // with clients
	dialled     handshakeList       // with back ends
	sockaddr    unix.RawSockaddrAny // scratch for accept and connect
	inbox       *Message            // taken from the mailbox, not yet delivered
	inboxLast   *Message
	ready       []readyEntry // for the next turn
	readyRun    []readyEntry // being delivered
	turnEnd     []TurnHandler
	turnEndRun  []TurnHandler
	turnEndMore bool // the second round of end-of-turn handlers runs
	senders     []Sender
	sendersRun  []Sender // being run
	closing     *Conn    // to be closed at the end of the turn
	heldCount   int      // listeners that are not registered because of a limit
	pressured   bool     // OnPressure was called in this turn

	// The turn's position: where to go on after a panic.
	stage        stage
	batch        int // events in this turn
	cursor       int
	current      *Conn // whom a panic is charged to
	acceptSeen   bool
	prioritySeen bool

	counts        counts
	countsChanged bool
	owner         threadOwner

	// Atomic.
	_        [64]byte
	load     workerLoad
	stopping atomic.Bool
	plea     plea
	mailbox  mailbox
	stats    WorkerStats
}

// slot is where an epoll event finds its connection; generation tells the present one from its predecessors.
type slot struct {
	conn       *Conn
	generation uint32
}

// TurnHandler wants to be called when a turn's events have been handled, for instance to send in one go what the turn
// has gathered.
type TurnHandler interface {
	OnTurnEnd()
}

// Sender wants to send what the turn has gathered.
type Sender interface {
	OnSend()
}

type readyEntry struct {
	conn    *Conn   // Conn.Ready
	handler Handler // Worker.Ready
	events  Events
}

// NewWorker prepares a worker; nothing runs until Run. The worker's resources are released at the end of Run.
func NewWorker(id int, opt WorkerOptions) (*Worker, error) {
	keeper, err := newTimekeeper()
	if err != nil {
		return nil, err
	}
	epfd, err := unix.EpollCreate1(unix.EPOLL_CLOEXEC)
	if err != nil {
		return nil, fmt.Errorf("create an epoll instance for worker %d: %w", id, err)
	}
	eventFD, err := unix.Eventfd(0, unix.EFD_CLOEXEC|unix.EFD_NONBLOCK)
	if err != nil {
		unix.Close(epfd)
		return nil, fmt.Errorf("create the wake-up descriptor of worker %d: %w", id, err)
	}
	if err := epollAdd(epfd, eventFD, unix.EPOLLIN|unix.EPOLLET, wakeSlot, 0); err != nil {
		unix.Close(eventFD)
		unix.Close(epfd)
		return nil, err
	}
	if opt.Group == nil {
		opt.Group = NewGroup(opt.ConnectionsMax)
	}
	w := &Worker{
		id:         id,
		group:      opt.Group,
		opt:        opt,
		epfd:       epfd,
		time:       keeper,
		events:     make([]unix.EpollEvent, eventsMax),
		readBuffer: make([]byte, ReadBufferBytes),
		gatherer:   newGatherer(0),
		buffers:    newBuffers(),
		handshakes: handshakeList{max: handshakesMax},
		dialled:    handshakeList{max: handshakesMax},
	}
	w.buffers.trim.Fire = w.trimBuffers
	w.mailbox.eventFD = eventFD
	w.plea.w, w.plea.mail.To = w, &w.plea
	w.turnBegan = w.time.read()
	w.wheel = clock.NewWheel(w.turnBegan)
	w.group.join(w)
	return w, nil
}

// ID is the number given to NewWorker.
func (w *Worker) ID() int { return w.id }

// Group is what this worker shares with others.
func (w *Worker) Group() *Group { return w.group }

// Stop makes Run return after its present turn. Connections that are still open are closed; drain first. From any
// goroutine.
func (w *Worker) Stop() {
	w.load.accepting.Store(false)
	w.stopping.Store(true)
	w.wake()
}

// Run is the loop, on the calling goroutine, which it locks to its thread. It returns after Stop.
func (w *Worker) Run() error {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	w.owner.take()
	w.rawSleep = canSleepRaw(len(w.group.Workers()))
	if w.rawSleep && w.opt.Gather > 0 {
		w.gatherer = newGatherer(int64(w.opt.Gather))
		_ = unix.Prctl(unix.PR_SET_TIMERSLACK, gatherSlack, 0, 0, 0)
	}
	defer w.shutdown()
	w.load.accepting.Store(!w.stopping.Load())
	w.turnBegan = w.time.read()
	if k := w.opt.Kernel; k != nil {
		k.WhenThere(func() { w.Post(func() { w.tellOfAll(0) }) })
	}
	for !w.stopping.Load() {
		if err := w.wait(); err != nil {
			return fmt.Errorf("worker %d: wait for events: %w", w.id, err)
		}
		w.turn()
	}
	return nil
}

// wait fills w.events: with what is there, or, when there is nothing else to do, by sleeping until something is. The
// sleep itself looks first, so that a turn costs one system call for that and not two.
func (w *Worker) wait() error {
	now := w.time.read()
	w.turnEnded(now)
	if now >= w.gatherer.until {
		w.gatherer.next(w.gatherReading(now))
	}
	n, errno := 0, syscall.Errno(0)
	busy := len(w.ready) > 0 || len(w.turnEnd) > 0 || len(w.senders) > 0
	if !busy && w.gatherer.spacing {
		now = w.gather(now)
	}
	if !busy {
		w.mailbox.sleeping.Store(true)
		// The last look comes after the flag: see wake.
		busy = w.mailbox.head.Load() != nil || w.stopping.Load()
		if !busy {
			n, errno = w.sleep(now)
		}
		w.mailbox.sleeping.Store(false)
	}
	if busy {
		n, errno = w.pollNow()
	}
	if errno != 0 && errno != unix.EINTR {
		return errno
	}
	w.batch = n
	w.turnBegan = w.time.read()
	return nil
}

// sleep waits for events or the next timer. It first sleeps in a raw system call, in which the scheduler takes the
// worker for running: going through the scheduler and back, and the monitor thread that is woken by it, cost 6% of a
// request at 64 connections (loadtest keepalive). Whoever wants the worker's processor (the garbage collector to stop
// the world, or the monitor after 10 ms) interrupts it with a signal; the rest of the sleep then goes through the
// scheduler, so that an idle worker holds no processor.
func (w *Worker) sleep(now clock.Time) (int, syscall.Errno) {
	if w.rawSleep {
		n, errno := w.pollRaw(w.sleepMillis(now))
		if errno != unix.EINTR {
			return n, errno
		}
		runtime.Gosched()
		now = w.time.read()
	} else if n, errno := w.pollNow(); n > 0 || errno != 0 {
		return n, errno // the scheduler's bookkeeping would cost more than the call
	}
	return w.pollWait(w.sleepMillis(now))
}

// canSleepRaw: a raw sleep holds a scheduler slot, so everybody else needs slots of their own (Tune sees to that), and
// without preemption by signals (GODEBUG=asyncpreemptoff=1) nobody could interrupt it.
func canSleepRaw(workers int) bool {
	return runtime.GOMAXPROCS(0) >= workers+sparePs && !strings.Contains(os.Getenv("GODEBUG"), "asyncpreemptoff=1")
}

// sleepMillis is how long the next timer allows to sleep, rounded up so as not to wake in vain; -1 for ever.
func (w *Worker) sleepMillis(now clock.Time) int {
	next := w.wheel.Next()
	if next < 0 {
		return -1
	}
	next -= int64(now - w.wheel.Now())
	return int((max(next, 0) + 1e6 - 1) / 1e6)
}

// Blame charges a panic of the callback that is running to c, which is then closed. For timers (all of them: nil when
// there is no connection), messages and end-of-turn handlers; events are charged without it.
func (w *Worker) Blame(c *Conn) { w.current = c }

// Ready calls h.OnEvent(ev) in the next turn, which then does not sleep. Prefer Conn.Ready, which Close takes back.
func (w *Worker) Ready(h Handler, ev Events) {
	w.owner.check()
	w.ready = append(w.ready, readyEntry{handler: h, events: ev})
}

// AtEndOfTurn calls h once at the end of this turn. What handlers add while the end-of-turn handlers run is called in
// the same turn too, in one more round; what that round adds waits for the next turn, which then does not sleep.
func (w *Worker) AtEndOfTurn(h TurnHandler) {
	w.owner.check()
	w.turnEnd = append(w.turnEnd, h)
}

// SendLast calls h once in this turn, when all end-of-turn handlers have run. Sends follow each other then with little
// between them, so that the kernel's code for them stays in the cache. What senders add waits for the next turn, which then
// does not sleep.
func (w *Worker) SendLast(h Sender) {
	w.owner.check()
	w.senders = append(w.senders, h)
}

// register gives c a slot and adds it to the epoll set.
func (w *Worker) register(c *Conn) error {
	last := len(w.freeSlots) - 1
	if last < 0 {
		w.slots = append(w.slots, slot{generation: 1})
		w.freeSlots = append(w.freeSlots, int32(len(w.slots)-1))
		last = 0
	}
	index := w.freeSlots[last]
	s := &w.slots[index]
	pad := int32(s.generation << 1)
	if c.priority {
		pad |= priorityBit
	}
	events := uint32(connEvents)
	if c.datagram {
		events = datagramEvents
	}
	if err := epollAdd(w.epfd, c.fd, events, index, pad); err != nil {
		return err
	}
	w.freeSlots = w.freeSlots[:last]
	s.conn, c.slot, c.generation = c, index, s.generation
	w.counts.registered++
	w.countsChanged = true
	return nil
}

// releaseSlot makes events that name c stale at once.
func (w *Worker) releaseSlot(c *Conn) {
	if c.slot == noSlot {
		return
	}
	s := &w.slots[c.slot]
	s.conn = nil
	s.generation = (s.generation + 1) & generationMask
	w.freeSlots = append(w.freeSlots, c.slot)
	c.slot = noSlot
	w.counts.registered--
}

// generationMask: the generation shares 32 bits of epoll data with the priority bit.
const generationMask = 1<<31 - 1

// closeDescriptors does what Close put off.
func (w *Worker) closeDescriptors() {
	madeRoom := false
	for w.closing != nil {
		c := w.closing
		w.closing, c.closing = c.closing, nil
		_ = unix.Close(c.fd) // Linux releases the descriptor whatever close returns
		c.EndRequests()
		w.counts.open--
		w.countsChanged = true
		if c.listener != nil {
			w.load.conns.Add(-1)
			w.group.open.Add(-1)
			madeRoom = true
		}
	}
	if madeRoom {
		w.group.tellHeld(w)
	}
}

// shutdown releases everything. Messages that are in the mailbox run, later ones are refused.
func (w *Worker) shutdown() {
	w.load.accepting.Store(false)
	w.takeMail(&w.mailbox.closed)
	w.batch, w.cursor, w.stage = 0, 0, stageMail
	for !w.attempt() {
	}
	for i := range w.slots {
		if c := w.slots[i].conn; c != nil {
			c.Close()
		}
		if c := w.slots[i].conn; c != nil {
			c.tls.expire(0) // it would wait for close_notify to leave
		}
	}
	for _, l := range w.listeners {
		if l != nil {
			l.finish()
		}
	}
	w.endCoroutines()
	w.closeDescriptors()
	for _, p := range w.pipes.free {
		p.close()
	}
	w.group.leave(w)
	w.countsChanged = true
	w.publish()
	_ = unix.Close(w.epfd)
	w.mailbox.closeEventFD()
	w.owner.release()
}
