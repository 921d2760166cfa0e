package translate

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/utils/ptr"
	gatewayv1 "sigs.k8s.io/gateway-api/apis/v1"

	"rauta.io/rauta/proxy/config"
)

const (
	// subjectAltNamesMax and caRefsMax are the limits of the Gateway API's schema.
	subjectAltNamesMax = 5
	caRefsMax          = 8
	// policyAncestorsMax is the limit of PolicyStatus.ancestors.
	policyAncestorsMax = 16
)

// backendPolicy is one BackendTLSPolicy.
type backendPolicy struct {
	object *gatewayv1.BackendTLSPolicy
	report reporter
	// tls is nil if the policy is not valid: what it is for is then answered 500 and never spoken to in plain text.
	tls *config.BackendTLS
	// accepted and resolved are the reasons of the conditions; empty for those that say so.
	accepted, resolved               gatewayv1.PolicyConditionReason
	acceptedMessage, resolvedMessage string
	targets                          []policyTarget
	// problems are told if the policy concerns a route of ours: others may be for another implementation.
	problems []Problem
	dangling bool // a target is not there; nobody else would tell
}

// policyTarget is a Service, or one of its ports if section is not empty.
type policyTarget struct {
	service key
	section string
	owner   *backendPolicy // whom it belongs to
}

// servicePort is a port of a Service that routes lead to.
type servicePort struct {
	service key
	name    string
}

// covers reports whether a policy for the target is about a port.
func (p *policyTarget) covers(port servicePort) bool {
	return p.service == port.service && (p.section == "" || p.section == port.name)
}

// backendPolicies reads the policies. Of several for one target the oldest has it, then the first by name (Gateway API,
// BackendTLSPolicySpec.targetRefs).
func (t *translator) backendPolicies() {
	policies := slices.Clone(t.in.backendPolicies)
	slices.SortStableFunc(policies, func(a, b *gatewayv1.BackendTLSPolicy) int { return cmp.Compare(created(a), created(b)) })
	owners := map[policyTarget]*backendPolicy{}
	for _, o := range policies {
		p := &backendPolicy{object: o}
		p.report = reporter{object: refOf(kindBackendTLSPolicy, o), out: &p.problems}
		for i := range o.Spec.TargetRefs {
			if target, ok := t.policyTarget(p, i); ok {
				place := policyTarget{service: target.service, section: target.section}
				if owners[place] == nil {
					owners[place] = p
					t.policies[target.service] = append(t.policies[target.service], p)
				}
				target.owner = owners[place]
				p.targets = append(p.targets, target)
			}
		}
		p.findConflicts()
		p.read(t)
		t.allPolicies = append(t.allPolicies, p)
	}
}

func (t *translator) policyTarget(p *backendPolicy, i int) (policyTarget, bool) {
	ref, field := p.object.Spec.TargetRefs[i], fmt.Sprintf("spec.targetRefs[%d]", i)
	if (ref.Group != "" && ref.Group != "core") || ref.Kind != kindService {
		p.report.warnf(field+".kind", "refer to a Service", "targets of kind %q in group %q are not supported; the policy has no effect on it", ref.Kind, ref.Group)
		return policyTarget{}, false
	}
	target := policyTarget{service: key{p.object.Namespace, string(ref.Name)}, section: string(ptr.Deref(ref.SectionName, ""))}
	svc := t.in.services[target.service]
	switch {
	case svc == nil:
		p.dangling = true
		p.report.warnf(field+".name", "create the Service or correct the reference", "there is no Service %s/%s", target.service.namespace, target.service.name)
	case target.section != "" && !slices.ContainsFunc(svc.Spec.Ports, func(port corev1.ServicePort) bool { return port.Name == target.section }):
		p.dangling = true
		p.report.warnf(field+".sectionName", "use the name of one of its ports", "Service %s/%s has no port of the name %q",
			target.service.namespace, target.service.name, target.section)
	}
	return target, true
}

// findConflicts: a policy that has none of its targets is not accepted.
func (p *backendPolicy) findConflicts() {
	lost := 0
	for _, target := range p.targets {
		if target.owner == p {
			continue
		}
		lost++
		message := fmt.Sprintf("the older policy %s/%s is for Service %s/%s", target.owner.object.Namespace, target.owner.object.Name,
			target.service.namespace, target.service.name)
		p.report.warnf("spec.targetRefs", "keep one of the two", "%s; this one has no effect on it", message)
		if p.acceptedMessage == "" {
			p.acceptedMessage = message
		}
	}
	if lost > 0 && lost == len(p.targets) {
		p.accepted = gatewayv1.PolicyReasonConflicted
	}
}

// refuse makes connections fail.
func (p *backendPolicy) refuse(reason gatewayv1.PolicyConditionReason, field, hint, message string) {
	p.report.errorf(field, hint, "%s; requests are answered 500", message)
	if p.accepted == "" {
		p.accepted, p.acceptedMessage = reason, field+": "+message
	}
}

// read compiles spec.validation.
func (p *backendPolicy) read(t *translator) {
	v := &p.object.Spec.Validation
	const field = "spec.validation"
	tls := &config.BackendTLS{ServerName: string(v.Hostname)}
	known := ptr.Deref(v.WellKnownCACertificates, "")
	switch {
	case known != "" && len(v.CACertificateRefs) > 0:
		p.refuse(gatewayv1.PolicyReasonInvalid, field, "remove one of the two", "both caCertificateRefs and wellKnownCACertificates are set")
	case known == gatewayv1.WellKnownCACertificatesSystem:
		tls.SystemRoots = true
	case known != "":
		p.refuse(gatewayv1.PolicyReasonInvalid, field+".wellKnownCACertificates", "use System or caCertificateRefs",
			fmt.Sprintf("%q is not a set of authorities that RAUTA knows", known))
	case len(v.CACertificateRefs) == 0:
		p.refuse(gatewayv1.PolicyReasonInvalid, field, "set caCertificateRefs, or wellKnownCACertificates to System", "no authorities are given")
	default:
		tls.CA = p.authorities(t, v.CACertificateRefs, field+".caCertificateRefs")
	}
	if problem := hostnameError(tls.ServerName, false); problem != "" {
		p.refuse(gatewayv1.PolicyReasonInvalid, field+".hostname", "write the name in the certificate of the back end",
			fmt.Sprintf("the hostname %q %s", clip(tls.ServerName), problem))
	}
	tls.SubjectAltNames = p.subjectAltNames(v.SubjectAltNames, field+".subjectAltNames")
	for _, name := range slices.Sorted(maps.Keys(p.object.Spec.Options)) {
		p.report.warnf("spec.options", "remove them", "the option %q is not known and has no effect", name)
	}
	if p.accepted == "" {
		p.tls = tls
	}
}

// authorities reads what the references lead to. Those that can't be used are left out; without any no certificate could
// be verified.
func (p *backendPolicy) authorities(t *translator, refs []gatewayv1.LocalObjectReference, field string) string {
	var bundles []string
	if len(refs) > caRefsMax {
		p.refuse(gatewayv1.PolicyReasonInvalid, field, "put them into one ConfigMap", fmt.Sprintf("there are more than %d references", caRefsMax))
		return ""
	}
	for i, ref := range refs {
		where := fmt.Sprintf("%s[%d]", field, i)
		reason, message, hint := gatewayv1.BackendTLSPolicyReasonInvalidCACertificateRef, "", authorityHint
		kind := string(ref.Kind)
		if (ref.Group != "" && ref.Group != "core") || kind != kindConfigMap && kind != kindSecret {
			reason, hint = gatewayv1.BackendTLSPolicyReasonInvalidKind, "refer to a ConfigMap"
			message = fmt.Sprintf("authorities of kind %q in group %q are not supported", ref.Kind, ref.Group)
		} else {
			k := key{p.object.Namespace, string(ref.Name)}
			bundle, err := t.authority(kind, k)
			if err == nil {
				bundles = append(bundles, bundle)
				continue
			}
			message = nameOf(kind, k) + " " + err.Error()
		}
		p.report.errorf(where, hint, "%s; the reference is left out", message)
		if p.resolved == "" {
			p.resolved, p.resolvedMessage = reason, where+": "+message
		}
	}
	if len(bundles) == 0 {
		p.refuse(gatewayv1.BackendTLSPolicyReasonNoValidCACertificate, field, authorityHint, "no reference leads to authorities that can be used")
	}
	return joinAuthorities(bundles)
}

func (p *backendPolicy) subjectAltNames(names []gatewayv1.SubjectAltName, field string) []config.SubjectAltName {
	var out []config.SubjectAltName
	if len(names) > subjectAltNamesMax {
		p.refuse(gatewayv1.PolicyReasonInvalid, field, "leave some out", fmt.Sprintf("there are more than %d names", subjectAltNamesMax))
		return nil
	}
	for i := range names {
		n, where := &names[i], fmt.Sprintf("%s[%d]", field, i)
		switch n.Type {
		case gatewayv1.HostnameSubjectAltNameType:
			if problem := hostnameError(string(n.Hostname), true); problem != "" {
				p.refuse(gatewayv1.PolicyReasonInvalid, where+".hostname", "write a name such as web.example.com",
					fmt.Sprintf("the hostname %q %s", clip(string(n.Hostname)), problem))
			}
			out = append(out, config.SubjectAltName{Hostname: string(n.Hostname)})
		case gatewayv1.URISubjectAltNameType:
			if err := config.CheckURIName(string(n.URI)); err != nil {
				p.refuse(gatewayv1.PolicyReasonInvalid, where+".uri", "write a URI such as spiffe://example.com/ns/a/sa/b",
					fmt.Sprintf("%q is not a URI with a scheme", clip(string(n.URI))))
			}
			out = append(out, config.SubjectAltName{URI: string(n.URI)})
		default:
			p.refuse(gatewayv1.PolicyReasonInvalid, where+".type", "use Hostname or URI", fmt.Sprintf("the type %q is not known", n.Type))
		}
	}
	return out
}

// policyFor returns the policy for a port, or nil: one for the port by its name comes before one for the whole Service.
func (t *translator) policyFor(port servicePort) *backendPolicy {
	var found *backendPolicy
	for _, p := range t.policies[port.service] {
		for i := range p.targets {
			target := &p.targets[i]
			if target.owner != p || !target.covers(port) {
				continue
			}
			if target.section != "" {
				return p
			}
			found = p
		}
	}
	return found
}

// policyStatuses writes the conditions for each Gateway whose routes lead to a target of a policy.
func (t *translator) policyStatuses() {
	for _, p := range t.allPolicies {
		ancestors, used := t.usersOf(p)
		if used || p.dangling {
			t.problems = append(t.problems, p.problems...)
		}
		if len(ancestors) == 0 {
			continue
		}
		slices.SortFunc(ancestors, func(a, b *gateway) int {
			return cmp.Or(strings.Compare(a.object.Namespace, b.object.Namespace), strings.Compare(a.object.Name, b.object.Name))
		})
		status := PolicyStatus{Namespace: p.object.Namespace, Name: p.object.Name}
		for _, g := range ancestors[:min(len(ancestors), policyAncestorsMax)] {
			status.Ancestors = append(status.Ancestors, p.status(g, t.opt.ControllerName))
		}
		t.statuses.BackendTLSPolicies = append(t.statuses.BackendTLSPolicies, status)
	}
	slices.SortFunc(t.statuses.BackendTLSPolicies, func(a, b PolicyStatus) int {
		return cmp.Or(strings.Compare(a.Namespace, b.Namespace), strings.Compare(a.Name, b.Name))
	})
}

// usersOf returns the Gateways whose routes lead to a target of a policy, and whether there are any of these, or Ingresses.
func (t *translator) usersOf(p *backendPolicy) (gateways []*gateway, used bool) {
	for port, users := range t.uses {
		if !slices.ContainsFunc(p.targets, func(target policyTarget) bool { return target.covers(port) }) {
			continue
		}
		used = true
		for g := range users {
			if g != nil && !slices.Contains(gateways, g) {
				gateways = append(gateways, g)
			}
		}
	}
	return gateways, used
}

// use notes that routes of a Gateway lead to ports; nil stands for Ingresses.
func (t *translator) use(g *gateway, ports []servicePort) {
	if len(t.allPolicies) == 0 {
		return // nobody asks
	}
	for _, port := range ports {
		if t.uses[port] == nil {
			t.uses[port] = map[*gateway]bool{}
		}
		t.uses[port][g] = true
	}
}

func (p *backendPolicy) status(g *gateway, controller string) gatewayv1.PolicyAncestorStatus {
	group, kind := gatewayv1.Group(gatewayv1.GroupName), gatewayv1.Kind(kindGateway)
	namespace := gatewayv1.Namespace(g.object.Namespace)
	generation := p.object.Generation
	accepted, acceptedMessage := cmp.Or(p.accepted, gatewayv1.PolicyReasonAccepted), cmp.Or(p.acceptedMessage, "the policy is in effect")
	resolved, resolvedMessage := cmp.Or(p.resolved, gatewayv1.BackendTLSPolicyReasonResolvedRefs), cmp.Or(p.resolvedMessage, "all references are resolved")
	return gatewayv1.PolicyAncestorStatus{
		AncestorRef:    gatewayv1.ParentReference{Group: &group, Kind: &kind, Namespace: &namespace, Name: gatewayv1.ObjectName(g.object.Name)},
		ControllerName: gatewayv1.GatewayController(controller),
		Conditions: conditions(
			condition(gatewayv1.PolicyConditionAccepted, p.accepted == "", accepted, generation, acceptedMessage),
			condition(gatewayv1.BackendTLSPolicyConditionResolvedRefs, p.resolved == "", resolved, generation, resolvedMessage)),
	}
}
