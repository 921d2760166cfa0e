package control

import (
	"context"
	"fmt"
	"log/slog"
	"maps"
	"runtime"
	"runtime/debug"
	"time"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"

	"rauta.io/rauta/control/translate"
	"rauta.io/rauta/control/watch"
	"rauta.io/rauta/proxy/config"
)

// When a change is translated. Objects appear and vanish together with others, so it is waited until there is quiet for a moment;
// a new state of one that is known is translated at once. Translating and publishing may take at most half of one core: what has
// taken longer than workAhead in all is followed by a rest that is as long, so that only what goes on and on waits for it.
const (
	quietTime      = 500 * time.Microsecond
	changeDelayMax = 8 * time.Millisecond
	restTimeMax    = 500 * time.Millisecond
	workAhead      = 50 * time.Millisecond
	// statusTime bounds how often the sink is told of nothing but statuses, its own among them.
	statusTime = 500 * time.Millisecond
	// patience is how long a publication waits for Secrets and ConfigMaps that objects refer to for the first time, and
	// startPatience the same for the very first one, before which nothing is served.
	patience      = 2 * time.Second
	startPatience = 10 * time.Second
	// storedTime is how long it is waited for the API server before what has been stored is served.
	storedTime = 3 * time.Second
	// unservedTime is how often sockets that are taken are tried again, and thereby whether their statuses still hold.
	unservedTime = 5 * time.Second
	// datesTime is how often everything is looked at again because time goes by: certificates expire.
	datesTime = time.Hour
)

// Source is where objects are read: watch.Cluster.
type Source interface {
	// Run reads until ctx is done.
	Run(ctx context.Context)
	// Changed receives when there is something to Take, or when Synced or Refer may say something else.
	Changed() <-chan struct{}
	Take() watch.Change
	// Synced reports whether everything has been read once, and if not, what is missing.
	Synced() (bool, string)
	Objects() *translate.Objects
	// Refer reads the Secrets and ConfigMaps that objects refer to; false while some have not been read.
	Refer(refs []translate.ObjectRef) bool
	EndpointSlices(of watch.ServiceName) (*corev1.Service, []*discoveryv1.EndpointSlice, bool)
}

// Plane is a data plane whose endpoints can be changed by themselves.
type Plane interface {
	Publisher
	// Revise is Publish where, since the last call, only the clusters in changed have got other endpoints that SetEndpoints has
	// not set.
	Revise(cfg *config.Config, eps config.Endpoints, changed []string) error
	SetEndpoints(cluster string, eps []config.Endpoint)
}

// Stage is a part of the way of a change.
type Stage int

// Stages.
const (
	StageLag       Stage = iota // from the arrival of a change to the beginning of its translation
	StageTranslate              // Translate
	StagePublish                // the data plane's part: compile, sockets
	StageServed                 // from the arrival of a change to its being served
	StageEndpoints              // the same for endpoints, which are not translated
	StageCount
)

// Cluster is a configuration in an API server.
type Cluster struct {
	Source  Source
	Options translate.Options
	To      Plane
	Log     *slog.Logger
	// Sink is told what comes of changes; nil for nobody.
	Sink Sink
	// Stored returns what was served before this process began, for the case that the API server does not answer; nil if
	// nothing is stored.
	Stored func() (*config.Config, config.Endpoints, error)
	// Changed is called after every change of what is served, with the exception of what was stored. Nil for nobody.
	Changed func()
	// Measured takes the durations of stages; nil for nobody.
	Measured func(Stage, time.Duration)
	// Addresses receives the addresses that statuses are to have in place of Options.Addresses; nil for none.
	Addresses <-chan []string
	// Zone receives the zone that RAUTA runs in, if it is not in Options; nil for nothing.
	Zone <-chan string

	// Owned by Run.
	memo     translate.Memo
	problems problemLog
	// begun: something has been published that the API server says.
	begun   bool
	current *translation                   // what is served
	served  map[watch.ServiceName][]string // clusters of current by Service
	indexed []config.Cluster               // what served was made from
	eps     config.Endpoints               // of them
	dirty   time.Time                      // when the first change was seen that is not translated yet; zero if there is none
	last    time.Time                      // the end of the last publication
	owed    time.Duration                  // how much longer translating and publishing have taken than what was between
	quiet   time.Time                      // until when it is waited for more changes: since the newest was seen
	working chan *translation              // receives what is being translated; nil if nothing is
	touched map[watch.ServiceName]bool     // Services whose endpoints have changed since that began
	held    *translation                   // what waits for Secrets and ConfigMaps, until heldTill
	till    time.Time
	status  time.Time // when the sink is to be told of statuses; zero if it need not be
	retry   time.Time // when current is to be published again because sockets are missing; zero if all are there
	err     error     // what the last publication of current returned
}

// translation is one run of Translate.
type translation struct {
	objects *translate.Objects
	result  *translate.Result
	since   time.Time // of the first change in it
	begun   time.Time
	took    time.Duration
	failure error // why there is no result
}

// Run publishes what the API server says until ctx is done.
func (c *Cluster) Run(ctx context.Context) {
	c.problems.log = c.Log
	reading := make(chan struct{})
	go func() {
		defer close(reading)
		c.Source.Run(ctx)
	}()
	stored := time.After(storedTime)
	dates := time.NewTicker(datesTime)
	defer dates.Stop()
	for {
		var due <-chan time.Time
		if at := c.due(); !at.IsZero() {
			due = time.After(time.Until(at))
		}
		select {
		case <-ctx.Done():
			<-reading
			return
		case <-c.Source.Changed():
			c.take()
			c.act(time.Now()) // without a timer, whose turn may be late
		case t := <-c.working:
			c.working = nil
			c.translated(t)
		case addresses := <-c.Addresses:
			c.Options.Addresses = addresses
			c.again()
		case zone := <-c.Zone:
			c.Options.Zone = zone
			c.again()
		case <-dates.C:
			c.again()
		case <-stored:
			c.restore()
		case <-due:
			c.act(time.Now())
		}
	}
}

// touch makes a translation due, after a moment without others.
func (c *Cluster) touch(since time.Time) {
	c.touchNow(since)
	c.quiet = time.Now().Add(quietTime)
}

// touchNow makes a translation due at once, unless it is waited for others already.
func (c *Cluster) touchNow(since time.Time) {
	if c.dirty.IsZero() {
		c.dirty = since
	}
}

// again makes a translation due because something beside the objects has changed. Before everything has been read there is
// nothing to translate: what came of it would take away what is served from the stored state.
func (c *Cluster) again() {
	if c.translating() {
		c.touch(time.Now())
	}
}

// translating reports whether everything has been read and there is a translation of it, or one under way.
func (c *Cluster) translating() bool {
	return c.begun || c.current != nil || c.working != nil || c.held != nil
}

// take looks at what has changed: endpoints are set at once, everything else waits for its time.
func (c *Cluster) take() {
	if !c.translating() {
		if ok, _ := c.Source.Synced(); !ok {
			return
		}
		c.touch(time.Now()) // even if there is not a single object
	}
	change := c.Source.Take()
	switch {
	case change.Members:
		c.touch(change.Since)
	case change.Objects:
		c.touchNow(change.Since)
	}
	if change.Statuses && c.status.IsZero() {
		c.status = time.Now().Add(statusTime)
	}
	for _, service := range change.Services {
		if c.working != nil || c.held != nil {
			c.touched[service] = true
		}
		c.setEndpoints(service, change.Since)
	}
	if c.held != nil && c.dirty.IsZero() && c.Source.Refer(c.held.result.References) {
		c.till = time.Now()
	}
}

// due is when act has something to do; zero if nothing is known to come.
func (c *Cluster) due() (at time.Time) {
	sooner := func(t time.Time) {
		if !t.IsZero() && (at.IsZero() || t.Before(at)) {
			at = t
		}
	}
	if c.working == nil {
		sooner(c.translateAt())
		if c.held != nil && c.dirty.IsZero() {
			sooner(c.till)
		}
		sooner(c.retry)
	}
	sooner(c.status)
	return at
}

// translateAt is when the changes there are will be translated.
func (c *Cluster) translateAt() time.Time {
	if c.dirty.IsZero() {
		return time.Time{}
	}
	at := c.quiet
	if latest := c.dirty.Add(changeDelayMax); latest.Before(at) {
		at = latest
	}
	if rested := c.last.Add(c.owed - workAhead); rested.After(at) {
		at = rested
	}
	return at
}

// worked notes that translating or publishing took so long, until end.
func (c *Cluster) worked(took time.Duration, end time.Time) {
	rested := max(0, end.Sub(c.last)-took)
	c.owed = min(max(0, c.owed-rested)+took, workAhead+restTimeMax)
	c.last = end
}

// act does what is due.
func (c *Cluster) act(now time.Time) {
	if c.working == nil {
		switch at := c.translateAt(); {
		case !at.IsZero() && !now.Before(at):
			c.translate(now)
		case c.held != nil && c.dirty.IsZero() && !now.Before(c.till):
			if c.Source.Refer(c.held.result.References) {
				c.publish(c.held)
				break
			}
			c.dirty = now // once more, for messages that say what has not been read, and do not say that it does not exist
			c.translate(now)
		case !c.retry.IsZero() && !now.Before(c.retry) && c.held == nil:
			c.publish(c.current)
		}
	}
	if !c.status.IsZero() && !now.Before(c.status) {
		c.status = time.Time{}
		if c.Sink != nil && c.begun && c.working == nil && c.held == nil && c.dirty.IsZero() {
			c.current.objects = c.Source.Objects()
			c.tell()
		}
	}
}

// translate begins a translation beside this loop, so that endpoints can be set meanwhile.
func (c *Cluster) translate(now time.Time) {
	t := &translation{since: c.dirty, begun: now, objects: c.Source.Objects()}
	if c.held != nil {
		t.since = c.held.since
	}
	c.measure(StageLag, now.Sub(c.dirty))
	c.dirty = time.Time{}
	if c.touched == nil || c.held == nil {
		c.touched = map[watch.ServiceName]bool{}
	}
	options := c.Options
	options.Now, options.Memo = now, &c.memo
	done := make(chan *translation, 1)
	c.working = done
	go func() {
		t.run(options)
		t.took = time.Since(now)
		done <- t
	}()
}

// run translates. Whatever an object holds, it must not end the process, which serves those of others.
func (t *translation) run(options translate.Options) {
	defer func() {
		if r := recover(); r != nil {
			t.failure = fmt.Errorf("translate the objects of the cluster: panic: %v\n%s", r, debug.Stack())
		}
	}()
	t.result = translate.Translate(t.objects, options)
}

// translated publishes a translation, unless objects that it has not seen are on their way.
func (c *Cluster) translated(t *translation) {
	c.measure(StageTranslate, t.took)
	c.worked(t.took, time.Now())
	if t.failure != nil {
		c.Log.Error("this is a defect of RAUTA: please report it; what is served stays in force", "error", t.failure)
		c.To.Failed(t.failure)
		return
	}
	if c.held != nil && t.result.Revised { // it goes on with one that has not been published
		last := c.held.result
		maps.Copy(last.Endpoints, t.result.Endpoints)
		t.result.Endpoints, t.result.Revised = last.Endpoints, last.Revised
	}
	complete := c.Source.Refer(t.result.References)
	if c.held == nil {
		c.till = time.Now().Add(patience)
		if !c.begun {
			c.till = time.Now().Add(startPatience)
		}
	}
	if !complete && time.Now().Before(c.till) {
		c.held = t
		return
	}
	c.publish(t)
}

// publish makes a translation what is served.
func (c *Cluster) publish(t *translation) {
	c.held, c.retry = nil, time.Time{}
	before := c.current
	again := t == before
	revised := !again && t.result.Revised && before != nil
	var changed []string
	if !again {
		c.current = t
		changed = c.index()
		for service := range c.touched { // newer than the translation
			changed = append(changed, c.refresh(service)...)
		}
		c.report(t.result.Problems)
	}
	start := time.Now()
	var err error
	if revised {
		err = c.To.Revise(t.result.Config, c.eps, changed)
	} else {
		err = c.To.Publish(t.result.Config, c.eps)
	}
	end := time.Now()
	runtime.KeepAlive(before) // the data plane knows what the two have in common as long as both are there
	if !again {
		if err != nil {
			c.Log.Error("parts of the configuration are left out", "error", err)
		}
		c.explain(t, start, end)
		c.measure(StagePublish, end.Sub(start))
		c.measure(StageServed, end.Sub(t.since))
		c.worked(end.Sub(start), end)
	}
	news := !again || fmt.Sprint(err) != fmt.Sprint(c.err)
	c.err = err
	if config.Unserved(t.result.Config, err) != nil {
		c.retry = end.Add(unservedTime)
	}
	c.begun = true
	if !again && c.Changed != nil {
		c.Changed()
	}
	if news {
		c.tell()
	}
}
