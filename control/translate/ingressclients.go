package translate

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	networkingv1 "k8s.io/api/networking/v1"

	"rauta.io/rauta/proxy/config"
)

// ingressClients is what Ingresses ask of the clients of their hosts. A host is one in a rule; "" stands for every host.
type ingressClients struct {
	asks    map[string]ingressAsk
	ruled   map[string]bool // hosts that have rules
	refused map[ingressPart]bool
}

type ingressAsk struct {
	auth  *config.ClientAuth
	owner *networkingv1.Ingress
}

// ingressPart is the rules of an Ingress for a host.
type ingressPart struct {
	object *networkingv1.Ingress
	host   string
}

func clientsOf(t *config.TLS) *config.ClientAuth {
	if t == nil {
		return nil
	}
	return t.ClientAuth
}

// ingressClients reads the annotations, the oldest Ingress first. What an Ingress asks goes for all rules of its hosts,
// those of other Ingresses too; of two that ask for different things the younger loses its rules.
func (t *translator) ingressClients(ours []*networkingv1.Ingress) *ingressClients {
	c := &ingressClients{asks: map[string]ingressAsk{}, ruled: map[string]bool{}, refused: map[ingressPart]bool{}}
	byAge := slices.Clone(ours)
	slices.SortStableFunc(byAge, func(a, b *networkingv1.Ingress) int { return cmp.Compare(created(a), created(b)) })
	for _, o := range byAge {
		auth := t.ingressAsks(o)
		for _, host := range hostsOfRules(o) {
			c.ruled[host] = true
			switch first, asked := c.asks[host]; {
			case auth == nil:
			case !asked:
				c.asks[host] = ingressAsk{auth, o}
			case !first.auth.Equal(auth):
				c.refused[ingressPart{o, host}] = true
				t.reporter(kindIngress, o).errorf("metadata.annotations["+annotationClientCA+"]", "ask for the same in both",
					"the older Ingress %s/%s asks clients of the host %q for something else; the rules of this one for it are left out",
					first.owner.Namespace, first.owner.Name, host)
			}
		}
	}
	return c
}

// ingressAsks reads the annotations of one Ingress; nil if it asks nothing. What can't be read asks for what nobody has:
// whoever wrote it wanted to restrict something.
func (t *translator) ingressAsks(o *networkingv1.Ingress) *config.ClientAuth {
	values := o.Annotations
	_, asked := values[annotationClientCA]
	for _, name := range []string{annotationClientVerify, annotationClientDepth, annotationClientFacts} {
		if _, set := values[name]; set && !asked {
			asked = true
			t.reporter(kindIngress, o).errorf("metadata.annotations["+name+"]", "set "+annotationClientCA,
				"there are no authorities to compare the certificates of clients with; no client is let in over HTTPS")
		}
	}
	if !asked {
		return nil
	}
	closed := &config.ClientAuth{Mode: config.ClientAuthRequire}
	kind, k, err := parseAuthority(values[annotationClientCA], o.Namespace)
	if err != nil {
		return closed // checkAnnotations reports it
	}
	bundle, err := t.authority(kind, k)
	if err != nil {
		t.reporter(kindIngress, o).errorf("metadata.annotations["+annotationClientCA+"]", authorityHint,
			"%s %s; no client is let in over HTTPS", nameOf(kind, k), err)
		return closed
	}
	out := &config.ClientAuth{Mode: config.ClientAuthRequire, CA: bundle}
	var problems error
	if v, set := values[annotationClientVerify]; set {
		out.Mode, err = parseClientMode(v)
		problems = errors.Join(problems, err)
	}
	if v, set := values[annotationClientDepth]; set {
		out.DepthMax, err = parseClientDepth(v)
		problems = errors.Join(problems, err)
	}
	if v, set := values[annotationClientFacts]; set {
		out.Forward, err = parseClientFacts(v)
		problems = errors.Join(problems, err)
	}
	if problems != nil {
		return closed
	}
	return out
}

func parseClientMode(v string) (config.ClientAuthMode, error) {
	switch v {
	case "require":
		return config.ClientAuthRequire, nil
	case "optional":
		return config.ClientAuthOptional, nil
	case "unverified":
		return config.ClientAuthUnverified, nil
	}
	return "", errors.New("is not require, optional or unverified")
}

// above are the hosts that take what the rules of a host, or a name, do not: the longest wildcard first, and "" at last.
func above(host string) (out []string) {
	for rest := strings.TrimPrefix(host, "*."); rest != ""; {
		if wildcard := "*." + rest; wildcard != host && rest != host {
			out = append(out, wildcard)
		}
		_, rest, _ = strings.Cut(rest, ".")
	}
	if host != "" {
		out = append(out, "")
	}
	return out
}

// of is what clients of a name, or of the names of a wildcard, are asked for: what the most specific host with rules says.
func (c *ingressClients) of(name string) *config.ClientAuth {
	for _, host := range append([]string{name}, above(name)...) {
		if c.ruled[host] {
			return c.asks[host].auth
		}
	}
	return nil
}

// secure gives every host with rules an entry of its own, with the certificates that it had before, and tells the entries
// what to ask. A host of which something is asked, and that no section covers, is refused.
func (c *ingressClients) secure(hosts ingressHosts) {
	if len(c.asks) == 0 || len(hosts) == 0 {
		return
	}
	for _, host := range slices.Sorted(maps.Keys(c.ruled)) {
		if hosts[host] != nil {
			continue
		}
		for _, wider := range above(host) {
			if entry := hosts[wider]; entry != nil {
				hosts[host] = &ingressHost{owner: entry.owner, certificates: entry.certificates}
				break
			}
		}
		if hosts[host] == nil && c.asks[host].auth != nil {
			hosts[host] = &ingressHost{}
		}
	}
	for name, entry := range hosts {
		entry.clients = c.of(name)
	}
}

// gapCreated makes the routes of closeGaps younger than any other, so that they come last among equal matches.
const gapCreated = 1 << 52

// closeGaps keeps requests from reaching rules of hosts with client certificates on other ways: over plain HTTP they are
// redirected, and a host that asks for something else does not fall back to a less specific one.
func (t *translator) closeGaps(c *ingressClients, hosts ingressHosts, plain, secure *config.Listener) {
	everything := []config.Match{{Path: config.PathMatch{Kind: config.PathPrefix, Value: "/"}}}
	add := func(name, host string, owner *networkingv1.Ingress, f config.Filter, to ...*config.Listener) {
		r := &config.Route{
			Name: name, Source: config.Source{Kind: kindIngress, Namespace: owner.Namespace, Name: owner.Name}, Created: gapCreated,
			Rules: []config.Rule{{Name: "0", Matches: everything, Filters: []config.Filter{f}}},
		}
		t.config.Routes = append(t.config.Routes, r)
		for _, l := range to {
			l.Attached = append(l.Attached, config.Attachment{Route: name, Hostnames: []string{host}})
		}
	}
	for _, host := range slices.Sorted(maps.Keys(c.ruled)) {
		own := c.asks[host]
		if own.auth != nil {
			to := t.opt.requireHTTPS()
			add(fmt.Sprintf("ingress-clients/%s/https", host), host, own.owner,
				config.Filter{Redirect: &config.Redirect{Scheme: "https", Port: to.Port, Status: to.Status}}, plain)
		}
		for _, wider := range above(host) {
			other := c.asks[wider]
			if other.auth == nil || other.auth.Equal(own.auth) {
				continue
			}
			to := []*config.Listener{secure}
			if own.auth == nil {
				to = append(to, plain)
			}
			add(fmt.Sprintf("ingress-clients/%s/none", host), host, other.owner,
				config.Filter{Answer: &config.Answer{Status: 404, Reason: "no_route"}}, to...)
			break
		}
	}
}

// clientAnnotations are the rows of the table about client certificates.
func clientAnnotations() []Annotation {
	return []Annotation{{
		Name: annotationClientCA, Kinds: []string{kindIngress}, Type: "`configmap/NAME` or `secret/NAME`, in the namespace of the Ingress",
		Default: "clients are not asked for certificates", OnInvalid: "no client is let in over HTTPS",
		Doc: "Authorities, as PEM in `ca.crt`, whose certificates clients of the Ingress's hosts need. It goes for all rules of " +
			"a host, those of other Ingresses too. Plain HTTP is redirected to HTTPS. With Gateway API use `tls.frontend`.",
		admits:   celAuthority,
		validate: func(v string) error { _, _, err := parseAuthority(v, ""); return err },
	}, {
		Name: annotationClientDepth, Kinds: []string{kindIngress}, Type: "number from 1 to 16",
		Default: "no limit", OnInvalid: "no client is let in over HTTPS",
		Doc: "How many certificates of authorities a client's chain may have, the trusted one included. The " +
			"`auth-tls-verify-depth` of ingress-nginx does not count that one.",
		admits:   celNumber(1, config.ClientDepthLimit),
		validate: func(v string) error { _, err := parseClientDepth(v); return err },
	}, {
		Name: annotationClientFacts, Kinds: []string{kindIngress},
		Type:    "comma-separated list of `certificate`, `chain`, `pem`, `verify`, `subject`, `issuer`, `serial`, `fingerprint`",
		Default: "nothing", OnInvalid: "no client is let in over HTTPS",
		Doc:      "What back ends are told about a client's certificate; docs/configuration.md has the fields of each.",
		admits:   celFacts(),
		validate: func(v string) error { _, err := parseClientFacts(v); return err },
	}, {
		Name: annotationClientVerify, Kinds: []string{kindIngress}, Type: "`require`, `optional` or `unverified`",
		Default: "`require`", OnInvalid: "no client is let in over HTTPS",
		Doc: "Whether a client needs a valid certificate, may have none, or may have any, of which the back end is told what it " +
			"is worth: `on`, `optional` and `optional_no_ca` of ingress-nginx.",
		admits:   celOneOf("require", "optional", "unverified"),
		validate: func(v string) error { _, err := parseClientMode(v); return err },
	}}
}
