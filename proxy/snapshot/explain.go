package snapshot

import (
	"fmt"
	"slices"

	"rauta.io/rauta/proxy/config"
	"rauta.io/rauta/proxy/filter"
	"rauta.io/rauta/proxy/message"
	"rauta.io/rauta/proxy/route"
)

// Explanation is what becomes of a request, and why. It marshals as JSON; Text renders it for people.
type Explanation struct {
	Port       string              `json:"port"`
	Method     string              `json:"method"`
	Host       string              `json:"host"`
	Path       string              `json:"path"`
	Listeners  []ExplainedListener `json:"listeners"`
	Candidates []Candidate         `json:"candidates,omitempty"`
	Rule       *ExplainedRule      `json:"rule,omitempty"`
	L4         *ExplainedL4        `json:"l4,omitempty"`
	Outcome    Outcome             `json:"outcome"`
}

// ExplainedListener is a listener of the port.
type ExplainedListener struct {
	Name     string `json:"name"`
	Hostname string `json:"hostname"`
	Chosen   bool   `json:"chosen"`
	Why      string `json:"why"`
}

// Candidate is one match of one rule that is attached to the chosen listener.
type Candidate struct {
	Route    string        `json:"route,omitempty"`
	Source   config.Source `json:"source,omitzero"`
	Rule     string        `json:"rule,omitempty"`
	Listener string        `json:"listener,omitempty"`
	Hostname string        `json:"hostname,omitempty"`
	Match    *config.Match `json:"match,omitempty"`
	Won      bool          `json:"won"`
	Why      string        `json:"why"`
}

// ExplainedRule is the rule that won. Values that carry credentials are redacted.
type ExplainedRule struct {
	Route  string        `json:"route"`
	Source config.Source `json:"source"`
	Rule   string        `json:"rule"`
	Index  int           `json:"index"`
	// PrefixBytes of the path are what a prefix replacement replaces.
	PrefixBytes  int             `json:"prefixBytes"`
	Filters      []config.Filter `json:"filters,omitempty"`
	Timeouts     config.Timeouts `json:"timeouts,omitzero"`
	BodyBytesMax int64           `json:"bodyBytesMax,omitempty"`
	Retry        *config.Retry   `json:"retry,omitempty"`
	// TraceSampling is a percentage, nil for the default.
	TraceSampling *float64           `json:"traceSampling,omitempty"`
	Backends      []ExplainedBackend `json:"backends,omitempty"`
}

// ExplainedBackend is one choice of the rule.
type ExplainedBackend struct {
	Cluster string `json:"cluster,omitempty"`
	Weight  uint32 `json:"weight"`
	// Percent is the share of requests.
	Percent float64         `json:"percent"`
	Filters []config.Filter `json:"filters,omitempty"`
	Invalid string          `json:"invalid,omitempty"`
	// Ready and Endpoints count the endpoints that take new requests, and all.
	Ready     int `json:"ready"`
	Endpoints int `json:"endpoints"`
	// TLS says whom the endpoints have to prove to be; empty for plain text.
	TLS string `json:"tls,omitempty"`
}

// OutcomeKind is what is done with a request.
type OutcomeKind string

// Outcomes.
const (
	// OutcomeForward: it goes to one of the back ends.
	OutcomeForward OutcomeKind = "forward"
	// OutcomeAnswer: it is answered without a back end.
	OutcomeAnswer OutcomeKind = "answer"
	// OutcomeTunnel: the connection, or the flow, is forwarded without being looked into. OutcomeRefuse: it is not.
	OutcomeTunnel OutcomeKind = "tunnel"
	OutcomeRefuse OutcomeKind = "refuse"
	// OutcomeRequests: requests are inside, about which one can ask.
	OutcomeRequests OutcomeKind = "requests"
)

// Outcome is what is done with the request once the rule's filters have run; those of back ends come on top.
type Outcome struct {
	Kind OutcomeKind `json:"kind"`
	// Status, Reason and Location are those of an answer.
	Status   int    `json:"status,omitempty"`
	Reason   string `json:"reason,omitempty"`
	Location string `json:"location,omitempty"`
	// Authority and Path are what is forwarded.
	Authority string `json:"authority,omitempty"`
	Path      string `json:"path,omitempty"`
}

// Explain runs Match and tells why. The request is not changed.
func (p *Port) Explain(host []byte, req *message.Request) Explanation {
	e := Explanation{
		Port: p.Addr.String(), Method: string(req.Bytes(req.Method)), Host: string(host), Path: string(req.Bytes(req.Path)),
	}
	chosen := p.hosts.Lookup(host)
	e.Listeners = p.explainListeners(string(host), chosen)
	rule, listener, res := p.Match(host, req)
	if listener == nil {
		e.Outcome = Outcome{Kind: OutcomeAnswer, Status: 404, Reason: "no_route"}
		return e
	}
	s := p.sites[chosen]
	for _, step := range s.table.Explain(host, req) {
		e.Candidates = append(e.Candidates, s.candidate(step))
	}
	if rule == nil {
		e.Outcome = Outcome{Kind: OutcomeAnswer, Status: 404, Reason: "no_route"}
		return e
	}
	e.Rule = rule.explain(res.Prefix)
	e.Outcome = rule.outcome(req, filter.Context{PrefixLen: res.Prefix, ListenerPort: listener.Port, Scheme: req.Scheme})
	return e
}

func (p *Port) explainListeners(host string, chosen int) []ExplainedListener {
	out := make([]ExplainedListener, 0, len(p.Listeners))
	for _, l := range p.Listeners {
		e := ExplainedListener{Name: l.Name, Hostname: l.Hostname}
		switch {
		case !route.MatchHostname(l.Hostname, host):
			e.Why = fmt.Sprintf("hostname: it is not %q", l.Hostname)
		case l.Hostname == p.sites[chosen].hostname:
			e.Chosen, e.Why = true, "its hostname is the most specific one that matches"
		default:
			e.Why = fmt.Sprintf("its hostname is less specific than %q", p.sites[chosen].hostname)
		}
		out = append(out, e)
	}
	slices.SortStableFunc(out, func(a, b ExplainedListener) int {
		switch {
		case a.Chosen == b.Chosen:
			return 0
		case a.Chosen:
			return -1
		}
		return 1
	})
	return out
}

func (s *site) candidate(step route.Step) Candidate {
	c := Candidate{Won: step.Won, Why: step.Why}
	if step.Entry.Rule < 0 { // the router's summary of what it left out
		return c
	}
	rule := s.rules[step.Entry.Rule]
	c.Route, c.Source, c.Rule, c.Listener = rule.Route, rule.Source, rule.Name, s.owners[step.Entry.Rule].Name
	c.Hostname, c.Match = step.Entry.Hostname, &step.Entry.Match
	return c
}

func (r *Rule) explain(prefix int) *ExplainedRule {
	e := &ExplainedRule{
		Route: r.Route, Source: r.Source, Rule: r.Name, Index: int(r.Index), PrefixBytes: prefix,
		Filters: config.RedactFilters(r.config.Filters), Timeouts: r.config.Timeouts, BodyBytesMax: r.BodyBytesMax,
		Retry: r.config.Retry, TraceSampling: r.config.TraceSampling,
	}
	e.Backends = explainBackends(r.Backends, r.config.Backends, r.weights)
	return e
}

func explainBackends(list []Backend, configs []config.Backend, weights uint32) (out []ExplainedBackend) {
	for i := range list {
		b := &list[i]
		x := ExplainedBackend{
			Cluster: configs[i].Cluster, Weight: b.Weight, Filters: config.RedactFilters(configs[i].Filters), Invalid: b.Invalid,
		}
		if weights > 0 {
			x.Percent = 100 * float64(b.Weight) / float64(weights)
		}
		if b.Cluster != nil {
			x.TLS = expected(b.Cluster.Config().TLS)
			set := b.Cluster.Set()
			x.Ready, x.Endpoints = set.Ready(), set.Len()
		}
		out = append(out, x)
	}
	return out
}

func (r *Rule) outcome(received *message.Request, ctx filter.Context) Outcome {
	req := *received
	req.Head = message.Head{}
	req.Copy(&received.Head)
	if a := r.Filters.Request(&req, &ctx); a != nil {
		return Outcome{Kind: OutcomeAnswer, Status: a.Status, Reason: a.Reason, Location: string(a.Location)}
	}
	if r.weights == 0 {
		return Outcome{Kind: OutcomeAnswer, Status: 500, Reason: "no_backend"}
	}
	if !forwards(r.Backends) {
		return Outcome{Kind: OutcomeAnswer, Status: 500, Reason: "invalid_backend"}
	}
	path := string(req.Bytes(req.Path))
	if req.HasQuery {
		path += "?" + string(req.Bytes(req.Query))
	}
	return Outcome{Kind: OutcomeForward, Authority: string(req.Bytes(req.Authority)), Path: path}
}

// forwards reports whether any choice with a weight can be used.
func forwards(list []Backend) bool {
	return slices.ContainsFunc(list, func(b Backend) bool { return b.Weight > 0 && b.Cluster != nil })
}
