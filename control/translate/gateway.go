package translate

import (
	"cmp"
	"fmt"
	"math"
	"slices"
	"strings"

	gatewayv1 "sigs.k8s.io/gateway-api/apis/v1"

	"rauta.io/rauta/proxy/config"
)

// gateway is one Gateway of ours while its statuses are being worked out.
type gateway struct {
	object    *gatewayv1.Gateway
	report    reporter
	addresses []string // to bind; one empty string for the default, none while there is none to be had
	proxy     *config.ProxyProtocol
	// unplaced is why an address that the Gateway asks for, or any, is not its own.
	unplaced        gatewayv1.GatewayConditionReason
	unplacedMessage string
	// refused is why the Gateway as a whole is not accepted.
	refused       gatewayv1.GatewayConditionReason
	refusedReason string
	listeners     []*listener    // its own
	sets          []*listenerSet // with further ones, in order of precedence
	allowedSets   namespaceFilter
	client        gatewayClient
}

func (g *gateway) refuse(reason gatewayv1.GatewayConditionReason, field, hint, message string) {
	g.report.errorf(field, hint, "%s", message)
	if g.refused == "" {
		g.refused, g.refusedReason = reason, field+": "+message
	}
}

func (t *translator) gatewayClasses() {
	t.classes = map[string]bool{}
	supported := t.supportedFeatures()
	for _, c := range t.in.classes {
		if string(c.Spec.ControllerName) != t.opt.ControllerName {
			continue
		}
		ok, reason, message := true, gatewayv1.GatewayClassReasonAccepted, "RAUTA serves the Gateways of this class"
		if c.Spec.ParametersRef != nil {
			ok, reason = false, gatewayv1.GatewayClassReasonInvalidParameters
			message = "spec.parametersRef: RAUTA has no parameters for a GatewayClass"
			t.reporter("GatewayClass", c).errorf("spec.parametersRef", "remove it",
				"RAUTA has no parameters for a GatewayClass; the class is not accepted and its Gateways are not served")
		}
		t.classes[c.Name] = ok
		t.statuses.GatewayClasses = append(t.statuses.GatewayClasses, GatewayClassStatus{
			Name: c.Name,
			Status: gatewayv1.GatewayClassStatus{
				Conditions:        conditions(condition(gatewayv1.GatewayClassConditionStatusAccepted, ok, reason, c.Generation, message)),
				SupportedFeatures: supported,
			},
		})
	}
}

// listeners decides about every listener of every Gateway of ours, the oldest Gateway first because it has the first
// say about a port.
func (t *translator) listeners() {
	known := map[string]bool{}
	for _, c := range t.in.classes {
		known[c.Name] = true
	}
	for _, o := range t.in.gateways {
		accepted, ours := t.classes[string(o.Spec.GatewayClassName)]
		if !ours && !known[string(o.Spec.GatewayClassName)] {
			t.reporter("Gateway", o).warnf("spec.gatewayClassName",
				fmt.Sprintf("add a GatewayClass of this name with spec.controllerName %s", t.opt.ControllerName),
				"there is no GatewayClass %q; the Gateway is ignored", o.Spec.GatewayClassName)
		}
		if !accepted {
			continue
		}
		t.gateways = append(t.gateways, t.gateway(o))
	}
	byAge := slices.Clone(t.gateways)
	slices.SortStableFunc(byAge, func(a, b *gateway) int {
		return cmp.Compare(created(a.object), created(b.object))
	})
	t.assignAddresses(byAge)
	t.listenerSets()
	for _, g := range byAge {
		g.findOverlaps()
		t.claimPorts(g, g.listeners)
	}
	for _, g := range byAge {
		for _, s := range g.sets {
			t.claimPorts(g, s.listeners)
		}
	}
}

func (t *translator) gateway(o *gatewayv1.Gateway) *gateway {
	g := &gateway{object: o, report: t.reporter("Gateway", o)}
	g.readAddresses(&t.opt)
	g.proxy = t.proxyProtocol(g)
	g.unsupported()
	g.readAllowedListeners()
	g.readClient(t)
	g.listeners = t.listenersOf(g, kindGateway, o, o.Spec.Listeners)
	if len(o.Spec.Listeners) == 0 {
		g.refuse(gatewayv1.GatewayReasonListenersNotValid, "spec.listeners", "add one", "the Gateway has no listeners")
	}
	g.findConflicts()
	return g
}

// unsupported reports the parts of a Gateway that have no effect yet, and refuses it where that would be unsafe.
func (g *gateway) unsupported() {
	spec := &g.object.Spec
	if spec.Infrastructure != nil && spec.Infrastructure.ParametersRef != nil {
		g.refuse(gatewayv1.GatewayReasonInvalidParameters, "spec.infrastructure.parametersRef", "remove it",
			"RAUTA has no parameters for a Gateway")
	}
	if spec.DefaultScope != "" && spec.DefaultScope != gatewayv1.GatewayDefaultScopeNone {
		g.report.warnf("spec.defaultScope", "name the Gateway in the parentRefs of the routes",
			"default Gateways are not supported yet")
	}
}

// portKey is a socket, portUse who decided what it speaks.
type portKey struct {
	address string
	port    uint16
	udp     bool // which has ports of its own
}

type portUse struct {
	gateway  string
	protocol config.Protocol
	proxy    *config.ProxyProtocol
	names    map[string]*nameUse // by hostname, of a port for TLS
	turn     int                 // config.Listener.Turn: the lowest that a namespace with a listener there gives it
}

// takeTurn counts the ports of a namespace, those of the oldest Gateways first.
func (t *translator) takeTurn(namespace string, k portKey) {
	known := t.turns[namespace]
	if known == nil {
		known = map[portKey]bool{}
		t.turns[namespace] = known
	}
	use := t.ports[k]
	if turn := len(known); !known[k] {
		known[k], use.turn = true, min(use.turn, turn)
		t.ports[k] = use
	}
}

// owner is the protocol for a hostname, or of the port as a whole.
func (u portUse) owner(hostname string) config.Protocol {
	if name := u.names[hostname]; name != nil {
		return name.protocol
	}
	return u.protocol
}

// claimPorts settles what each port speaks, refusing listeners that disagree with an older Gateway.
func (t *translator) claimPorts(g *gateway, listeners []*listener) {
	name := g.object.Namespace + "/" + g.object.Name
	for _, l := range listeners {
		if !l.servable() {
			continue
		}
		for _, address := range g.addresses {
			use, taken := t.ports[l.portKey(address)]
			if taken && use.protocol.Family() != l.protocol().Family() {
				l.reject(gatewayv1.ListenerReasonPortUnavailable, "port", "use another port: one is TLS, plain HTTP or TCP",
					fmt.Sprintf("Gateway %s uses port %d with protocol %s", use.gateway, l.spec.Port, use.protocol))
				break
			}
			if taken && !sameProxyProtocol(use.proxy, g.proxy) {
				l.reject(gatewayv1.ListenerReasonPortUnavailable, "port", "give both Gateways the same "+annotationProxyProtocol,
					fmt.Sprintf("Gateway %s uses port %d with other PROXY protocol settings", use.gateway, l.spec.Port))
				break
			}
			if owner := use.names[l.hostname]; owner != nil && owner.differs(l.nameUse()) {
				l.reject(gatewayv1.ListenerReasonHostnameConflict, "hostname", "use another hostname or port",
					fmt.Sprintf("Gateway %s has the same hostname on port %d and does something else with its connections", owner.gateway, l.spec.Port))
				break
			}
		}
		if !l.servable() {
			continue
		}
		for _, address := range g.addresses {
			k := l.portKey(address)
			if _, taken := t.ports[k]; !taken {
				t.ports[k] = portUse{gateway: name, protocol: l.protocol(), proxy: g.proxy, names: map[string]*nameUse{}, turn: math.MaxInt}
			}
			t.takeTurn(l.owner.GetNamespace(), k)
			if names := t.ports[k].names; names[l.hostname] == nil {
				use := l.nameUse()
				names[l.hostname] = &use
			}
		}
	}
}

func sameProxyProtocol(a, b *config.ProxyProtocol) bool {
	return (a == nil) == (b == nil) && (a == nil || slices.Equal(a.From, b.From))
}

// gatewayStatuses comes last: a listener's status counts its routes.
func (t *translator) gatewayStatuses() {
	for _, g := range t.gateways {
		status := gatewayv1.GatewayStatus{Addresses: g.statusAddresses(t.opt.Addresses)}
		var bad []string
		valid, programmed := 0, 0
		for _, l := range g.listeners {
			status.Listeners = append(status.Listeners, l.status())
			if !l.programmed() && (!l.valid() || g.unplaced == "") {
				bad = append(bad, string(l.spec.Name))
			}
		}
		attached := int32(0)
		for _, s := range g.sets {
			if t.listenerSetStatus(s) {
				attached++
			}
		}
		if len(g.sets) > 0 || g.object.Spec.AllowedListeners != nil {
			status.AttachedListenerSets = &attached
		}
		for l := range g.all() {
			if l.valid() {
				valid++
			}
			if l.programmed() {
				programmed++
			}
			if l.servable() {
				t.publish(l)
			} else if l.shut && g.refused == "" && l.conflict == "" {
				t.publishShut(l)
			}
		}
		generation := g.object.Generation
		ok, reason, message := true, gatewayv1.GatewayReasonAccepted, "the Gateway is served"
		switch {
		case g.refused != "":
			ok, reason, message = false, g.refused, g.refusedReason
		case valid == 0:
			ok, reason, message = false, gatewayv1.GatewayReasonListenersNotValid, "no listener is valid"
		case len(bad) > 0:
			reason, message = gatewayv1.GatewayReasonListenersNotValid,
				"served without the listeners "+strings.Join(bad, ", ")
		}
		live, liveReason, liveMessage := true, gatewayv1.GatewayReasonProgrammed, "at least one listener is configured"
		switch {
		case !ok:
			live, liveReason, liveMessage = false, gatewayv1.GatewayReasonInvalid, message
		case g.unplaced != "":
			live, liveReason, liveMessage = false, g.unplaced, g.unplacedMessage
		case programmed == 0:
			live, liveReason, liveMessage = false, gatewayv1.GatewayReasonInvalid, "no listener has a certificate that can be used"
		}
		status.Conditions = conditions(
			condition(gatewayv1.GatewayConditionAccepted, ok, reason, generation, message),
			condition(gatewayv1.GatewayConditionProgrammed, live, liveReason, generation, liveMessage))
		if g.client.wanted != nil {
			status.Conditions = append(status.Conditions, condition(gatewayv1.GatewayConditionResolvedRefs,
				g.client.certificate != nil, g.client.reason, generation, g.client.message))
		}
		if g.insecureFallback() {
			status.Conditions = append(status.Conditions, condition(gatewayv1.GatewayConditionInsecureFrontendValidationMode, true,
				gatewayv1.GatewayReasonConfigurationChanged, generation, "clients get in with any certificate and with none"))
		}
		if service, ok := g.service(t.opt.ControllerName); ok {
			t.statuses.GatewayServices = append(t.statuses.GatewayServices, service)
		}
		t.statuses.Gateways = append(t.statuses.Gateways, GatewayStatus{
			Namespace: g.object.Namespace, Name: g.object.Name, Status: status})
	}
	slices.SortFunc(t.statuses.ListenerSets, func(a, b ListenerSetStatus) int {
		return cmp.Or(strings.Compare(a.Namespace, b.Namespace), strings.Compare(a.Name, b.Name))
	})
}
