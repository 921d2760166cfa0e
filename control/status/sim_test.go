package status

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"strconv"
	"sync"
	"testing"
	"time"

	eventsv1 "k8s.io/api/events/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"

	"rauta.io/rauta/control/translate"
)

const ours = "rauta.io/gateway-controller"

// simulated is an API server: versions grow with every write, and a patch for an older one is a conflict.
type simulated struct {
	mu      sync.Mutex
	version int
	objects map[id]*stored
	gets    int
	patches []id
	atOnce  int // patches under way
	most    int // of them at the same time
	// refuse, if not nil, fails a patch. before, if not nil, is called before a patch is looked at.
	refuse func(id) error
	before func(id)

	events  map[string]*eventsv1.Event
	creates int
	again_  int
	noEvent error
	onEvent func(*eventsv1.Event) // if not nil, called for each that is made
	// refuseEvent, if not nil, fails the making of one.
	refuseEvent func(*eventsv1.Event) error
}

type stored struct {
	uid        types.UID
	version    string
	generation int64
	status     map[string]json.RawMessage
}

func newSimulated() *simulated {
	return &simulated{objects: map[id]*stored{}, events: map[string]*eventsv1.Event{}}
}

// add stores an object and fills in what an API server does; status is its JSON, or empty.
func (s *simulated) add(kind string, o metav1.Object, status string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.version++
	st := &stored{uid: types.UID(fmt.Sprintf("uid-%d", s.version)), version: strconv.Itoa(s.version), generation: o.GetGeneration()}
	if status != "" {
		if err := json.Unmarshal([]byte(status), &st.status); err != nil {
			panic(err)
		}
	}
	o.SetUID(st.uid)
	o.SetResourceVersion(st.version)
	s.objects[refOf(kind, o)] = st
}

// set changes an object as others would.
func (s *simulated) set(o id, change func(*stored)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.version++
	st := s.objects[o]
	change(st)
	st.version = strconv.Itoa(s.version)
}

// read copies a field of an object's status, and its version, as an informer would.
func (s *simulated) read(t *testing.T, kind string, o metav1.Object, status any) {
	t.Helper()
	s.mu.Lock()
	defer s.mu.Unlock()
	st := s.objects[refOf(kind, o)]
	text, err := json.Marshal(st.status)
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(text, status); err != nil {
		t.Fatal(err)
	}
	o.SetResourceVersion(st.version)
	o.SetGeneration(st.generation)
}

func (s *simulated) field(o id, field string) string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return string(s.objects[o].status[field])
}

func (s *simulated) get(_ context.Context, o id) (live, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.gets++
	st := s.objects[o]
	if st == nil {
		return live{}, apierrors.NewNotFound(schema.GroupResource{Resource: o.Kind}, o.Name)
	}
	text, err := json.Marshal(st.status)
	return live{uid: st.uid, version: st.version, generation: st.generation, status: text}, err
}

func (s *simulated) patch(_ context.Context, o id, version string, status map[string]any) error {
	if s.before != nil {
		s.before(o)
	}
	s.mu.Lock()
	s.atOnce++
	s.most = max(s.most, s.atOnce)
	s.mu.Unlock()
	time.Sleep(time.Millisecond) // lets others in
	s.mu.Lock()
	defer s.mu.Unlock()
	s.atOnce--
	s.patches = append(s.patches, o)
	if s.refuse != nil {
		if err := s.refuse(o); err != nil {
			return err
		}
	}
	st := s.objects[o]
	if st == nil {
		return apierrors.NewNotFound(schema.GroupResource{Resource: o.Kind}, o.Name)
	}
	if st.version != version {
		return apierrors.NewConflict(schema.GroupResource{Resource: o.Kind}, o.Name, errors.New("the object has been modified"))
	}
	if st.status == nil {
		st.status = map[string]json.RawMessage{}
	}
	for field, value := range status {
		text, err := json.Marshal(value)
		if err != nil {
			return err
		}
		if string(text) == "null" {
			delete(st.status, field)
			continue
		}
		st.status[field] = text
	}
	s.version++
	st.version = strconv.Itoa(s.version)
	return nil
}

func (s *simulated) create(_ context.Context, e *eventsv1.Event) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.creates++
	if s.onEvent != nil {
		s.onEvent(e)
	}
	if s.noEvent != nil {
		return s.noEvent
	}
	if s.refuseEvent != nil {
		if err := s.refuseEvent(e); err != nil {
			return err
		}
	}
	key := e.Namespace + "/" + e.Name
	if s.events[key] != nil {
		return apierrors.NewAlreadyExists(schema.GroupResource{Resource: "events"}, e.Name)
	}
	s.events[key] = e.DeepCopy()
	return nil
}

func (s *simulated) again(_ context.Context, e *eventsv1.Event) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.again_++
	key := e.Namespace + "/" + e.Name
	if s.events[key] == nil {
		return apierrors.NewNotFound(schema.GroupResource{Resource: "events"}, e.Name)
	}
	s.events[key].Series = e.Series.DeepCopy()
	return nil
}

func (s *simulated) writes() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.patches)
}

// bench is a writer whose clock stands still, and its log.
type bench struct {
	*Writer
	sim  *simulated
	log  *bytes.Buffer
	time time.Time
}

func newBench(sim *simulated) *bench {
	b := &bench{sim: sim, log: &bytes.Buffer{}, time: time.Date(2026, 8, 1, 12, 0, 0, 0, time.UTC)}
	b.Writer = newWriter(sim, sim, Options{Identity: "rauta-0", Log: slog.New(slog.NewTextHandler(b.log, nil))})
	b.Writer.now = func() time.Time { return b.time }
	b.events.now = b.Writer.now
	return b
}

// offer makes an Update current and looks at it once.
func (b *bench) offer(ctx context.Context, o *translate.Objects, s translate.Statuses) time.Duration {
	b.Offer(Update{Objects: o, Result: &translate.Result{Statuses: s}})
	return b.round(ctx)
}
