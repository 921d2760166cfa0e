package translate

import (
	"errors"
	"fmt"
	"slices"

	"k8s.io/utils/ptr"
	gatewayv1 "sigs.k8s.io/gateway-api/apis/v1"

	"rauta.io/rauta/proxy/config"
)

// defaultRedirectStatus is that of the Gateway API.
const defaultRedirectStatus = 302

// filters compiles the filters of a rule. The second result is the reason to answer 500 instead, or "".
func (c *routeCompiler) filters(r *gatewayv1.HTTPRouteRule, field string) ([]config.Filter, string) {
	out, failed := c.filterList(r.Filters, field, r)
	if len(r.BackendRefs) > 0 && hasFilter(r.Filters, gatewayv1.HTTPRouteFilterRequestRedirect) {
		c.defect(field+".backendRefs", "remove them or the filter", "a rule with RequestRedirect can't have back ends")
		failed = reasonInvalidFilter
	}
	return out, failed
}

// filterList compiles the filters of a rule or of one of its backendRefs. The second result is the reason to answer 500
// instead, or "".
func (c *routeCompiler) filterList(list []gatewayv1.HTTPRouteFilter, field string, r *gatewayv1.HTTPRouteRule) ([]config.Filter, string) {
	var out []config.Filter
	failed := ""
	seen := map[gatewayv1.HTTPRouteFilterType]bool{}
	for i := range list {
		f := &list[i]
		where := fmt.Sprintf("%s.filters[%d]", field, i)
		compiled, reason := c.filter(f, where, r)
		if reason == "" && seen[f.Type] && f.Type != gatewayv1.HTTPRouteFilterRequestMirror {
			c.defect(where, "merge the two", "the filter %s is there twice", f.Type)
			reason = reasonInvalidFilter
		}
		seen[f.Type] = true
		if reason != "" {
			failed = reason
			continue
		}
		if compiled != (config.Filter{}) {
			out = append(out, compiled)
		}
	}
	if hasFilter(list, gatewayv1.HTTPRouteFilterRequestRedirect) && hasFilter(list, gatewayv1.HTTPRouteFilterURLRewrite) {
		c.defect(field+".filters", "keep one of them", "RequestRedirect and URLRewrite can't be used together")
		failed = reasonInvalidFilter
	}
	return out, failed
}

func hasFilter(list []gatewayv1.HTTPRouteFilter, t gatewayv1.HTTPRouteFilterType) bool {
	return slices.ContainsFunc(list, func(f gatewayv1.HTTPRouteFilter) bool { return f.Type == t })
}

// filter compiles one filter, to nothing where there is nothing to be done. The second result is as of filterList.
func (c *routeCompiler) filter(f *gatewayv1.HTTPRouteFilter, field string, r *gatewayv1.HTTPRouteRule) (config.Filter, string) {
	before := len(c.defects)
	var out config.Filter
	if c.object.foreignFilter(f.Type) {
		c.defect(field+".type", "remove the filter", "%q is not a filter of a %s; the requests are answered 500", f.Type, c.object.kind)
		return out, reasonUnsupportedFilter
	}
	switch f.Type {
	case gatewayv1.HTTPRouteFilterRequestHeaderModifier:
		out = c.headerEdit(f.RequestHeaderModifier, field+".requestHeaderModifier", requestEdit)
	case gatewayv1.HTTPRouteFilterResponseHeaderModifier:
		out = c.headerEdit(f.ResponseHeaderModifier, field+".responseHeaderModifier", responseEdit)
	case gatewayv1.HTTPRouteFilterRequestRedirect:
		out.Redirect = c.redirect(f.RequestRedirect, field+".requestRedirect", r)
	case gatewayv1.HTTPRouteFilterURLRewrite:
		out.Rewrite = c.rewrite(f.URLRewrite, field+".urlRewrite", r)
	case gatewayv1.HTTPRouteFilterRequestMirror:
		out = c.mirror(f.RequestMirror, field+".requestMirror")
	case gatewayv1.HTTPRouteFilterCORS:
		out = c.cors(f.CORS, field+".cors")
	default:
		c.defect(field+".type", "remove the filter", "the filter %q is not supported yet; the requests are answered 500", f.Type)
		return out, reasonUnsupportedFilter
	}
	if len(c.defects) == before && out != (config.Filter{}) {
		if err := config.CheckFilter(&out); err != nil {
			c.defect(field, "correct the filter", "%s", err)
		}
	}
	if len(c.defects) > before {
		return out, reasonInvalidFilter
	}
	return out, ""
}

// missing reports a filter whose type is set but whose body is not.
func (c *routeCompiler) missing(field string) {
	c.defect(field, "add it", "the body of the filter is missing")
}

func (c *routeCompiler) headerEdit(f *gatewayv1.HTTPHeaderFilter, field string, wrap func(*config.HeaderEdit) config.Filter) config.Filter {
	if f == nil {
		c.missing(field)
		return config.Filter{}
	}
	// Each edit is checked by itself, so that the problem names its field.
	check := func(where string, e config.HeaderEdit) {
		one := wrap(&e)
		if err := config.CheckFilter(&one); err != nil {
			c.defect(where, "correct or remove the edit", "%s", innermost(err))
		}
	}
	out := &config.HeaderEdit{}
	for i, h := range f.Set {
		edit := config.Header{Name: string(h.Name), Value: h.Value}
		check(fmt.Sprintf("%s.set[%d]", field, i), config.HeaderEdit{Set: []config.Header{edit}})
		out.Set = append(out.Set, edit)
	}
	for i, h := range f.Add {
		edit := config.Header{Name: string(h.Name), Value: h.Value}
		check(fmt.Sprintf("%s.add[%d]", field, i), config.HeaderEdit{Add: []config.Header{edit}})
		out.Add = append(out.Add, edit)
	}
	for i, name := range f.Remove {
		check(fmt.Sprintf("%s.remove[%d]", field, i), config.HeaderEdit{Remove: []string{name}})
		out.Remove = append(out.Remove, name)
	}
	return wrap(out)
}

func requestEdit(e *config.HeaderEdit) config.Filter  { return config.Filter{RequestHeaders: e} }
func responseEdit(e *config.HeaderEdit) config.Filter { return config.Filter{ResponseHeaders: e} }

// innermost drops the places that wrap an error: the problem has its own.
func innermost(err error) error {
	for {
		next := errors.Unwrap(err)
		if next == nil {
			return err
		}
		err = next
	}
}

func (c *routeCompiler) redirect(f *gatewayv1.HTTPRequestRedirectFilter, field string, r *gatewayv1.HTTPRouteRule) *config.Redirect {
	if f == nil {
		c.missing(field)
		return nil
	}
	out := &config.Redirect{
		Scheme:   ptr.Deref(f.Scheme, ""),
		Hostname: c.targetHostname(f.Hostname, field),
		Path:     c.pathModifier(f.Path, field+".path", r),
		Status:   ptr.Deref(f.StatusCode, defaultRedirectStatus),
	}
	if f.Scheme != nil && *f.Scheme != "http" && *f.Scheme != "https" {
		c.defect(field+".scheme", "use http or https", "the scheme %q is not supported", *f.Scheme)
	}
	if f.Port != nil {
		if *f.Port < 1 || *f.Port > portMax {
			c.defect(field+".port", "use 1 to 65535", "%d is not a port", *f.Port)
		}
		out.Port = uint16(*f.Port)
	}
	switch out.Status {
	case 301, 302, 303, 307, 308:
	default:
		c.defect(field+".statusCode", "use 301, 302, 303, 307 or 308", "%d is not the status of a redirect", out.Status)
	}
	return out
}

func (c *routeCompiler) rewrite(f *gatewayv1.HTTPURLRewriteFilter, field string, r *gatewayv1.HTTPRouteRule) *config.Rewrite {
	if f == nil {
		c.missing(field)
		return nil
	}
	return &config.Rewrite{Hostname: c.targetHostname(f.Hostname, field), Path: c.pathModifier(f.Path, field+".path", r)}
}

func (c *routeCompiler) targetHostname(h *gatewayv1.PreciseHostname, field string) string {
	if h == nil || *h == "" {
		return ""
	}
	if problem := hostnameError(string(*h), false); problem != "" {
		c.defect(field+".hostname", "write a name such as www.example.com", "%q %s", *h, problem)
	}
	return string(*h)
}

func (c *routeCompiler) pathModifier(m *gatewayv1.HTTPPathModifier, field string, r *gatewayv1.HTTPRouteRule) *config.PathModifier {
	if m == nil {
		return nil
	}
	out := &config.PathModifier{}
	var value *string
	switch m.Type {
	case gatewayv1.FullPathHTTPPathModifier:
		out.Kind, value, field = config.PathExact, m.ReplaceFullPath, field+".replaceFullPath"
	case gatewayv1.PrefixMatchHTTPPathModifier:
		out.Kind, value, field = config.PathPrefix, m.ReplacePrefixMatch, field+".replacePrefixMatch"
		for _, match := range r.Matches {
			if match.Path != nil && ptr.Deref(match.Path.Type, gatewayv1.PathMatchPathPrefix) != gatewayv1.PathMatchPathPrefix {
				c.defect(field, "use replaceFullPath, or matches of type PathPrefix only",
					"a prefix can only be replaced where every match is a PathPrefix")
				break
			}
		}
	default:
		c.defect(field+".type", "use ReplaceFullPath or ReplacePrefixMatch", "the type %q is not known", m.Type)
		return out
	}
	if value == nil {
		c.defect(field, "add it", "the replacement is missing")
		return out
	}
	out.Value = *value
	if out.Value == "" && out.Kind == config.PathPrefix {
		return out // the prefix is removed
	}
	if problem := pathError(out.Value); problem != "" {
		c.defect(field, "write an absolute path without query", "the path %q %s", clip(out.Value), problem)
	}
	return out
}
