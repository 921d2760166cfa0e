package config

import (
	"crypto/sha256"
	"encoding/binary"
	"hash"
	"math"
)

// Digest is the hashes of a configuration and of its parts.
type Digest struct {
	// All is equal for equal configurations, whatever process computes it, so that nodes can be compared. Empty and
	// absent lists are equal.
	All [32]byte
	// Routes has the same for each of Config.Routes, by its index: proxy/snapshot keeps what did not change. Routes whose hash was
	// known need not be in it.
	Routes map[int][32]byte
	// L4Routes has it for each of Config.L4Routes.
	L4Routes [][32]byte
	// Others are the hashes of everything else.
	Others PartHashes
}

// PartHashes are those of everything but single routes. The zero value knows nothing.
type PartHashes struct {
	// Routes has the hash of the hashes of each groupLen routes, so that a change of one of thousands has few hashed again.
	Routes [][32]byte
	// Listeners has the hash of each of Config.Listeners.
	Listeners [][32]byte
	// Clusters is that of Config.Clusters, Secrets that of Config.Certificates, TicketKeys and TicketKeySets.
	Clusters, Secrets [32]byte
	known             bool
}

// Hash returns the hash of a configuration: NewDigest(c).All.
func Hash(c *Config) [32]byte { return NewDigest(c).All }

// NewDigest hashes a configuration.
func NewDigest(c *Config) Digest {
	return newDigestKnowing(c, func(int) ([32]byte, bool) { return [32]byte{}, false }, func(Part, int) ([32]byte, bool) { return [32]byte{}, false })
}

// groupLen is how many routes have a common hash.
const groupLen = 64

// Digest is NewDigest(s.After). route returns the hash of one of Before.Routes, and false if it is not known; others are
// Digest.Others of Before, or the zero value.
func (s *Succession) Digest(route func(int) (hash [32]byte, ok bool), others PartHashes) Digest {
	return newDigestKnowing(s.After, func(i int) ([32]byte, bool) {
		if !s.SameRoute(i) {
			return [32]byte{}, false
		}
		return route(int(s.Routes[i]))
	}, func(part Part, i int) (hash [32]byte, ok bool) {
		switch {
		case !others.known:
			return hash, false
		case part == PartRoute:
			if i >= len(others.Routes) || len(s.Before.Routes) != len(s.After.Routes) {
				return hash, false
			}
			for j := i * groupLen; j < min((i+1)*groupLen, len(s.After.Routes)); j++ {
				if int(s.Routes[j]) != j || !s.SameRoute(j) {
					return hash, false
				}
			}
			return others.Routes[i], true
		case part == PartListener:
			if ok = i < len(others.Listeners) && s.sameListener(i); ok {
				hash = others.Listeners[i]
			}
			return hash, ok
		case part == PartCluster:
			return others.Clusters, s.sameClusters()
		}
		return others.Secrets, s.SameSecrets
	})
}

// newDigestKnowing hashes a configuration; route and part return the hashes of what need not be hashed: of a group of routes, of a
// listener, of all clusters, or of all secrets, whose part is that of certificates.
func newDigestKnowing(c *Config, route func(i int) ([32]byte, bool), part func(p Part, i int) ([32]byte, bool)) Digest {
	out := Digest{
		Routes: map[int][32]byte{}, L4Routes: make([][32]byte, len(c.L4Routes)),
		Others: PartHashes{Listeners: make([][32]byte, len(c.Listeners)), known: true},
	}
	d := newDigest()
	for first := 0; first < len(c.Routes); first += groupLen {
		hash, ok := part(PartRoute, first/groupLen)
		if !ok {
			hash = d.group(c.Routes[first:min(first+groupLen, len(c.Routes))], first, route, out.Routes)
		}
		out.Others.Routes = append(out.Others.Routes, hash)
	}
	for i := range c.L4Routes {
		d.l4Route(&c.L4Routes[i])
		out.L4Routes[i] = d.sum()
	}
	for i := range c.Listeners {
		var ok bool
		if out.Others.Listeners[i], ok = part(PartListener, i); !ok {
			d.listener(&c.Listeners[i])
			out.Others.Listeners[i] = d.sum()
		}
	}
	var ok bool
	if out.Others.Clusters, ok = part(PartCluster, 0); !ok {
		d.clusters(c.Clusters)
		out.Others.Clusters = d.sum()
	}
	if out.Others.Secrets, ok = part(PartCertificate, 0); !ok {
		d.secrets(c)
		out.Others.Secrets = d.sum()
	}
	d.hashes(out.Others.Listeners)
	d.count(len(c.Routes))
	d.hashes(out.Others.Routes)
	d.hashes(out.L4Routes)
	d.hashes([][32]byte{out.Others.Clusters, out.Others.Secrets})
	out.All = d.sum()
	return out
}

// digest writes every field with its length or a fixed width in front, so that two configurations can't collide by
// moving bytes from one field to the next. TestEveryFieldChangesTheHash fails when a field is forgotten here.
type digest struct {
	h   hash.Hash
	buf []byte
}

// group returns the hash of a group of routes, the first of which has an index, and adds the hashes of those that route does not
// know.
func (d *digest) group(list []*Route, first int, route func(i int) ([32]byte, bool), into map[int][32]byte) [32]byte {
	var hashes [groupLen][32]byte
	for i, r := range list {
		var ok bool
		if hashes[i], ok = route(first + i); !ok {
			d.route(r)
			hashes[i] = d.sum()
			into[first+i] = hashes[i]
		}
	}
	d.hashes(hashes[:len(list)])
	return d.sum()
}

// digestFlush is when the buffer goes into the hash, in bytes.
const digestFlush = 4096

func newDigest() *digest { return &digest{h: sha256.New(), buf: make([]byte, 0, 2*digestFlush)} }

// sum returns the hash of what was written since the last sum.
func (d *digest) sum() (out [32]byte) {
	d.flush()
	copy(out[:], d.h.Sum(d.buf))
	d.h.Reset()
	return out
}

func (d *digest) flush() {
	d.h.Write(d.buf)
	d.buf = d.buf[:0]
}

func (d *digest) number(n int64) {
	d.buf = binary.AppendVarint(d.buf, n)
	d.flushFull()
}

func (d *digest) flushFull() {
	if len(d.buf) >= digestFlush {
		d.flush()
	}
}

func (d *digest) count(n int) { d.number(int64(n)) }

func (d *digest) text(s string) {
	d.count(len(s))
	d.buf = append(d.buf, s...)
	d.flushFull()
}

func (d *digest) flag(b bool) bool {
	n := int64(0)
	if b {
		n = 1
	}
	d.number(n)
	return b
}

func (d *digest) texts(list []string) {
	d.count(len(list))
	for _, s := range list {
		d.text(s)
	}
}

func (d *digest) listener(l *Listener) {
	d.text(l.Name)
	d.text(l.Address)
	d.number(int64(l.Port))
	d.number(int64(l.Turn))
	d.text(string(l.Protocol))
	d.text(l.Hostname)
	if d.flag(l.ProxyProtocol != nil) {
		d.texts(l.ProxyProtocol.From)
	}
	if d.flag(l.TLS != nil) {
		d.tls(l.TLS)
	}
	d.flag(l.Passthrough)
	d.count(len(l.Attached))
	for i := range l.Attached {
		d.text(l.Attached[i].Route)
		d.texts(l.Attached[i].Hostnames)
		d.flag(l.Attached[i].OneLabel)
	}
}

func (d *digest) tls(t *TLS) {
	d.texts(t.Certificates)
	d.count(len(t.Hosts))
	for i := range t.Hosts {
		d.text(t.Hosts[i].Hostname)
		d.texts(t.Hosts[i].Certificates)
		d.clientAuth(t.Hosts[i].ClientAuth)
	}
	d.text(string(t.MinVersion))
	d.text(string(t.MaxVersion))
	d.texts(t.CipherSuites)
	d.clientAuth(t.ClientAuth)
	d.text(t.TicketKeys)
}

func (d *digest) hashes(list [][32]byte) {
	d.count(len(list))
	for i := range list {
		d.buf = append(d.buf, list[i][:]...)
		d.flushFull()
	}
}

func (d *digest) clusters(list []Cluster) {
	d.count(len(list))
	for i := range list {
		d.cluster(&list[i])
	}
}

// secrets are certificates and the keys of session tickets.
func (d *digest) secrets(c *Config) {
	d.count(len(c.Certificates))
	for i := range c.Certificates {
		d.certificate(&c.Certificates[i])
	}
	d.count(len(c.TicketKeys))
	for _, key := range c.TicketKeys {
		d.text(string(key.Reveal()))
	}
	d.count(len(c.TicketKeySets))
	for i := range c.TicketKeySets {
		d.text(c.TicketKeySets[i].Name)
		d.count(len(c.TicketKeySets[i].Keys))
		for _, key := range c.TicketKeySets[i].Keys {
			d.text(string(key.Reveal()))
		}
	}
}

// certificate includes the key: a hash of 256 bits does not tell anything about it.
func (d *digest) certificate(c *Certificate) {
	d.text(c.Name)
	d.text(c.Chain)
	d.text(string(c.Key.Reveal()))
	d.text(string(c.OCSPStaple))
	d.number(c.StapleUntil)
}

func (d *digest) route(r *Route) {
	d.text(r.Name)
	d.text(r.Source.Kind)
	d.text(r.Source.Namespace)
	d.text(r.Source.Name)
	d.number(r.Created)
	d.count(len(r.Rules))
	for i := range r.Rules {
		d.rule(&r.Rules[i])
	}
}

func (d *digest) rule(r *Rule) {
	d.text(r.Name)
	d.count(len(r.Matches))
	for i := range r.Matches {
		m := &r.Matches[i]
		d.text(string(m.Path.Kind))
		d.text(m.Path.Value)
		d.number(int64(m.Path.Rank))
		d.text(m.Method)
		d.values(m.Headers)
		d.values(m.Query)
	}
	d.filters(r.Filters)
	d.backends(r.Backends)
	d.number(int64(r.Timeouts.Request))
	d.number(int64(r.Timeouts.BackendRequest))
	d.number(int64(r.Timeouts.Response))
	d.number(int64(r.Timeouts.TunnelIdle))
	d.number(r.BodyBytesMax)
	if t := r.Retry; d.flag(t != nil) {
		d.count(t.Attempts)
		d.count(len(t.Codes))
		for _, code := range t.Codes {
			d.number(int64(code))
		}
		d.number(int64(t.Backoff))
	}
	if p := r.TraceSampling; d.flag(p != nil) {
		d.number(int64(math.Float64bits(*p)))
	}
}

func (d *digest) backends(list []Backend) {
	d.count(len(list))
	for i := range list {
		b := &list[i]
		d.text(b.Cluster)
		d.number(int64(b.Weight))
		d.filters(b.Filters)
		d.text(b.Invalid)
	}
}

func (d *digest) l4Route(r *L4Route) {
	d.text(r.Name)
	d.text(r.Source.Kind)
	d.text(r.Source.Namespace)
	d.text(r.Source.Name)
	d.number(r.Created)
	d.backends(r.Backends)
	d.number(int64(r.IdleTimeout))
}

func (d *digest) values(list []ValueMatch) {
	d.count(len(list))
	for i := range list {
		d.text(list[i].Name)
		d.text(list[i].Value)
		d.flag(list[i].Regex)
	}
}

func (d *digest) filters(list []Filter) {
	d.count(len(list))
	for i := range list {
		f := &list[i]
		d.headerEdit(f.RequestHeaders)
		d.headerEdit(f.ResponseHeaders)
		if r := f.Redirect; d.flag(r != nil) {
			d.text(r.Scheme)
			d.text(r.Hostname)
			d.number(int64(r.Port))
			d.pathModifier(r.Path)
			d.number(int64(r.Status))
		}
		if r := f.Rewrite; d.flag(r != nil) {
			d.text(r.Hostname)
			d.pathModifier(r.Path)
		}
		if h := f.RequireHTTPS; d.flag(h != nil) {
			d.number(int64(h.Port))
			d.number(int64(h.Status))
		}
		if h := f.HSTS; d.flag(h != nil) {
			d.text(h.Value)
		}
		if a := f.Answer; d.flag(a != nil) {
			d.number(int64(a.Status))
			d.text(a.Reason)
		}
		d.flag(f.GRPCWeb != nil)
		if c := f.CORS; d.flag(c != nil) {
			d.texts(c.AllowOrigins)
			d.texts(c.AllowMethods)
			d.texts(c.AllowHeaders)
			d.texts(c.ExposeHeaders)
			d.flag(c.AllowCredentials)
			d.number(int64(c.MaxAge))
		}
		if m := f.Mirror; d.flag(m != nil) {
			d.text(m.Cluster)
			d.number(int64(m.Numerator))
			d.number(int64(m.Denominator))
		}
	}
}

func (d *digest) headerEdit(e *HeaderEdit) {
	if !d.flag(e != nil) {
		return
	}
	d.headers(e.Set)
	d.headers(e.Add)
	d.texts(e.Remove)
}

func (d *digest) headers(list []Header) {
	d.count(len(list))
	for i := range list {
		d.text(list[i].Name)
		d.text(list[i].Value)
	}
}

func (d *digest) pathModifier(m *PathModifier) {
	if d.flag(m != nil) {
		d.text(string(m.Kind))
		d.text(m.Value)
	}
}

func (d *digest) cluster(c *Cluster) {
	d.text(c.Name)
	d.text(string(c.Protocol))
	if d.flag(c.TLS != nil) {
		d.backendTLS(c.TLS)
	}
	d.text(string(c.Policy))
	if d.flag(c.HashOn != nil) {
		d.text(string(c.HashOn.Kind))
		d.text(c.HashOn.Name)
	}
	d.number(int64(c.ConnectTimeout))
	d.number(int64(c.ConnectionsMax))
	d.number(int64(c.PendingMax))
}

func (d *digest) backendTLS(t *BackendTLS) {
	d.text(t.CA)
	d.flag(t.SystemRoots)
	d.flag(t.Unverified)
	d.text(t.ServerName)
	d.count(len(t.SubjectAltNames))
	for _, name := range t.SubjectAltNames {
		d.text(name.Hostname)
		d.text(name.URI)
	}
	d.text(t.ClientCertificate)
}
