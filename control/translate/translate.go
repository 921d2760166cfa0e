package translate

import (
	"cmp"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"unicode"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"rauta.io/rauta/proxy/config"
)

// Translate turns objects into a configuration. It never fails: what can't be used is left out and reported.
func Translate(o *Objects, opt Options) *Result {
	if opt.Memo != nil {
		if r := opt.Memo.revise(o, opt); r != nil {
			return r
		}
	}
	t := &translator{
		opt:   opt.withDefaults(),
		asked: references{},
		ports: map[portKey]portUse{}, turns: map[string]map[portKey]bool{},
		sets: map[key]*listenerSet{},

		certificates: map[key]*certificate{},
		ticketKeySet: map[key]bool{},
		policies:     map[key][]*backendPolicy{},
		uses:         map[servicePort]map[*gateway]bool{},
	}
	t.opt.Memo.begin()
	t.in = t.index(o)
	t.routesKnown = t.opt.Memo.routes()
	t.routesKnown.begin(t.surroundings(), t.placing())
	t.routesKnown.list = t.routeObjects()
	t.endpoints = make(config.Endpoints, len(t.routesKnown.clusters))
	t.checkAnnotations()
	t.gatewayClasses()
	t.backendPolicies()
	t.listeners()
	t.routes()
	t.ingresses()
	t.gatewayStatuses()
	t.ticketKeys()
	t.policyStatuses()
	out := t.result()
	if opt.Memo != nil {
		opt.Memo.stand(t, o, out)
	}
	return out
}

// translator holds one run.
type translator struct {
	// Immutable during the run.
	opt Options
	in  index

	// Built up step by step.
	classes  map[string]bool // GatewayClasses of ours by name; false if not accepted
	gateways []*gateway
	all      []*listener // of the Gateways and their ListenerSets
	sets     map[key]*listenerSet
	ports    map[portKey]portUse
	turns    map[string]map[portKey]bool // by namespace, which ports have had their turn

	certificates map[key]*certificate // of the Secrets that were looked at
	ticketKeySet map[key]bool         // that are in config.TicketKeySets

	allPolicies []*backendPolicy
	policies    map[key][]*backendPolicy          // by Service, those that have it or a port of it
	uses        map[servicePort]map[*gateway]bool // nil stands for Ingresses

	config    config.Config
	endpoints config.Endpoints
	statuses  Statuses
	problems  []Problem
	asked     references
	// clusterProblems are those of Services and their slices, of which several routes may be the reason to look at them.
	clusterProblems []Problem
	// recording takes down what compiling a route does beside its result; nil if nobody wants to know.
	recording *compilation
	// routesKnown is what earlier runs have found out about routes; empty without a Memo.
	routesKnown *routeMemo
	annotations map[string]Annotation // see annotationTable
}

func (t *translator) result() *Result {
	t.keepUsedClusters()
	t.keepUsedCertificates()
	slices.SortFunc(t.config.Listeners, func(a, b config.Listener) int { return strings.Compare(a.Name, b.Name) })
	for i := range t.config.Listeners {
		slices.SortFunc(t.config.Listeners[i].Attached, func(a, b config.Attachment) int {
			return strings.Compare(a.Route, b.Route)
		})
	}
	slices.SortFunc(t.config.Routes, func(a, b *config.Route) int {
		return cmp.Or(cmp.Compare(a.Created, b.Created), strings.Compare(a.Name, b.Name))
	})
	slices.SortFunc(t.config.L4Routes, func(a, b config.L4Route) int {
		return cmp.Or(cmp.Compare(a.Created, b.Created), strings.Compare(a.Name, b.Name))
	})
	cfg := t.config
	return &Result{
		Config:    &cfg,
		Endpoints: t.endpoints,
		Statuses:  t.statuses,
		Problems:  sortProblems(append(t.problems, t.clusterProblems...)),

		References: t.asked.list(),
	}
}

// keepUsedClusters publishes the clusters that a route leads to. Those of routes that attach to nothing are left out.
func (t *translator) keepUsedClusters() {
	used := func(name string) {
		if c := t.routesKnown.present(name); c != nil {
			c.used = t.routesKnown.run
		}
	}
	mirrors := func(filters []config.Filter) {
		for i := range filters {
			if m := filters[i].Mirror; m != nil {
				used(m.Cluster)
			}
		}
	}
	for i := range t.config.Routes {
		for j := range t.config.Routes[i].Rules {
			rule := &t.config.Routes[i].Rules[j]
			mirrors(rule.Filters)
			for k := range rule.Backends {
				used(rule.Backends[k].Cluster)
				mirrors(rule.Backends[k].Filters)
			}
		}
	}
	for i := range t.config.L4Routes {
		for j := range t.config.L4Routes[i].Backends {
			used(t.config.L4Routes[i].Backends[j].Cluster)
		}
	}
	for _, c := range t.routesKnown.end() {
		if c.used != t.routesKnown.run {
			delete(t.endpoints, c.config.Name)
			continue
		}
		t.config.Clusters = append(t.config.Clusters, c.config)
		if c.config.TLS != nil && c.config.TLS.ClientCertificate != "" {
			namespace, secret, _ := strings.Cut(c.config.TLS.ClientCertificate, "/")
			t.certificate(key{namespace, secret}).use()
		}
	}
}

// sortProblems brings problems into the order of their objects, those of one object in the order of its fields as they
// were found, each once: a slice is read again for every port of its Service.
func sortProblems(p []Problem) []Problem {
	slices.SortStableFunc(p, func(a, b Problem) int {
		return cmp.Or(
			strings.Compare(a.Object.Kind, b.Object.Kind),
			strings.Compare(a.Object.Namespace, b.Object.Namespace),
			strings.Compare(a.Object.Name, b.Object.Name),
		)
	})
	seen := make(map[Problem]bool, len(p))
	return slices.DeleteFunc(p, func(one Problem) bool {
		again := seen[one]
		seen[one] = true
		return again
	})
}

// reporter collects the problems of one object.
type reporter struct {
	object ObjectRef
	out    *[]Problem
}

func (t *translator) reporter(kind string, o metav1.Object) reporter {
	return reporter{object: refOf(kind, o), out: &t.problems}
}

func refOf(kind string, o metav1.Object) ObjectRef {
	return ObjectRef{Kind: kind, Namespace: o.GetNamespace(), Name: o.GetName()}
}

func (r reporter) add(s Severity, field, hint, message string) {
	*r.out = append(*r.out, Problem{Severity: s, Object: r.object, Field: field, Message: visible(message), Hint: hint})
}

func (r reporter) errorf(field, hint, format string, args ...any) {
	r.add(Error, field, hint, fmt.Sprintf(format, args...))
}

func (r reporter) warnf(field, hint, format string, args ...any) {
	r.add(Warning, field, hint, fmt.Sprintf(format, args...))
}

// visible escapes what terminals and readers of logs obey and people don't see. Messages have names and values out of objects,
// which can be anything, and end in logs, Events, statuses and on terminals.
func visible(text string) string {
	hidden := func(r rune) bool { return !unicode.IsPrint(r) }
	if !strings.ContainsFunc(text, hidden) {
		return text
	}
	var b strings.Builder
	for _, r := range text {
		if hidden(r) {
			quoted := strconv.QuoteRune(r)
			b.WriteString(quoted[1 : len(quoted)-1])
		} else {
			b.WriteRune(r)
		}
	}
	return b.String()
}

// condition makes a condition without a time: the writer of the status owns the clock.
func condition[T, R ~string](kind T, ok bool, reason R, generation int64, message string) metav1.Condition {
	status := metav1.ConditionFalse
	if ok {
		status = metav1.ConditionTrue
	}
	return metav1.Condition{
		Type:               string(kind),
		Status:             status,
		Reason:             string(reason),
		ObservedGeneration: generation,
		Message:            truncate(visible(message)),
	}
}

// conditionMessageBytesMax is the limit of metav1.Condition.message; the API server refuses a longer one.
const conditionMessageBytesMax = 32768

func truncate(message string) string {
	if len(message) <= conditionMessageBytesMax {
		return message
	}
	return strings.ToValidUTF8(message[:conditionMessageBytesMax-3], "") + "..."
}
