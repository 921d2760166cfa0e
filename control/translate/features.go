package translate

import (
	"maps"
	"slices"
	"strings"

	gatewayv1 "sigs.k8s.io/gateway-api/apis/v1"
	"sigs.k8s.io/gateway-api/pkg/features"
)

// Names that features have got in v1.7.0 of the Gateway API, after the version that this module is built with.
const (
	featureGRPCHeaders = "GRPCRouteRequestHeaderModifier"
	featurePrecedence  = "GatewayRouteHostnameIntersectionPrecedence"
	featureBackendURL  = "HTTPRouteBackendURLRewrite"
	featureRetryCodes  = "HTTPRouteRetryCodes"
)

// supportedFeatures are those of GatewayClass.status.supportedFeatures, in order of name: whatever the Gateway API knows for
// Gateways, but for what this engine lacks.
func (t *translator) supportedFeatures() []gatewayv1.SupportedFeature {
	names := features.SetsToNamesSet(features.AllFeatures).Difference(
		features.SetsToNamesSet(features.MeshCoreFeatures, features.MeshExtendedFeatures))
	names.Insert(featureGRPCHeaders, featurePrecedence, featureBackendURL, featureRetryCodes)
	var out []gatewayv1.SupportedFeature
	for _, name := range slices.Sorted(maps.Keys(names)) {
		if !t.lacks(name) {
			out = append(out, gatewayv1.SupportedFeature{Name: gatewayv1.FeatureName(name)})
		}
	}
	return out
}

// lacks reports whether the data plane can't do what a feature is about.
func (t *translator) lacks(feature features.FeatureName) bool {
	name := string(feature)
	about := func(words ...string) bool {
		return slices.ContainsFunc(words, func(word string) bool { return strings.Contains(name, word) })
	}
	return t.opt.WithoutL4 && about("TLSRoute", "TCPRoute", "UDPRoute") ||
		t.opt.WithoutTLS && about("BackendTLS", "ClientCertificate", "HTTPSListener")
}
