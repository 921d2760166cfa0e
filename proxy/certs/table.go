package certs

import (
	"cmp"
	"crypto/tls"
	"slices"
	"strings"
	"time"

	"rauta.io/rauta/proxy/config"
)

// Listener is what a Table needs to know of one listener.
type Listener struct {
	// Hostname is config.Listener.Hostname: the server names that belong to the listener.
	Hostname string
	// Socket is where the listener listens, as the configuration says it: sessions are not taken up again elsewhere.
	Socket string
	TLS    *config.TLS
	// Opaque: nobody knows what is spoken inside, so that no protocol is agreed on.
	Opaque bool
}

// Table is the TLS side of one port. After SetNextProtos it never changes, and is for any goroutine.
type Table struct {
	groups []*group
	names  names // of groups, by the hostnames of listeners

	port   *tls.Config
	refuse *tls.Config
	quick  bool
}

// group is the listeners of one hostname.
type group struct {
	settings
	realms  []*Realm      // those that its hosts have
	configs []*tls.Config // by the number that names gives; nil for a name that is refused
	expired []*tls.Config // the same without OCSP staples, from the time in until on; nil where there are none
	until   []int64       // Unix seconds
	of      []*Realm      // the same way
	names   names         // of hosts
}

// settings are what a group is made from.
type settings struct {
	hostname string
	socket   string
	opaque   bool
	policy   policy
	hosts    []host

	ticketKeys []config.Secret // what those of session tickets are made from; none: crypto/tls makes them
	ownKeys    bool            // a listener has named its own
}

// host is one server name within a group; "" is every name that has no entry of its own.
type host struct {
	name         string
	certificates []*Certificate
	auth         *config.ClientAuth
}

// policy is the part of the settings that a resumed session must have been made under.
type policy struct {
	oldest, newest uint16
	suites         []uint16
}

func (p *policy) equal(q *policy) bool {
	return p.oldest == q.oldest && p.newest == q.newest && slices.Equal(p.suites, q.suites)
}

func (s *settings) equal(o *settings) bool {
	return s.hostname == o.hostname && s.socket == o.socket && s.opaque == o.opaque && s.policy.equal(&o.policy) &&
		equalKeys(s.ticketKeys, o.ticketKeys) &&
		slices.EqualFunc(s.hosts, o.hosts, func(a, b host) bool {
			return a.name == b.name && slices.Equal(a.certificates, b.certificates) && a.auth.Equal(b.auth)
		})
}

// NewTable compiles the listeners of one port. It returns prev, the port's table of the last generation or nil, if
// nothing changed. Session tickets stay valid from one table to the next as long as the listener's policy does.
//
// Listeners of one hostname, which share their routes, share certificates and policy too: the highest of their oldest
// versions counts, the newest version, the cipher suites and the ticket keys of the first that names some, and what any of
// them asks of clients; what they ask must be the same, or their clients are refused.
func NewTable(prev *Table, store *Store, listeners []Listener, nextProtos ...string) *Table {
	t := &Table{names: newNames()}
	all := merge(store, listeners)
	if prev != nil && slices.Equal(prev.port.NextProtos, nextProtos) &&
		slices.EqualFunc(prev.groups, all, func(a *group, b settings) bool { return a.settings.equal(&b) }) {
		return prev
	}
	for _, s := range all {
		g := &group{settings: s, names: newNames()}
		old := prev.group(&s)
		for i := range s.hosts {
			h := &s.hosts[i]
			r := g.realm(old, h.auth)
			g.names.add(h.name, i)
			g.of = append(g.of, r)
			g.configs = append(g.configs, g.config(h.certificates, r))
			g.staples(h.certificates)
		}
		t.names.add(s.hostname, len(t.groups))
		t.groups = append(t.groups, g)
	}
	t.quick = !slices.ContainsFunc(all, func(s settings) bool { return !s.quick() })
	// Without certificates crypto/tls ends the handshake with unrecognized_name (RFC 6066 section 3); an error from
	// GetConfigForClient would end it with internal_error.
	t.refuse = &tls.Config{MinVersion: tls.VersionTLS12, SessionTicketsDisabled: true}
	// Tickets are those of the groups. If the port had any, crypto/tls would fall back to their keys.
	t.port = &tls.Config{MinVersion: tls.VersionTLS12, SessionTicketsDisabled: true, GetConfigForClient: t.forClient}
	t.SetNextProtos(nextProtos...)
	return t
}

// merge brings the listeners together by hostname, in the order of the first of each.
func merge(store *Store, listeners []Listener) []settings {
	var out []settings
	groups := make(map[string]int, len(listeners)) // in out, by hostname
	places := map[[2]string]int{}                  // of hosts, by hostname of the group and name
	for _, l := range listeners {
		i, known := groups[l.Hostname]
		if !known {
			i = len(out)
			groups[l.Hostname] = i
			out = append(out, settings{
				hostname: l.Hostname, socket: l.Socket, opaque: l.Opaque, policy: policy{oldest: tls.VersionTLS12},
			})
		}
		s := &out[i]
		s.policy.restrict(l.TLS)
		if own := l.TLS.TicketKeys != ""; !s.ownKeys {
			s.ticketKeys, s.ownKeys = store.ticketKeys(l.TLS), own
		}
		s.add(places, "", store, l.TLS.Certificates, l.TLS.ClientAuth)
		for _, h := range l.TLS.Hosts {
			s.add(places, h.Hostname, store, h.Certificates, h.ClientAuth)
		}
	}
	for i := range out {
		for _, h := range out[i].hosts {
			slices.SortStableFunc(h.certificates, func(a, b *Certificate) int { return cmp.Compare(a.rank(), b.rank()) })
		}
	}
	return out
}

func (s *settings) add(places map[[2]string]int, name string, store *Store, certificates []string, auth *config.ClientAuth) {
	i, known := places[[2]string{s.hostname, name}]
	if !known {
		i = len(s.hosts)
		places[[2]string{s.hostname, name}] = i
		s.hosts = append(s.hosts, host{name: name})
	}
	h := &s.hosts[i]
	h.auth = stricter(h.auth, auth)
	for _, c := range certificates {
		if one := store.Lookup(c); one != nil && !slices.Contains(h.certificates, one) {
			h.certificates = append(h.certificates, one)
		}
	}
}

func (p *policy) restrict(t *config.TLS) {
	p.oldest = max(p.oldest, versionNumber(t.MinVersion))
	if p.newest == 0 {
		p.newest = versionNumber(t.MaxVersion)
	}
	if p.newest != 0 {
		p.newest = max(p.newest, p.oldest)
	}
	if p.suites == nil {
		p.suites = suiteNumbers(t.CipherSuites)
	}
}

func versionNumber(v config.TLSVersion) uint16 {
	switch v {
	case config.TLS12:
		return tls.VersionTLS12
	case config.TLS13:
		return tls.VersionTLS13
	}
	return 0
}

func suiteNumbers(list []string) []uint16 {
	var out []uint16
	for _, suite := range tls.CipherSuites() {
		if slices.Contains(list, suite.Name) {
			out = append(out, suite.ID)
		}
	}
	return out
}

// config is nil without a certificate, and where clients could not prove anything: the name is refused.
func (g *group) config(certificates []*Certificate, r *Realm) *tls.Config {
	if len(certificates) == 0 || r.closed() {
		return nil
	}
	suites := g.policy.suites
	if suites == nil {
		suites = suiteNumbers(config.CipherSuiteNames())
	}
	c := &tls.Config{
		MinVersion: g.policy.oldest, MaxVersion: g.policy.newest, CipherSuites: suites,
		WrapSession: r.tickets.EncryptTicket, UnwrapSession: r.tickets.DecryptTicket,
		// The loop sends once per turn: small first records would only add system calls.
		DynamicRecordSizingDisabled: true,
	}
	c.Certificates = choice(certificates, func(one *Certificate) tls.Certificate { return one.pair })
	r.auth.apply(c)
	return c
}

// choice is what crypto/tls takes a certificate from. Of several it asks each what is in it, at every handshake: these keep it.
func choice(certificates []*Certificate, of func(*Certificate) tls.Certificate) []tls.Certificate {
	out := make([]tls.Certificate, 0, len(certificates))
	for _, one := range certificates {
		pair := of(one)
		if len(certificates) > 1 {
			pair.Leaf = one.leafOnce()
		}
		out = append(out, pair)
	}
	return out
}

// staples adds the settings for the time after the first staple of the last host has expired: clients refuse a
// certificate with an old one.
func (g *group) staples(certificates []*Certificate) {
	until := int64(0)
	for _, one := range certificates {
		if at := one.Source.StapleUntil; at != 0 && (until == 0 || at < until) {
			until = at
		}
	}
	c := g.configs[len(g.configs)-1]
	if c == nil || until == 0 {
		g.expired, g.until = append(g.expired, nil), append(g.until, 0)
		return
	}
	c = c.Clone()
	c.Certificates = choice(certificates, func(one *Certificate) tls.Certificate { return one.bare })
	g.expired, g.until = append(g.expired, c), append(g.until, until)
}

func (t *Table) group(like *settings) *group {
	if t == nil {
		return nil
	}
	for _, g := range t.groups {
		if g.hostname == like.hostname && g.socket == like.socket {
			return g
		}
	}
	return nil
}

// Config returns the settings for servers on the port; all of its connections share them. The client's server name
// decides which listener answers: an exact hostname, else the longest wildcard, else the listener without hostname. With
// none, or without a certificate, the handshake ends with unrecognized_name: no client sees another listener's
// certificate.
func (t *Table) Config() *tls.Config { return t.port }

// Quick reports whether every handshake on the port takes well below a millisecond of CPU: signing with P-256 and Ed25519
// takes some 20 µs, with P-384, P-521 and RSA a multiple, and with client certificates it is up to the client.
func (t *Table) Quick() bool { return t.quick }

func (s *settings) quick() bool {
	for i := range s.hosts {
		for _, one := range s.hosts[i].certificates {
			if !one.quick() {
				return false
			}
		}
		if s.hosts[i].auth != nil {
			return false
		}
	}
	return true
}

// SetNextProtos sets the protocols that are offered to clients (ALPN, RFC 7301), the most wanted first. It must not be
// called once Config is in use.
func (t *Table) SetNextProtos(protocols ...string) {
	t.port.NextProtos = protocols
	for _, g := range t.groups {
		for _, c := range slices.Concat(g.configs, g.expired) {
			if c != nil && !g.opaque {
				c.NextProtos = protocols
			}
		}
	}
}

// Realm is the TLS policy under which a name is served, nil if no listener has it. sni is in lower case, "" if the client
// named none. open is false if the handshake for the name is refused. A request for a host that has a listener, but whose
// realm does not admit connections of the realm that its own was made in, is misdirected (RFC 9110 section 15.5.20).
func (t *Table) Realm(sni string) (r *Realm, open bool) {
	g, i := t.lookup(sni)
	if i == none {
		return nil, false
	}
	return g.of[i], g.configs[i] != nil
}

func (t *Table) lookup(name string) (g *group, host int) {
	i := t.names.lookup(name)
	if i == none {
		return nil, none
	}
	g = t.groups[i]
	return g, g.names.lookup(name)
}

// forClient never returns nil, which would mean the port's own settings.
func (t *Table) forClient(hello *tls.ClientHelloInfo) (*tls.Config, error) {
	if g, i := t.lookup(strings.ToLower(hello.ServerName)); i != none && g.configs[i] != nil {
		if g.expired[i] != nil && time.Now().Unix() >= g.until[i] {
			return g.expired[i], nil
		}
		return g.configs[i], nil
	}
	return t.refuse, nil
}
