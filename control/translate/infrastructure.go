package translate

import (
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"maps"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	gatewayv1 "sigs.k8s.io/gateway-api/apis/v1"
)

// Labels of what is made for a Gateway, beside those of its spec.infrastructure (Gateway API, GEP-1762).
const (
	labelGatewayName      = gatewayv1.GatewayNameLabelKey
	labelGatewayClassName = "gateway.networking.k8s.io/gateway-class-name"
	labelManagedBy        = "app.kubernetes.io/managed-by"
	managedBy             = "rauta"
	labelController       = annotationPrefix + "controller"
)

// labelBytesMax is the longest value of a label, and the longest name of a Service.
const labelBytesMax = 63

// GatewayServiceLabels are on all Services of a controller that stand for Gateways, and on no other ones.
func GatewayServiceLabels(controller string) map[string]string {
	value := strings.ReplaceAll(controller, "/", "_") // which a label can't have
	if len(value) > labelBytesMax {
		value = shortHash(value)
	}
	return map[string]string{labelManagedBy: managedBy, labelController: value}
}

// shortHash stands for text that is too long; it is long enough that nobody finds another text with the same.
func shortHash(text string) string {
	const hashBytes = 16
	sum := sha256.Sum256([]byte(text))
	return hex.EncodeToString(sum[:hashBytes])
}

// service returns the Service that carries what spec.infrastructure asks for; false if it asks for nothing.
func (g *gateway) service(controller string) (GatewayService, bool) {
	o := g.object
	if g.refused != "" || o.Spec.Infrastructure == nil || len(o.Spec.Infrastructure.Labels)+len(o.Spec.Infrastructure.Annotations) == 0 {
		return GatewayService{}, false
	}
	s := GatewayService{Namespace: o.Namespace, Name: g.serviceName(), Gateway: o.Name, GatewayUID: o.UID,
		Labels: map[string]string{}, Annotations: map[string]string{}, Ports: g.servicePorts()}
	for k, v := range o.Spec.Infrastructure.Labels {
		s.Labels[string(k)] = string(v)
	}
	for k, v := range o.Spec.Infrastructure.Annotations {
		s.Annotations[string(k)] = string(v)
	}
	maps.Copy(s.Labels, GatewayServiceLabels(controller))
	for k, v := range map[string]string{labelGatewayName: o.Name, labelGatewayClassName: string(o.Spec.GatewayClassName)} {
		if len(v) <= labelBytesMax {
			s.Labels[k] = v
		} else {
			delete(s.Labels, k) // nobody else may set them
		}
	}
	return s, true
}

// serviceName is the name that GEP-1762 recommends, where it is one of a Service.
func (g *gateway) serviceName() string {
	name := g.object.Name + "-" + string(g.object.Spec.GatewayClassName)
	if len(name) <= labelBytesMax && !strings.Contains(name, ".") && name[0] >= 'a' {
		return name
	}
	return "gateway-" + shortHash(name)
}

// servicePorts are the ports of the listeners, each once.
func (g *gateway) servicePorts() []corev1.ServicePort {
	var out []corev1.ServicePort
	for l := range g.all() {
		if !l.valid() {
			continue
		}
		p := corev1.ServicePort{Protocol: corev1.ProtocolTCP, Port: int32(l.spec.Port)}
		if l.spec.Protocol == gatewayv1.UDPProtocolType {
			p.Protocol = corev1.ProtocolUDP
		}
		p.Name = fmt.Sprintf("%s-%d", strings.ToLower(string(p.Protocol)), p.Port)
		if !slices.Contains(out, p) {
			out = append(out, p)
		}
	}
	slices.SortFunc(out, func(a, b corev1.ServicePort) int {
		return cmp.Or(cmp.Compare(a.Protocol, b.Protocol), cmp.Compare(a.Port, b.Port))
	})
	return out
}
