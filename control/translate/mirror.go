package translate

import (
	"k8s.io/utils/ptr"
	gatewayv1 "sigs.k8s.io/gateway-api/apis/v1"

	"rauta.io/rauta/proxy/config"
)

// mirror compiles a RequestMirror filter. A reference that can't be used leaves nothing to be done (Gateway API): the
// requests are served without.
func (c *routeCompiler) mirror(f *gatewayv1.HTTPRequestMirrorFilter, field string) config.Filter {
	if f == nil {
		c.missing(field)
		return config.Filter{}
	}
	out := &config.Mirror{}
	switch {
	case f.Percent != nil && f.Fraction != nil:
		c.defect(field+".fraction", "keep one of them", "percent and fraction can't be used together")
	case f.Percent != nil:
		c.mirrorShare(out, *f.Percent, 100, field+".percent", "use 0 to 100")
	case f.Fraction != nil:
		c.mirrorShare(out, f.Fraction.Numerator, ptr.Deref(f.Fraction.Denominator, 100), field+".fraction",
			"use a denominator of 1 or more, and a numerator that is not larger")
	}
	b := c.backendElse(&f.BackendRef, field+".backendRef", "the requests are served without the mirror")
	if b.Invalid != "" {
		return config.Filter{}
	}
	out.Cluster = b.Cluster
	return config.Filter{Mirror: out}
}

func (c *routeCompiler) mirrorShare(m *config.Mirror, numerator, denominator int32, field, hint string) {
	if denominator < 1 || numerator < 0 || numerator > denominator {
		c.defect(field, hint, "%d of %d is not a share of the requests", numerator, denominator)
		return
	}
	m.Numerator, m.Denominator = uint32(numerator), uint32(denominator)
}
