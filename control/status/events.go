package status

import (
	"cmp"
	"context"
	"fmt"
	"hash/fnv"
	"log/slog"
	"math"
	"strings"
	"sync"
	"time"

	"golang.org/x/time/rate"
	corev1 "k8s.io/api/core/v1"
	eventsv1 "k8s.io/api/events/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"rauta.io/rauta/control/fair"
	"rauta.io/rauta/control/translate"
)

const (
	// EventsPerSecond is how many Events are written unless Options say otherwise, and eventsBurst times as many at once.
	// They are for people: an Event that comes seconds later is as good.
	EventsPerSecond = 25
	eventsBurst     = 4
	// eventsPerObject is how many problems of one object get an Event each; one more says how many others there are.
	eventsPerObject = 8
	// eventsMax bounds the Events that are kept alive, and with them memory; statuses and the log have the rest.
	eventsMax = 5000
	// eventRefresh is when an Event whose problem is still there is sent again: API servers forget them after an hour.
	eventRefresh = 45 * time.Minute
	// eventSweep is how often it is looked for Events that are to be sent again.
	eventSweep = time.Minute
	// eventLook is how often it is looked for new problems while Events wait for their turn.
	eventLook = time.Second
	// noteBytesMax is the limit of Event.note, nameBytesMax that of the part of an Event's name that comes from the object.
	noteBytesMax = 1024
	nameBytesMax = 200

	reasonError   = "ConfigurationError"   // something that the user asked for is not in effect
	reasonWarning = "ConfigurationWarning" // something that the user should know

	eventReporter = "rauta.io/rauta"
	eventAction   = "Translate"
)

// eventClient is the part of the API server that takes Events.
type eventClient interface {
	create(ctx context.Context, e *eventsv1.Event) error
	// again says that an Event has happened once more.
	again(ctx context.Context, e *eventsv1.Event) error
}

// events keeps one Event alive for each problem. Its name follows from what it says, so that another leader, or the next
// process, adds to it and makes no second one.
type events struct {
	// Immutable.
	client   eventClient
	identity string
	log      *slog.Logger
	limit    *rate.Limiter
	counters *counters
	now      func() time.Time
	poke     chan struct{}

	mu     sync.Mutex
	newest *Update

	// Owned by run.
	current *Update
	sent    map[string]*sentEvent // by namespace and name
	queue   []*sentEvent          // all of sent, in the order in which they are sent
	looked  time.Time             // when queue was made
	logged  bool                  // that Events are refused
}

// sentEvent is an Event that stands for a problem.
type sentEvent struct {
	event *eventsv1.Event
	at    time.Time // when it was sent last; zero if it has not been
}

func newEvents(client eventClient, opt Options, c *counters) *events {
	perSecond := cmp.Or(opt.EventsPerSecond, EventsPerSecond)
	return &events{
		client: client, identity: opt.Identity, log: opt.Log, counters: c,
		limit: rate.NewLimiter(rate.Limit(perSecond), int(math.Ceil(perSecond*eventsBurst))),
		now:   time.Now, poke: make(chan struct{}, 1), sent: map[string]*sentEvent{},
	}
}

// offer replaces the Update whose problems are told.
func (e *events) offer(u *Update) {
	e.mu.Lock()
	same := e.newest == u
	e.newest = u
	e.mu.Unlock()
	if same {
		return
	}
	select {
	case e.poke <- struct{}{}:
	default:
	}
}

func (e *events) run(ctx context.Context) {
	clear(e.sent)
	e.current, e.logged = nil, false
	sweep := time.NewTicker(eventSweep)
	defer sweep.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-e.poke:
		case <-sweep.C:
		}
		if u := e.offered(); u != nil && u != e.current {
			e.take(u)
		}
		e.send(ctx)
	}
}

// offered is the newest Update; nil if there is none.
func (e *events) offered() *Update {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.newest
}

// take makes the Events for the problems of an Update those that are to be sent, with what is known of them. Namespaces take
// turns, so that one with thousands of problems neither uses up the limit nor keeps those of others waiting; within one the
// first problem of each object comes before the second of any.
func (e *events) take(u *Update) {
	e.current, e.looked = u, e.now()
	all := eventsOf(u)
	fair.Turns(all, func(event *eventsv1.Event) string { return string(event.Regarding.UID) })
	fair.Turns(all, func(event *eventsv1.Event) string { return event.Namespace })
	out := map[string]*sentEvent{}
	e.queue = make([]*sentEvent, 0, min(len(all), eventsMax))
	for _, event := range all {
		key := event.Namespace + "/" + event.Name
		if out[key] != nil {
			continue
		}
		if len(out) == eventsMax {
			e.counters.eventsDropped.Add(1)
			continue
		}
		s := e.sent[key]
		if s == nil {
			event.ReportingController, event.ReportingInstance = eventReporter, e.identity
			s = &sentEvent{event: event}
		}
		out[key] = s
		e.queue = append(e.queue, s)
	}
	e.sent = out
}

// send sends what has not been sent, or has to be sent again, until there are other problems.
func (e *events) send(ctx context.Context) {
	failed := map[*sentEvent]bool{}
	for i := 0; i < len(e.queue); i++ {
		s, now := e.queue[i], e.now()
		if failed[s] || !s.at.IsZero() && now.Sub(s.at) < eventRefresh {
			continue
		}
		if now.Sub(e.looked) >= eventLook {
			if u := e.offered(); u != nil && u != e.current {
				e.take(u)
				i = -1
				continue
			}
			e.looked = now
		}
		if e.limit.Wait(ctx) != nil {
			return
		}
		err := e.one(ctx, s, now)
		if err == nil {
			s.at, e.logged = now, false
			e.counters.eventsSent.Add(1)
			continue
		}
		if ctx.Err() != nil {
			return
		}
		failed[s] = true
		if apierrors.HasStatusCause(err, corev1.NamespaceTerminatingCause) {
			continue // forbidden, but because its object is about to go
		}
		e.counters.eventsFailed.Add(1)
		if !e.logged {
			e.log.Warn("an event could not be sent; it is tried again", "object", s.event.Regarding.Kind+" "+
				s.event.Regarding.Namespace+"/"+s.event.Regarding.Name, "error", err)
			e.logged = true
		}
		if unanswered(err) || apierrors.IsForbidden(err) {
			return // the others would fare the same; the next sweep tries again
		}
	}
}

// one sends one Event: the first time as a new one, later, or if another leader has sent it before, as one more of a series.
func (e *events) one(ctx context.Context, s *sentEvent, now time.Time) error {
	if s.event.Series == nil {
		s.event.EventTime = metav1.NewMicroTime(now)
		err := e.client.create(ctx, s.event)
		if err == nil {
			s.event.Series = &eventsv1.EventSeries{Count: 1}
		}
		if !apierrors.IsAlreadyExists(err) {
			return err
		}
		s.event.Series = &eventsv1.EventSeries{Count: 1}
	}
	s.event.Series.Count++ // two is the least that a series may have
	s.event.Series.LastObservedTime = metav1.NewMicroTime(now)
	err := e.client.again(ctx, s.event)
	if apierrors.IsNotFound(err) { // it has expired
		s.event.Series = nil
		s.event.EventTime = metav1.NewMicroTime(now)
		if err = e.client.create(ctx, s.event); err == nil {
			s.event.Series = &eventsv1.EventSeries{Count: 1}
		}
	}
	return err
}

// eventsOf returns the Events for the problems of an Update. Problems are in order of their objects.
func eventsOf(u *Update) []*eventsv1.Event {
	problems := u.problems()
	var out []*eventsv1.Event
	find := finder{objects: u.Objects, byKind: map[string]map[id]metav1.Object{}}
	for start := 0; start < len(problems); {
		end := start + 1
		for end < len(problems) && problems[end].Object == problems[start].Object {
			end++
		}
		of := problems[start:end]
		start = end
		object := find.object(of[0].Object)
		if object == nil {
			continue // it is gone
		}
		for i, p := range of {
			if i == eventsPerObject {
				out = append(out, newEvent(p.Object, object, reasonWarning, fmt.Sprintf("there are %d more problems; the log has all of them", len(of)-i)))
				break
			}
			reason := reasonWarning
			if p.Severity == translate.Error {
				reason = reasonError
			}
			out = append(out, newEvent(p.Object, object, reason, noteOf(&p)))
		}
	}
	return out
}

// noteOf says what is wrong, where, and what to do.
func noteOf(p *translate.Problem) string {
	text := p.Message
	if p.Field != "" {
		text = p.Field + ": " + text
	}
	if p.Hint != "" {
		text += " (" + p.Hint + ")"
	}
	return text
}

// newEvent makes an Event whose name follows from its content.
func newEvent(ref id, object metav1.Object, reason, note string) *eventsv1.Event {
	note = clip(strings.ToValidUTF8(note, "?"), noteBytesMax)
	hash := fnv.New64a()
	for _, part := range []string{ref.Kind, string(object.GetUID()), reason, note} {
		hash.Write([]byte(part))
		hash.Write([]byte{0})
	}
	namespace := ref.Namespace
	if namespace == "" {
		namespace = metav1.NamespaceDefault // where the Events of objects without a namespace are
	}
	return &eventsv1.Event{
		ObjectMeta: metav1.ObjectMeta{
			Namespace: namespace, Name: fmt.Sprintf("%s.%016x", strings.TrimRight(ref.Name[:min(len(ref.Name), nameBytesMax)], "-."), hash.Sum64()),
		},
		Action: eventAction, Reason: reason, Note: note, Type: corev1.EventTypeWarning,
		Regarding: corev1.ObjectReference{
			APIVersion: apiVersionOf(ref.Kind), Kind: ref.Kind, Namespace: ref.Namespace, Name: ref.Name,
			UID: types.UID(object.GetUID()), ResourceVersion: object.GetResourceVersion(),
		},
	}
}

func clip(s string, bytesMax int) string {
	if len(s) <= bytesMax {
		return s
	}
	return strings.ToValidUTF8(s[:bytesMax-3], "") + "..."
}
