package observe

import (
	"sync"
	"sync/atomic"
	"time"
)

const (
	// methodsMax is the number of methods a route can tell apart: the ten ids of proxy/message and room.
	methodsMax = 16
	// SeriesDefault is the default cap on routes, and on endpoints, with series of their own. A route costs about 24
	// series and 13 for each stage in which its requests spend time, three in most cases, and an endpoint about 29, so
	// that full tables are 184,000, or 18 MB: what a Prometheus server carries of some replicas.
	SeriesDefault = 2000
	// reasonsMax is the number of different Record.Reason tokens, per worker; they are constants of the program.
	reasonsMax = 64
	// retainGrace is how long the counters of a route or endpoint outlive its configuration: several scrapes at the
	// usual 15 to 60 s, so that the last requests are seen, and a mistaken deletion that is undone loses nothing.
	retainGrace = 5 * time.Minute
	// sweepPause is how far apart it is looked for handles whose grace is over, which takes a look at all: endpoints may
	// change a hundred times a second.
	sweepPause = 10 * time.Second

	nameOther = "other" // stands for all routes, endpoints or reasons beyond a cap
	nameNone  = "none"  // no route matched; no answer came
)

// Options configure a Registry. The zero value is one worker and default caps.
type Options struct {
	// Workers is the number of shards; at least 1.
	Workers int
	// Methods are the names that Record.Method indexes; at most methodsMax, what is beyond counts as Methods[0].
	// Empty means that methods are not told apart.
	Methods []string
	// SeriesRoutesMax and SeriesEndpointsMax cap the routes and endpoints that have series of their own; those beyond
	// are counted together as "other". 0 means the default.
	SeriesRoutesMax, SeriesEndpointsMax int
	// SharedShards tells that several goroutines use one shard (the reference engine): access log lines are then
	// appended under a lock. Counters never need it.
	SharedShards bool
	// Now is the wall clock of Retain's grace and of nothing else; nil means time.Now.
	Now func() time.Time
}

// Registry holds every metric of one data plane. All methods may be called from any goroutine.
type Registry struct {
	// immutable
	methods      []string
	now          func() time.Time
	sharedShards bool
	shards       []*Shard
	none, other  *Route    // permanent: no match; beyond the cap
	otherEP      *Endpoint // permanent: beyond the cap
	started      float64   // when the process started, Unix time in seconds; 0 when unknown

	// atomic
	log, errorLog  atomic.Pointer[AccessLog]
	logWriteErrors atomic.Uint64
	parseReasons   atomic.Pointer[[]string]

	handlesMu sync.Mutex // held while configurations are compiled and retained, never by a worker
	routes    map[string]*Route
	endpoints map[EndpointKey]*Endpoint
	sweepAt   time.Time // when the grace of some handle is over; zero while nobody waits for that

	usedMu        sync.Mutex // held by a worker once per route and endpoint: keep what it guards short
	usedRoutes    usedSet[*Route]
	usedEndpoints usedSet[*Endpoint]

	hooksMu sync.Mutex
	hooks   []hook
}

// usedSet lists the handles that have series. The slice is only appended to or replaced, so that a scrape reads a
// copy of its header without the lock.
type usedSet[H any] struct {
	list []H
	max  int
}

// NewRegistry returns a registry with all shards in place.
func NewRegistry(opt Options) *Registry {
	workers := max(opt.Workers, 1)
	r := &Registry{
		methods:      opt.Methods,
		now:          opt.Now,
		sharedShards: opt.SharedShards,
		shards:       make([]*Shard, workers),
		routes:       map[string]*Route{},
		endpoints:    map[EndpointKey]*Endpoint{},
		started:      processStart(),
	}
	if r.now == nil {
		r.now = time.Now
	}
	if len(r.methods) == 0 {
		r.methods = []string{"any"}
	}
	r.methods = r.methods[:min(len(r.methods), methodsMax)]
	r.usedRoutes.max = orDefault(opt.SeriesRoutesMax, SeriesDefault)
	r.usedEndpoints.max = orDefault(opt.SeriesEndpointsMax, SeriesDefault)
	for i := range r.shards {
		r.shards[i] = &Shard{registry: r, worker: i}
	}
	r.none = newPermanentRoute(nameNone, workers)
	r.other = newPermanentRoute(nameOther, workers)
	r.routes[nameNone], r.routes[nameOther] = r.none, r.other
	key := EndpointKey{Cluster: nameOther, Address: nameOther}
	r.otherEP = newPermanentEndpoint(key, workers)
	r.endpoints[key] = r.otherEP
	return r
}

func orDefault(n, fallback int) int {
	if n > 0 {
		return n
	}
	return fallback
}

// Shard returns the shard of a worker, 0 to Options.Workers-1; a number outside wraps around.
func (r *Registry) Shard(worker int) *Shard {
	return r.shards[uint(worker)%uint(len(r.shards))]
}

// SetParseReasons names the reasons that Shard.ParseError counts; index = reason. Unnamed ones count as "other".
func (r *Registry) SetParseReasons(names []string) {
	own := append([]string(nil), names...)
	r.parseReasons.Store(&own)
}
