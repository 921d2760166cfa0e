package snapshot

import (
	"fmt"
	"strings"
	"time"

	"rauta.io/rauta/proxy/config"
)

// ExplainedL4 is the route that takes a connection or the datagrams of a client.
type ExplainedL4 struct {
	Route  string        `json:"route"`
	Source config.Source `json:"source"`
	// Decrypts: TLS ends here, and what is inside is forwarded.
	Decrypts    bool               `json:"decrypts,omitempty"`
	IdleTimeout config.Duration    `json:"idleTimeout,omitempty"`
	Backends    []ExplainedBackend `json:"backends,omitempty"`
}

// whyAlone is why a listener is chosen on a port that is not shared with other protocols.
const whyAlone = "the whole port belongs to it"

// ExplainConnection says what becomes of a connection to a port that belongs to one route, or on which the server name
// decides; serverName is in lower case.
func (p *Port) ExplainConnection(serverName string) Explanation {
	e := Explanation{Port: p.Addr.String(), Host: serverName}
	if p.TCP {
		for _, l := range p.Listeners {
			e.Listeners = append(e.Listeners, ExplainedListener{Name: l.Name, Chosen: true, Why: whyAlone})
		}
		return e.take(p.L4, false)
	}
	e.Listeners = p.explainListeners(serverName, p.hosts.Lookup([]byte(serverName)))
	handling, route := p.Hello([]byte(serverName))
	if handling == Terminate && route == nil {
		e.Outcome = Outcome{Kind: OutcomeRequests}
		return e
	}
	return e.take(route, handling == Terminate)
}

// Explain says what becomes of datagrams.
func (p *UDPPort) Explain() Explanation {
	e := Explanation{Port: p.Addr.String()}
	for _, name := range p.Listeners {
		e.Listeners = append(e.Listeners, ExplainedListener{Name: name, Chosen: true, Why: whyAlone})
	}
	return e.take(p.Route, false)
}

// take fills in the route.
func (e Explanation) take(r *L4Route, decrypts bool) Explanation {
	if r == nil {
		e.Outcome = Outcome{Kind: OutcomeRefuse, Reason: "no_route"}
		return e
	}
	e.L4 = &ExplainedL4{
		Route: r.Name, Source: r.Source, Decrypts: decrypts, IdleTimeout: r.config.IdleTimeout,
		Backends: explainBackends(r.Backends, r.config.Backends, r.weights),
	}
	for i := range e.L4.Backends {
		if !decrypts {
			e.L4.Backends[i].TLS = "" // what goes there is as the client sent it
		}
	}
	switch {
	case r.weights == 0:
		e.Outcome = Outcome{Kind: OutcomeRefuse, Reason: "no_backend"}
	case !forwards(r.Backends):
		e.Outcome = Outcome{Kind: OutcomeRefuse, Reason: "invalid_backend"}
	default:
		e.Outcome = Outcome{Kind: OutcomeTunnel}
	}
	return e
}

func (o *Outcome) l4Text() string {
	switch o.Kind {
	case OutcomeTunnel:
		return "forward without looking into it"
	case OutcomeRefuse:
		return "refuse, " + o.Reason
	case OutcomeRequests:
		return "requests are inside: ask about https://"
	}
	return ""
}

func (x *ExplainedL4) text(b *strings.Builder) {
	fmt.Fprintf(b, "\nroute %s\n    from: %s %s/%s\n", x.Route, x.Source.Kind, x.Source.Namespace, x.Source.Name)
	if x.Decrypts {
		b.WriteString("    TLS ends here, and what is inside is forwarded\n")
	}
	switch {
	case x.IdleTimeout > 0:
		fmt.Fprintf(b, "    idle timeout: %s\n", time.Duration(x.IdleTimeout))
	case x.IdleTimeout < 0:
		b.WriteString("    idle timeout: none\n")
	}
	for i := range x.Backends {
		x.Backends[i].text(b, "refuses")
	}
}
