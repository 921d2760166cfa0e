package translate

import (
	"slices"
	"strings"
	"testing"
)

// featuresMax is the limit of GatewayClass.status.supportedFeatures.
const featuresMax = 64

func TestAClassSaysWhichFeaturesAreSupported(t *testing.T) {
	names := func(change func(*Options)) []string {
		objects, opt := loadCase(t, "testdata/gateway/http-listener")
		change(&opt)
		var out []string
		for _, f := range Translate(objects, opt).Statuses.GatewayClasses[0].Status.SupportedFeatures {
			out = append(out, string(f.Name))
		}
		return out
	}
	all := names(func(*Options) {})
	if !slices.IsSorted(all) || len(all) > featuresMax {
		t.Errorf("%d features, which must be sorted: %v", len(all), all)
	}
	for _, one := range []string{"Gateway", "HTTPRoute", "GRPCRoute", "TLSRoute", "TCPRoute", "UDPRoute", "ListenerSet", "ReferenceGrant",
		"BackendTLSPolicy", "GatewayStaticAddresses", "HTTPRouteCORS", "HTTPRouteRequestPercentageMirror", "GatewayInfrastructure", "TLSRouteModeMixed", "HTTPRouteRetryCodes"} {
		if !slices.Contains(all, one) {
			t.Errorf("%s is missing in %v", one, all)
		}
	}
	contains := func(list []string, word string) bool {
		return slices.ContainsFunc(list, func(name string) bool { return strings.Contains(name, word) })
	}
	if contains(all, "Mesh") {
		t.Errorf("RAUTA is no mesh: %v", all)
	}
	if less := names(func(o *Options) { o.WithoutL4, o.WithoutTLS = true, true }); contains(less, "TCP") || contains(less, "TLS") || !contains(less, "HTTPRoute") {
		t.Errorf("an engine without TLS and without forwarded connections has the features %v", less)
	}
}
