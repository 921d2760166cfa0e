package translate

import (
	"fmt"

	gatewayv1 "sigs.k8s.io/gateway-api/apis/v1"

	"rauta.io/rauta/proxy/config"
)

// checkL4 checks a listener whose connections or datagrams are forwarded without being looked into.
func (l *listener) checkL4(t *translator) {
	if t.opt.WithoutL4 || t.opt.WithoutTLS && l.spec.Protocol == gatewayv1.TLSProtocolType {
		l.notHere("run RAUTA with the loop engine, or use an HTTP listener")
		return
	}
	if l.spec.Protocol == gatewayv1.TLSProtocolType {
		l.readTLS(t)
		return
	}
	if l.spec.TLS != nil {
		l.reject(gatewayv1.ListenerReasonUnsupportedValue, "tls", "remove it or use protocol TLS",
			fmt.Sprintf("a listener with protocol %s can't have tls", l.spec.Protocol))
	}
	if l.hostname != "" {
		l.reject(gatewayv1.ListenerReasonUnsupportedValue, "hostname", "remove it or use protocol TLS",
			fmt.Sprintf("clients of protocol %s name no host", l.spec.Protocol))
	}
	if l.spec.Protocol == gatewayv1.UDPProtocolType && l.gateway.proxy != nil {
		l.reject(gatewayv1.ListenerReasonUnsupportedValue, "protocol", "move the listener to a Gateway without "+annotationProxyProtocol,
			"datagrams carry no PROXY header, so that the listener would be open to everybody")
	}
}

// nameUse is who decided what becomes of the TLS connections for one hostname of a port.
type nameUse struct {
	gateway     string
	protocol    config.Protocol
	passthrough bool
	clients     *config.ClientAuth
}

func (l *listener) nameUse() nameUse {
	use := nameUse{gateway: l.gateway.object.Namespace + "/" + l.gateway.object.Name, protocol: l.protocol(), passthrough: l.passthrough}
	if l.tls != nil {
		use.clients = l.tls.ClientAuth
	}
	return use
}

// differs reports whether two listeners do something different with the same connections.
func (u nameUse) differs(o nameUse) bool {
	return u.protocol != o.protocol || u.passthrough != o.passthrough || !u.clients.Equal(o.clients)
}

func (l *listener) portKey(address string) portKey {
	return portKey{address: address, port: l.port(), udp: l.spec.Protocol == gatewayv1.UDPProtocolType}
}
