package server

import (
	"encoding/hex"
	"fmt"
	"sort"
	"sync/atomic"

	"rauta.io/rauta/proxy/config"
	"rauta.io/rauta/proxy/loop"
	"rauta.io/rauta/proxy/observe"
)

// ConfigStatus is what /config shows.
type ConfigStatus struct {
	Generation uint64 `json:"generation"`
	Hash       string `json:"hash"`
	// LastError is what the last publication left out, or why the last configuration could not be read.
	LastError string `json:"lastError,omitempty"`
	Config    any    `json:"config"`
}

// Config returns the current configuration.
func (s *Server) Config() ConfigStatus {
	c := s.live.Current()
	return ConfigStatus{
		Generation: c.Generation, Hash: hex.EncodeToString(c.Hash[:]), LastError: s.lastErrorText(),
		Config: config.Redact(c.Config),
	}
}

func (s *Server) lastErrorText() string {
	if p := s.lastError.Load(); p != nil {
		return *p
	}
	return ""
}

// ListenerStatus is what /listeners shows of one socket.
type ListenerStatus struct {
	Address string `json:"address"`
	// Network is "udp" for datagrams, else empty.
	Network   string   `json:"network,omitempty"`
	Open      bool     `json:"open"`
	Listeners []string `json:"listeners"`
}

// Listeners returns the sockets of the current configuration.
func (s *Server) Listeners() []ListenerStatus {
	s.mu.Lock()
	defer s.mu.Unlock()
	out := []ListenerStatus{}
	for _, p := range s.live.Current().Ports {
		st := ListenerStatus{Address: p.Addr.String(), Open: s.open[p.Addr]}
		for _, l := range p.Listeners {
			st.Listeners = append(st.Listeners, l.Name)
		}
		out = append(out, st)
	}
	for _, p := range s.live.Current().UDPPorts {
		out = append(out, ListenerStatus{Address: p.Addr.String(), Network: "udp", Open: s.openUDP[p.Addr], Listeners: p.Listeners})
	}
	return out
}

// ClusterStatus is what /clusters shows of one cluster.
type ClusterStatus struct {
	Name   string `json:"name"`
	Policy string `json:"policy"`
	// Protocol is what is spoken, "ALPN" where the handshake decides.
	Protocol string `json:"protocol"`
	// TLS is absent for plain text.
	TLS       *ClusterTLS      `json:"tls,omitempty"`
	Endpoints []EndpointStatus `json:"endpoints"`
}

// ClusterTLS is how the endpoints of a cluster are verified.
type ClusterTLS struct {
	ServerName        string                  `json:"serverName,omitempty"`
	SubjectAltNames   []config.SubjectAltName `json:"subjectAltNames,omitempty"`
	Trusted           string                  `json:"trusted"` // ca, system or everybody
	ClientCertificate string                  `json:"clientCertificate,omitempty"`
}

func clusterTLS(t *config.BackendTLS) *ClusterTLS {
	if t == nil {
		return nil
	}
	out := &ClusterTLS{ServerName: t.ServerName, SubjectAltNames: t.SubjectAltNames, Trusted: "ca", ClientCertificate: t.ClientCertificate}
	switch {
	case t.SystemRoots:
		out.Trusted = "system"
	case t.Unverified:
		out.Trusted = "everybody"
	}
	return out
}

func clusterProtocol(c config.Cluster) string {
	switch {
	case c.Protocol != "":
		return string(c.Protocol)
	case c.TLS != nil:
		return "ALPN"
	}
	return string(config.BackendHTTP1)
}

// Served returns the current configuration and the endpoints of its clusters. The caller must not change either.
func (s *Server) Served() (*config.Config, config.Endpoints) {
	current := s.live.Current()
	endpoints := make(config.Endpoints, len(current.Clusters))
	for name, c := range current.Clusters {
		if infos := c.Set().Infos(); len(infos) > 0 {
			endpoints[name] = infos
		}
	}
	return current.Config, endpoints
}

// EndpointStatus is one endpoint of a ClusterStatus.
type EndpointStatus struct {
	Address     string `json:"address"`
	Pod         string `json:"pod,omitempty"`
	Node        string `json:"node,omitempty"`
	Zone        string `json:"zone,omitempty"`
	Terminating bool   `json:"terminating,omitempty"`
	Distant     bool   `json:"distant,omitempty"`
	Connections int64  `json:"connections"`
}

// Clusters returns the clusters of the current configuration in order of name.
func (s *Server) Clusters() []ClusterStatus {
	out := []ClusterStatus{}
	for _, c := range s.live.Current().Clusters {
		policy := string(c.Config().Policy)
		if policy == "" {
			policy = "p2c"
		}
		st := ClusterStatus{
			Name: c.Name(), Policy: policy, Protocol: clusterProtocol(c.Config()), TLS: clusterTLS(c.Config().TLS), Endpoints: []EndpointStatus{},
		}
		set := c.Set()
		for i, e := range set.Endpoints() {
			info := &set.Infos()[i]
			st.Endpoints = append(st.Endpoints, EndpointStatus{
				Address: e.Name, Pod: info.Pod, Node: info.Node, Zone: info.Zone, Terminating: info.Terminating,
				Distant: info.Distant, Connections: e.Connections(),
			})
		}
		out = append(out, st)
	}
	sort.Slice(out, func(i, j int) bool { return out[i].Name < out[j].Name })
	return out
}

// reloads counts the configurations that were read. Atomic.
type reloads struct {
	applied, unchanged, failed atomic.Uint64
	errorTime                  atomic.Int64 // Unix nanoseconds of the last error; 0 for never
}

func (r *reloads) count(changed bool) {
	if changed {
		r.applied.Add(1)
	} else {
		r.unchanged.Add(1)
	}
}

func (r *reloads) registerMetrics(reg *observe.Registry) {
	for result, n := range map[string]*atomic.Uint64{"applied": &r.applied, "unchanged": &r.unchanged, "failed": &r.failed} {
		reg.Counter(fmt.Sprintf("rauta_config_reloads_total{result=%q}", result), func() float64 { return float64(n.Load()) })
	}
	reg.Gauge("rauta_config_last_error_timestamp_seconds", func() float64 { return float64(r.errorTime.Load()) / 1e9 })
}

// registerMetrics tells the registry about what only the server knows.
func (s *Server) registerMetrics() {
	r := s.opt.Registry
	r.Gauge("rauta_config_generation", func() float64 { return float64(s.live.Current().Generation) })
	r.Gauge("rauta_config_last_error", func() float64 {
		if s.lastErrorText() != "" {
			return 1
		}
		return 0
	})
	r.Info("rauta_config_info", func() []observe.Label {
		c := s.live.Current()
		return []observe.Label{{Name: "hash", Value: hex.EncodeToString(c.Hash[:8])}}
	})
	s.reloads.registerMetrics(r)
	s.registerCertificateMetrics()
	if p, ok := s.plane.(*loopPlane); ok {
		p.registerMetrics(r)
	}
}

// registerMetrics exports what the loops count about themselves.
func (p *loopPlane) registerMetrics(r *observe.Registry) {
	r.Gauge("rauta_connections_max", func() float64 { return float64(p.group.ConnectionsMax()) })
	for id := range p.deps.Workers {
		stats := func(f func(*loop.WorkerStats) float64) func() float64 {
			return func() float64 {
				if id >= len(p.workers) {
					return 0
				}
				return f(p.workers[id].loop.Stats())
			}
		}
		worker := func(name string) string { return fmt.Sprintf(`%s{worker="%d"}`, name, id) }
		r.Counter(worker("rauta_loop_turns_total"), stats(func(s *loop.WorkerStats) float64 { return float64(s.Turns.Load()) }))
		r.Counter(worker("rauta_loop_events_total"), stats(func(s *loop.WorkerStats) float64 { return float64(s.Events.Load()) }))
		r.Counter(worker("rauta_loop_transfers_total"), stats(func(s *loop.WorkerStats) float64 { return float64(s.Transfers.Load()) }))
		r.Counter(worker("rauta_loop_waits_total"), stats(func(s *loop.WorkerStats) float64 { return float64(s.Waits.Load()) }))
		r.Counter(worker("rauta_loop_spaced_total"), stats(func(s *loop.WorkerStats) float64 { return float64(s.Spaced.Load()) }))
		r.Counter(worker("rauta_loop_accepts_total"), stats(func(s *loop.WorkerStats) float64 { return float64(s.Accepts.Load()) }))
		r.Counter(worker("rauta_loop_handed_over_total"), stats(func(s *loop.WorkerStats) float64 { return float64(s.HandedOver.Load()) }))
		r.Counter(worker("rauta_loop_panics_total"), stats(func(s *loop.WorkerStats) float64 { return float64(s.Panics.Load()) }))
		for name, of := range map[string]func(*loop.WorkerStats) *loop.HandshakeStats{
			"rauta_tls_handshakes":         func(s *loop.WorkerStats) *loop.HandshakeStats { return &s.Handshakes },
			"rauta_backend_tls_handshakes": func(s *loop.WorkerStats) *loop.HandshakeStats { return &s.Dialled },
		} {
			total := func(result string) string { return fmt.Sprintf(`%s_total{worker="%d",result=%q}`, name, id, result) }
			r.Counter(total("ok"), stats(func(s *loop.WorkerStats) float64 { return float64(of(s).Succeeded.Load()) }))
			r.Counter(total("failed"), stats(func(s *loop.WorkerStats) float64 { return float64(of(s).Failed.Load()) }))
			r.Gauge(worker(name), stats(func(s *loop.WorkerStats) float64 { return float64(of(s).Open.Load()) }))
		}
		r.Gauge(worker("rauta_loop_sockets"), stats(func(s *loop.WorkerStats) float64 { return float64(s.RegisteredSockets.Load()) }))
	}
}
