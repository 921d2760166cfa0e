package translate

import (
	"fmt"
	"slices"
	"strings"

	"k8s.io/utils/ptr"
	gatewayv1 "sigs.k8s.io/gateway-api/apis/v1"

	"rauta.io/rauta/proxy/config"
)

// cors compiles a CORS filter.
func (c *routeCompiler) cors(f *gatewayv1.HTTPCORSFilter, field string) config.Filter {
	if f == nil {
		c.missing(field)
		return config.Filter{}
	}
	out := &config.CORS{AllowCredentials: ptr.Deref(f.AllowCredentials, false), MaxAge: int(f.MaxAge)}
	for _, origin := range f.AllowOrigins {
		out.AllowOrigins = append(out.AllowOrigins, strings.ToLower(string(origin)))
	}
	out.AllowMethods = asStrings(f.AllowMethods)
	out.AllowHeaders = asStrings(f.AllowHeaders)
	out.ExposeHeaders = asStrings(f.ExposeHeaders)
	if len(out.AllowOrigins) == 0 {
		c.report.warnf(field+".allowOrigins", `name origins, or "*" for all`, "pages of no other origin may read the responses")
	}
	if out.AllowCredentials && slices.Contains(out.ExposeHeaders, "*") {
		c.report.warnf(field+".exposeHeaders", "name the fields", `"*" has no meaning to browsers with allowCredentials; it is left out`)
		out.ExposeHeaders = slices.DeleteFunc(out.ExposeHeaders, func(name string) bool { return name == "*" })
	}
	if out.AllowCredentials && slices.Contains(out.AllowOrigins, "*") {
		c.report.warnf(field+".allowOrigins", "name the origins that are trusted",
			"pages of any origin may act with the cookies of the user, because of allowCredentials")
	}
	// Each value is checked by itself, so that the problem names its field.
	for _, list := range []struct {
		name   string
		values []string
		wrap   func([]string) config.CORS
		hint   string
	}{
		{"allowOrigins", out.AllowOrigins, func(v []string) config.CORS { return config.CORS{AllowOrigins: v} },
			"write an origin such as https://www.example.com or https://*.example.com"},
		{"allowMethods", out.AllowMethods, func(v []string) config.CORS { return config.CORS{AllowMethods: v} }, "write a method such as GET"},
		{"allowHeaders", out.AllowHeaders, func(v []string) config.CORS { return config.CORS{AllowHeaders: v} }, "write the name of a header"},
		{"exposeHeaders", out.ExposeHeaders, func(v []string) config.CORS { return config.CORS{ExposeHeaders: v} }, "write the name of a header"},
	} {
		for i := range list.values {
			one := list.wrap(list.values[i : i+1])
			if err := config.CheckFilter(&config.Filter{CORS: &one}); err != nil {
				c.defect(fmt.Sprintf("%s.%s[%d]", field, list.name, i), list.hint, "%s", innermost(err))
			}
		}
	}
	return config.Filter{CORS: out}
}

func asStrings[T ~string](list []T) []string {
	var out []string
	for _, s := range list {
		out = append(out, string(s))
	}
	return out
}

// withPreflights lets the preflights of a rule with CORS meet the matches that ask for a method or for header fields: a
// preflight is an OPTIONS request that names the method in a field, and has none of the other fields yet.
func withPreflights(rule *config.Rule) []config.Match {
	if !slices.ContainsFunc(rule.Filters, func(f config.Filter) bool { return f.CORS != nil }) {
		return rule.Matches
	}
	out := rule.Matches
	for _, m := range rule.Matches {
		asked := config.ValueMatch{Name: "access-control-request-method", Value: m.Method}
		switch {
		case m.Method == string(gatewayv1.HTTPMethodOptions), m.Method == "" && len(m.Headers) == 0:
			continue
		case m.Method == "":
			asked.Value, asked.Regex = ".+", true
		}
		m.Method = string(gatewayv1.HTTPMethodOptions)
		m.Headers = slices.DeleteFunc(slices.Clone(m.Headers), func(h config.ValueMatch) bool { return h.Name != "origin" && h.Name != "host" })
		m.Headers = append(m.Headers, asked)
		out = append(out, m)
	}
	return out
}
