package translate

import (
	"slices"
	"strconv"

	networkingv1 "k8s.io/api/networking/v1"

	"rauta.io/rauta/proxy/config"
)

// ingressClaim is what a rule of an Ingress takes. Of two rules that take the same, one gets all requests.
type ingressClaim struct {
	host string
	path config.PathMatch
}

// ingressOf is an Ingress with the routes that it has become.
type ingressOf struct {
	object *networkingv1.Ingress
	routes []*hostRoute
}

// reportSame tells younger Ingresses of rules that take what a rule of an older one takes, and get no requests therefore.
func (t *translator) reportSame(all []ingressOf, clients *ingressClients) {
	if len(all) < 2 {
		return
	}
	// In the order in which the data plane prefers routes.
	slices.SortFunc(all, func(a, b ingressOf) int { return orderOf(a.object).compare(orderOf(b.object)) })
	first := map[ingressClaim]*networkingv1.Ingress{}
	for _, one := range all {
		for _, r := range one.routes {
			if clients.refused[ingressPart{one.object, r.host}] {
				continue // it has been told, and is not served
			}
			for i := range r.config.Rules {
				claim := ingressClaim{r.host, r.config.Rules[i].Matches[0].Path}
				if owner := first[claim]; owner == nil {
					first[claim] = one.object
				} else if owner != one.object {
					t.reportClaimed(one.object, claim, owner, r.fields[i])
				}
			}
		}
	}
}

func (t *translator) reportClaimed(o *networkingv1.Ingress, claim ingressClaim, owner *networkingv1.Ingress, field string) {
	age := "older"
	if created(o) == created(owner) {
		age = "as old, and first by name"
	}
	report := t.reporter(kindIngress, o)
	if field == defaultBackendField {
		report.errorf(field, "keep a default back end in one Ingress, or give rules for all hosts to one",
			"Ingress %s/%s takes all requests that no other rule takes, and is %s; the default back end gets no requests",
			owner.Namespace, owner.Name, age)
		return
	}
	host := "every host"
	if claim.host != "" {
		host = "the host " + strconv.Quote(claim.host)
	}
	report.errorf(field, "write the path in one Ingress only", "Ingress %s/%s has the path %q for %s, and is %s; the path gets no requests",
		owner.Namespace, owner.Name, claim.path.Value, host, age)
}
