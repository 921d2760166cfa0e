// Package snapshot compiles a configuration into the immutable tables that requests are served from, and carries the
// live parts over from one generation to the next.
//
// It owns what a generation is, what successive generations share, and which one is current. It does not own matching
// (proxy/route), edits (proxy/filter), endpoints (proxy/upstream), nor sockets: proxy/server opens and closes them by
// Snapshot.Ports. control publishes through Live; proxy/exchange reads Live.Current and matches.
//
// A Snapshot never changes. The garbage collector is the grace period: an exchange keeps its rule, not its generation.
package snapshot

import (
	"net/netip"

	"rauta.io/rauta/proxy/certs"
	"rauta.io/rauta/proxy/config"
	"rauta.io/rauta/proxy/filter"
	"rauta.io/rauta/proxy/message"
	"rauta.io/rauta/proxy/observe"
	"rauta.io/rauta/proxy/route"
	"rauta.io/rauta/proxy/upstream"
)

// Snapshot is one generation of the configuration, compiled.
type Snapshot struct {
	// Generation counts changes of the configuration since the start of the process; 0 is the empty one before the first.
	Generation uint64
	// Hash is config.Hash of what was published.
	Hash [32]byte
	// Config is what was published; parts that did not change are those of earlier generations.
	Config *config.Config
	// Ports are the sockets to serve, in order of Addr; UDPPorts are those for datagrams.
	Ports    []*Port
	UDPPorts []*UDPPort
	// Clusters by name.
	Clusters map[string]*upstream.Cluster
	// Routes in order of precedence. Routes that could not be used are missing.
	Routes []*Route
	// L4Routes likewise.
	L4Routes []*L4Route
	// Problems are what was left out of Config, and why.
	Problems []error

	certificates *certs.Store
	clusters     []*upstream.Cluster // of Clusters, by the index in Config.Clusters; nil where one can't be used
	valid        bool                // config.Validate has found no problem
	hashes       config.PartHashes   // of everything but routes
}

// hashOf returns the hash of one of Config.Routes; false if that is not known, because some can't be used.
func (s *Snapshot) hashOf(route int) ([32]byte, bool) {
	if len(s.Routes) != len(s.Config.Routes) {
		return [32]byte{}, false
	}
	return s.Routes[route].hash, true
}

// partHashes are what is known beside hashOf.
func (s *Snapshot) partHashes() config.PartHashes {
	known := s.hashes
	if len(s.Routes) != len(s.Config.Routes) {
		known.Routes = nil
	}
	return known
}

// Certificate returns a certificate of the configuration, nil if there is none of the name or it can't be used.
func (s *Snapshot) Certificate(name string) *certs.Certificate { return s.certificates.Lookup(name) }

// Port is one listening socket, shared by the listeners on its address.
type Port struct {
	// Addr is where to listen; its address is unspecified for all addresses of the host.
	Addr netip.AddrPort
	// Generation is the Snapshot.Generation that it was made in, never 0.
	Generation uint64
	// Turn is the lowest config.Listener.Turn of its listeners.
	Turn int
	// ProxyProtocolFrom, if not empty, are the peers that must, and alone may, connect with a PROXY protocol header.
	ProxyProtocolFrom []netip.Prefix
	// TLS is set if clients speak TLS on the port; a connection to such a port must never be served without it.
	TLS *certs.Table
	// TCP: everything on the port belongs to L4, which is nil if no route is attached.
	TCP bool
	L4  *L4Route
	// ByServerName: what becomes of a connection is in its ClientHello: see Port.Hello.
	ByServerName bool
	// Terminates: some TLS connections on the port end here, so that clients expect RAUTA to speak TLS.
	Terminates bool
	// Listeners in the order of the configuration.
	Listeners []*Listener

	hosts *route.Hosts
	sites []*site // by the index that hosts gives
}

// Listener is one logical listener.
type Listener struct {
	// Name is config.Listener.Name.
	Name string
	// Hostname is config.Listener.Hostname.
	Hostname string
	// Port is the port number; redirects refer to it.
	Port uint16
}

// Listener returns the listener for requests to host (lower case, no port), nil if there is none. Of several with one
// hostname, which share their routes, it returns the first.
func (p *Port) Listener(host []byte) *Listener {
	i := p.hosts.Lookup(host)
	if i < 0 {
		return nil
	}
	return p.sites[i].listeners[0]
}

// Match finds the rule for a request to host (lower case, no port). rule is nil when no rule takes the request, listener
// also when no listener does. It takes no lock and allocates nothing.
func (p *Port) Match(host []byte, req *message.Request) (rule *Rule, listener *Listener, res route.Result) {
	i := p.hosts.Lookup(host)
	if i < 0 {
		return nil, nil, route.Result{}
	}
	s := p.sites[i]
	res, ok := s.table.Lookup(host, req)
	if !ok {
		return nil, s.listeners[0], route.Result{}
	}
	return s.rules[res.Rule], s.owners[res.Rule], res
}

// Route is one route, compiled. Generations between which it did not change share it.
type Route struct {
	// Name is config.Route.Name.
	Name string
	// Rules that can be used, in the order of the configuration.
	Rules []Rule

	config   *config.Route // what it was compiled from
	hash     [32]byte
	problems *[]error // of rules that proxy/route refused, nil for none; config.Validate finds the others anew each time
}

// Rule is what happens to requests that one of its matches takes.
type Rule struct {
	// Name is config.Rule.Name; Route and Source are those of the route, Index is the place in its list of rules.
	Name    string
	Route   string
	Source  config.Source
	Index   int32
	weights uint32 // the sum over Backends; here because it fills the gap after Index
	// Stats is nil without a registry.
	Stats *observe.Route
	// Filters run before a back end is picked; nil for none.
	Filters  *filter.Chain
	Backends []Backend
	// Mirrors of requests as the rule's filters leave them.
	Mirrors []Mirror
	// RequestTimeout, BackendTimeout and ResponseTimeout are in nanoseconds (config.Timeouts); 0 means the default, below
	// 0 none.
	RequestTimeout  int64
	BackendTimeout  int64
	ResponseTimeout int64
	// TunnelIdle is the longest silence of a tunnel in nanoseconds; 0 and below mean that there is no limit.
	TunnelIdle int64
	// BodyBytesMax bounds the request body; 0 means no limit of this rule.
	BodyBytesMax int64
	// Retry is nil for the default.
	Retry *Retry

	config *config.Rule
}

// TraceSampling is the percentage of the traces beginning with the rule that are sampled; not set for that of the process.
// It is asked for only where requests become part of traces, and so takes no room of its own.
func (r *Rule) TraceSampling() (percent float64, set bool) {
	if p := r.config.TraceSampling; p != nil {
		return *p, true
	}
	return 0, false
}

// Backend is one weighted choice.
type Backend struct {
	// Cluster is nil if and only if Invalid is set.
	Cluster *upstream.Cluster
	// Filters run after the rule's; nil for none.
	Filters *filter.Chain
	// Mirrors of requests as these filters leave them.
	Mirrors []Mirror
	// Invalid says why this choice can't be used: its share of requests is answered 500 (Gateway API).
	Invalid string
	Weight  uint32

	upTo   uint32            // the sum of the weights up to and including this one
	target *upstream.Cluster // what the reference leads to, also when Invalid for another reason
}

// Pick returns a back end for an evenly distributed random number: each gets its weight's share of the 2^32 numbers, to
// within one. It returns nil when the weights sum to 0.
func (r *Rule) Pick(random uint32) *Backend {
	return pick(r.Backends, r.weights, random)
}

func pick(list []Backend, weights, random uint32) *Backend {
	n := uint32(uint64(random) * uint64(weights) >> 32)
	for i := range list {
		if n < list[i].upTo {
			return &list[i]
		}
	}
	return nil
}
