package config

import (
	"errors"
	"fmt"
	"math"
	"net/netip"
	"slices"
	"strings"
)

// Limits of a configuration.
const (
	// weightSumMax bounds the sum of a rule's weights, so that it fits the 32 bits of a random pick.
	weightSumMax = math.MaxUint32
	// connectionsLimit bounds ConnectionsMax and PendingMax: more than a machine has ports is a mistake.
	connectionsLimit = 1 << 20
)

// Part is the smallest piece of a Config that an Error concerns. The data plane leaves out that piece and serves the rest.
type Part uint8

// Parts.
const (
	// PartListener: Config.Listeners[Index].
	PartListener Part = iota
	// PartAttachment: Config.Listeners[Index].Attached[Sub].
	PartAttachment
	// PartRoute: Config.Routes[Index].
	PartRoute
	// PartRule: Config.Routes[Index].Rules[Sub], whose matches can't be used.
	PartRule
	// PartRuleFilters: Config.Routes[Index].Rules[Sub].Filters. The rule answers 500.
	PartRuleFilters
	// PartBackend: Config.Routes[Index].Rules[Sub].Backends[Item]. Its share of requests is answered 500.
	PartBackend
	// PartCluster: Config.Clusters[Index].
	PartCluster
	// PartCertificate: Config.Certificates[Index].
	PartCertificate
	// PartTLSReference: a name in Config.Listeners[Index].TLS that leads nowhere. The listener goes without it.
	PartTLSReference
	// PartL4Route: Config.L4Routes[Index].
	PartL4Route
	// PartL4Backend: Config.L4Routes[Index].Backends[Sub]. Its share is refused.
	PartL4Backend
	// PartTicketKey: Config.TicketKeys[Index].
	PartTicketKey
	// PartTicketKeySet: Config.TicketKeySets[Index]. Its listeners have keys that nobody shares.
	PartTicketKeySet
)

// Error is one problem of a Config.
type Error struct {
	Part Part
	// Index, Sub and Item locate the part; those that the part does not have are 0.
	Index, Sub, Item int
	// Path names the field for people: `routes["httproute/a/b"].rules[0].filters[1]`.
	Path string
	// Err says what is wrong and what to do.
	Err error
}

func (e *Error) Error() string { return e.Path + ": " + e.Err.Error() }

// Unwrap returns what is wrong without the place.
func (e *Error) Unwrap() error { return e.Err }

// Validate returns every problem of a configuration, each an *Error; those of what others refer to come first. Regular
// expressions are left to proxy/route, which compiles them.
func Validate(c *Config) []error {
	v := validator{config: c}
	v.certificates()
	v.ticketKeys()
	v.clusters()
	v.routes()
	v.l4Routes()
	v.listeners()
	return v.errs
}

// Validate is Validate(s.After), if Before has no problem. Then only what is new needs to be checked, unless what others
// refer to has come or gone.
func (s *Succession) Validate() []error {
	if !s.SameNames {
		return Validate(s.After)
	}
	v := validator{config: s.After, since: s}
	if s.SameListeners && s.SameClusters && s.SameSecrets {
		v.newRoutes()
		v.l4Routes()
		return v.errs
	}
	v.certificates()
	v.ticketKeys()
	v.newClusters()
	v.newRoutes()
	v.l4Routes()
	v.listeners()
	return v.errs
}

type validator struct {
	config *Config
	// since, if not nil, has the same names as config, and no problems.
	since        *Succession
	clusterNames map[string]bool // see hasCluster
	routeNames   map[string]bool // see hasRoute
	l4RouteNames map[string]bool

	certificateNames  map[string]bool
	ticketKeySetNames map[string]bool
	errs              []error
}

func (v *validator) report(e Error) { v.errs = append(v.errs, &e) }

func (v *validator) clusters() {
	v.clusterNames = make(map[string]bool, len(v.config.Clusters))
	for i := range v.config.Clusters {
		c := &v.config.Clusters[i]
		if err := checkUnique(v.clusterNames, c.Name); err != nil {
			v.report(Error{Part: PartCluster, Index: i, Path: fmt.Sprintf("clusters[%d].name", i), Err: err})
			continue
		}
		v.cluster(i)
	}
}

// newClusters is clusters for those that are not as they were.
func (v *validator) newClusters() {
	if v.since.SameClusters {
		return
	}
	for i := range v.config.Clusters {
		if v.config.Clusters[i] != v.since.Before.Clusters[i] {
			v.cluster(i)
		}
	}
}

func (v *validator) cluster(i int) {
	c := &v.config.Clusters[i]
	field, err := checkCluster(c)
	if err == nil {
		field, err = v.backendTLS(c.TLS)
	}
	if err != nil {
		v.report(Error{Part: PartCluster, Index: i, Path: fmt.Sprintf("clusters[%q].%s", c.Name, field), Err: err})
	}
}

// hasCluster reports whether there is a cluster of the name. Clusters are in order of their names: the few names that are
// asked for when little has changed are found without a map of all.
func (v *validator) hasCluster(name string) bool {
	if v.clusterNames == nil {
		list := v.config.Clusters
		if i, found := slices.BinarySearchFunc(list, name, func(c Cluster, name string) int { return strings.Compare(c.Name, name) }); found {
			return list[i].Name == name
		}
		v.clusterNames = make(map[string]bool, len(list))
		for i := range list {
			v.clusterNames[list[i].Name] = true
		}
	}
	return v.clusterNames[name]
}

// hasRoute reports whether there is a route of the name.
func (v *validator) hasRoute(name string) bool {
	if v.routeNames == nil {
		v.routeNames = make(map[string]bool, len(v.config.Routes))
		for i := range v.config.Routes {
			v.routeNames[v.config.Routes[i].Name] = true
		}
	}
	return v.routeNames[name]
}

func checkUnique(names map[string]bool, name string) error {
	switch {
	case name == "":
		return errors.New("name is empty")
	case names[name]:
		return fmt.Errorf("name %q is used twice; the first one counts", name)
	}
	names[name] = true
	return nil
}

func checkCluster(c *Cluster) (field string, err error) {
	if c.Protocol != "" && c.Protocol != BackendHTTP1 && c.Protocol != BackendH2 {
		return "protocol", fmt.Errorf("protocol %q is not one of %s, %s", c.Protocol, BackendHTTP1, BackendH2)
	}
	switch c.Policy {
	case "", PolicyP2C, PolicyRoundRobin, PolicyRandom:
		if c.HashOn != nil {
			return "hashOn", fmt.Errorf("a hash key needs the policy %s", PolicyMaglev)
		}
	case PolicyMaglev:
		if err := checkHashOn(c.HashOn); err != nil {
			return "hashOn", err
		}
	default:
		return "policy", fmt.Errorf("policy %q is not one of %s, %s, %s, %s", c.Policy, PolicyP2C, PolicyRoundRobin,
			PolicyRandom, PolicyMaglev)
	}
	if c.ConnectTimeout < 0 {
		return "connectTimeout", errors.New("a connect timeout can't be switched off; give a positive duration")
	}
	if c.ConnectionsMax < 0 || c.ConnectionsMax > connectionsLimit {
		return "connectionsMax", fmt.Errorf("%d is not between 0 and %d", c.ConnectionsMax, connectionsLimit)
	}
	if c.PendingMax < 0 || c.PendingMax > connectionsLimit {
		return "pendingMax", fmt.Errorf("%d is not between 0 and %d", c.PendingMax, connectionsLimit)
	}
	return "", nil
}

func checkHashOn(h *HashOn) error {
	switch {
	case h == nil:
		return fmt.Errorf("the policy %s needs a hash key", PolicyMaglev)
	case h.Kind == HashHeader || h.Kind == HashCookie:
		return CheckFieldName(h.Name)
	case h.Kind != HashSourceIP && h.Kind != HashPath:
		return fmt.Errorf("kind %q is not one of %s, %s, %s, %s", h.Kind, HashSourceIP, HashHeader, HashCookie, HashPath)
	case h.Name != "":
		return fmt.Errorf("kind %s takes no name", h.Kind)
	}
	return nil
}

func (v *validator) routes() {
	v.routeNames = make(map[string]bool, len(v.config.Routes))
	for i := range v.config.Routes {
		r := v.config.Routes[i]
		if err := checkUnique(v.routeNames, r.Name); err != nil {
			v.report(Error{Part: PartRoute, Index: i, Path: fmt.Sprintf("routes[%d].name", i), Err: err})
			continue
		}
		for j := range r.Rules {
			v.rule(i, j)
		}
	}
}

// newRoutes is routes for those that are not as they were.
func (v *validator) newRoutes() {
	for i := range v.config.Routes {
		if !v.since.SameRoute(i) {
			for j := range v.config.Routes[i].Rules {
				v.rule(i, j)
			}
		}
	}
}

func (v *validator) rule(route, index int) {
	r := &v.config.Routes[route].Rules[index]
	report := func(part Part, item int, err error, field string, args ...any) {
		path := fmt.Sprintf("routes[%q].rules[%d].", v.config.Routes[route].Name, index) + fmt.Sprintf(field, args...)
		v.report(Error{Part: part, Index: route, Sub: index, Item: item, Path: path, Err: err})
	}
	if len(r.Matches) == 0 {
		report(PartRule, 0, errors.New(`no match; a rule for everything has the prefix match "/"`), "matches")
	}
	for i := range r.Matches {
		if field, err := checkMatch(&r.Matches[i]); err != nil {
			report(PartRule, 0, err, "matches[%d].%s", i, field)
		}
	}
	if r.BodyBytesMax < 0 {
		report(PartRule, 0, fmt.Errorf("%d is negative; 0 means no limit of this rule", r.BodyBytesMax), "bodyBytesMax")
	}
	if p := r.TraceSampling; p != nil && !(*p >= 0 && *p <= 100) {
		report(PartRule, 0, fmt.Errorf("%v is no percentage", *p), "traceSampling")
	}
	if field, err := checkRetry(r.Retry); err != nil {
		report(PartRule, 0, err, "retry.%s", field)
	}
	for i := range r.Filters {
		if err := v.filter(&r.Filters[i]); err != nil {
			report(PartRuleFilters, 0, err, "filters[%d]", i)
		}
	}
	v.backends(r.Backends, func(item int, field string, err error) {
		report(PartBackend, item, err, "backends[%d].%s", item, field)
	})
	for i := range r.Backends {
		b := &r.Backends[i]
		for j := range b.Filters {
			if err := v.filter(&b.Filters[j]); err != nil {
				report(PartBackend, i, err, "backends[%d].filters[%d]", i, j)
			}
		}
	}
}

// filter is CheckFilter with what a filter refers to.
func (v *validator) filter(f *Filter) error {
	if err := CheckFilter(f); err != nil {
		return err
	}
	if f.Mirror != nil && !v.hasCluster(f.Mirror.Cluster) {
		return fmt.Errorf("mirror: cluster %q does not exist", f.Mirror.Cluster)
	}
	return nil
}

// backends checks weights and clusters.
func (v *validator) backends(list []Backend, report func(item int, field string, err error)) {
	sum := uint64(0)
	for i := range list {
		b := &list[i]
		if sum+uint64(b.Weight) > weightSumMax {
			report(i, "weight", fmt.Errorf("the sum of the weights is above %d; divide all of them", uint32(weightSumMax)))
		} else {
			sum += uint64(b.Weight)
		}
		switch {
		case b.Cluster == "" && b.Invalid == "":
			report(i, "cluster", errors.New("no cluster, and no reason why"))
		case b.Invalid == "" && !v.hasCluster(b.Cluster):
			report(i, "cluster", fmt.Errorf("cluster %q does not exist", b.Cluster))
		}
	}
}

func checkMatch(m *Match) (field string, err error) {
	switch m.Path.Kind {
	case PathPrefix, PathExact:
		if err := checkPath(m.Path.Value); err != nil {
			return "path.value", err
		}
	case PathRegex, PathGRPC:
		if m.Path.Value == "" || len(m.Path.Value) > patternBytesMax {
			return "path.value", fmt.Errorf("a regular expression has 1 to %d bytes", patternBytesMax)
		}
	default:
		return "path.kind", fmt.Errorf("kind %q is not one of %s, %s, %s, %s", m.Path.Kind, PathPrefix, PathExact, PathRegex, PathGRPC)
	}
	if m.Path.Rank != 0 && m.Path.Kind != PathGRPC {
		return "path.rank", fmt.Errorf("only matches of kind %s have a rank", PathGRPC)
	}
	if m.Method != "" && !isToken(m.Method) {
		return "method", fmt.Errorf("method %q is not a token", m.Method)
	}
	for i := range m.Headers {
		h := &m.Headers[i]
		if err := CheckFieldName(h.Name); err != nil {
			return fmt.Sprintf("headers[%d].name", i), err
		}
		if hasUpper(h.Name) {
			return fmt.Sprintf("headers[%d].name", i), fmt.Errorf("%q is not in lower case", h.Name)
		}
	}
	for i := range m.Query {
		if m.Query[i].Name == "" {
			return fmt.Sprintf("query[%d].name", i), errors.New("name is empty")
		}
	}
	return "", nil
}

func hasUpper(s string) bool {
	for i := 0; i < len(s); i++ {
		if 'A' <= s[i] && s[i] <= 'Z' {
			return true
		}
	}
	return false
}

func (v *validator) listeners() {
	names := make(map[string]bool, len(v.config.Listeners))
	for i := range v.config.Listeners {
		l := &v.config.Listeners[i]
		if err := checkUnique(names, l.Name); err != nil {
			v.report(Error{Part: PartListener, Index: i, Path: fmt.Sprintf("listeners[%d].name", i), Err: err})
			continue
		}
		if field, err := checkListener(l); err != nil {
			v.report(Error{Part: PartListener, Index: i, Path: fmt.Sprintf("listeners[%q].%s", l.Name, field), Err: err})
		}
		v.references(i, l)
		before := v.attachedBefore(i, l)
		if v.since != nil && sameMemory(before, l.Attached) {
			continue
		}
		for j := range l.Attached {
			if j < len(before) && l.Attached[j].Equal(&before[j]) {
				continue
			}
			if field, err := v.checkAttachment(l.Protocol, &l.Attached[j]); err != nil {
				path := fmt.Sprintf("listeners[%q].attached[%d].%s", l.Name, j, field)
				v.report(Error{Part: PartAttachment, Index: i, Sub: j, Path: path, Err: err})
			}
		}
	}
	v.sockets()
}

// attachedBefore are the attachments that a listener had before, which are right with its protocol.
func (v *validator) attachedBefore(i int, l *Listener) []Attachment {
	if v.since == nil {
		return nil
	}
	list := v.since.Before.Listeners
	if i >= len(list) || list[i].Name != l.Name {
		i = slices.IndexFunc(list, func(b Listener) bool { return b.Name == l.Name })
	}
	if i < 0 || list[i].Protocol.L4() != l.Protocol.L4() {
		return nil
	}
	return list[i].Attached
}

func checkListener(l *Listener) (field string, err error) {
	if l.Address != "" {
		if _, err := netip.ParseAddr(l.Address); err != nil {
			return "address", fmt.Errorf("%q is not an IP address", l.Address)
		}
	}
	if l.Port == 0 {
		return "port", errors.New("port 0 is not between 1 and 65535")
	}
	if l.Protocol != ProtocolHTTP && l.Protocol != ProtocolHTTPS && !l.Protocol.L4() {
		return "protocol", fmt.Errorf("protocol %q is not one of %s, %s, %s, %s, %s", l.Protocol, ProtocolHTTP, ProtocolHTTPS,
			ProtocolTLS, ProtocolTCP, ProtocolUDP)
	}
	if field, err := checkL4(l); err != nil {
		return field, err
	}
	if l.Hostname != "" {
		if err := CheckHostname(l.Hostname, true); err != nil {
			return "hostname", err
		}
	}
	if l.ProxyProtocol != nil {
		if len(l.ProxyProtocol.From) == 0 {
			return "proxyProtocol.from", errors.New("no CIDR; nobody could connect")
		}
		for i, cidr := range l.ProxyProtocol.From {
			if _, err := netip.ParsePrefix(cidr); err != nil {
				return fmt.Sprintf("proxyProtocol.from[%d]", i), fmt.Errorf("%q is not a CIDR", cidr)
			}
		}
	}
	return checkTLS(l)
}

func (v *validator) checkAttachment(p Protocol, a *Attachment) (field string, err error) {
	switch {
	case p.L4() && !v.l4RouteNames[a.Route]:
		return "route", fmt.Errorf("there is no L4 route %q", a.Route)
	case !p.L4() && !v.hasRoute(a.Route):
		return "route", fmt.Errorf("route %q does not exist", a.Route)
	}
	if len(a.Hostnames) == 0 {
		return "hostnames", errors.New(`empty; use "" for any host`)
	}
	for i, name := range a.Hostnames {
		if name == "" {
			continue
		}
		if err := CheckHostname(name, true); err != nil {
			return fmt.Sprintf("hostnames[%d]", i), err
		}
	}
	return "", nil
}
