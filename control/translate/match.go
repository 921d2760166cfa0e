package translate

import (
	"fmt"
	"slices"
	"strings"
	"unicode/utf8"

	"k8s.io/utils/ptr"
	gatewayv1 "sigs.k8s.io/gateway-api/apis/v1"

	"rauta.io/rauta/proxy/config"
)

const (
	// pathBytesMax, headerValueBytesMax, queryValueBytesMax and nameBytesMax are the limits of the Gateway API's schema.
	pathBytesMax        = 1024
	headerValueBytesMax = 4096
	queryValueBytesMax  = 1024
	nameBytesMax        = 256
)

// knownMethod reports the methods of the Gateway API's schema.
func knownMethod(m gatewayv1.HTTPMethod) bool {
	switch m {
	case gatewayv1.HTTPMethodGet, gatewayv1.HTTPMethodHead, gatewayv1.HTTPMethodPost, gatewayv1.HTTPMethodPut,
		gatewayv1.HTTPMethodDelete, gatewayv1.HTTPMethodConnect, gatewayv1.HTTPMethodOptions, gatewayv1.HTTPMethodTrace,
		gatewayv1.HTTPMethodPatch:
		return true
	}
	return false
}

// anyMatch takes every request.
func anyMatch() []config.Match {
	return []config.Match{{Path: config.PathMatch{Kind: config.PathPrefix, Value: "/"}}}
}

func (c *routeCompiler) httpMatches(r *gatewayv1.HTTPRouteRule, field string) []config.Match {
	if len(r.Matches) == 0 {
		return anyMatch()
	}
	var out []config.Match
	for i := range r.Matches {
		out = append(out, c.match(&r.Matches[i], fmt.Sprintf("%s.matches[%d]", field, i)))
	}
	return out
}

func (c *routeCompiler) match(m *gatewayv1.HTTPRouteMatch, field string) config.Match {
	out := config.Match{Path: c.pathMatch(m.Path, field+".path")}
	if m.Method != nil {
		if !knownMethod(*m.Method) {
			c.defect(field+".method", "use one of GET, HEAD, POST, PUT, DELETE, CONNECT, OPTIONS, TRACE, PATCH",
				"%q is not a method of the Gateway API", *m.Method)
		}
		out.Method = string(*m.Method)
	}
	for i, h := range m.Headers {
		out.Headers = c.headerMatch(out.Headers, fmt.Sprintf("%s.headers[%d]", field, i), string(h.Name), h.Value,
			string(ptr.Deref(h.Type, gatewayv1.HeaderMatchExact)))
	}
	for i, q := range m.QueryParams {
		where := fmt.Sprintf("%s.queryParams[%d]", field, i)
		out.Query = c.once(out.Query, c.valueMatch(where, string(q.Name), q.Value,
			string(ptr.Deref(q.Type, gatewayv1.QueryParamMatchExact)), queryValueBytesMax), where)
	}
	return out
}

// headerMatch adds a header match to a list.
func (c *routeCompiler) headerMatch(list []config.ValueMatch, field, name, value, kind string) []config.ValueMatch {
	v := c.valueMatch(field, strings.ToLower(name), value, kind, headerValueBytesMax)
	if err := config.CheckFieldValue(value); err != nil && !v.Regex {
		c.defect(field+".value", "correct the value", "no header field can have the value %q: %s", clip(value), err)
	}
	if v.Name == "content-length" || v.Name == "transfer-encoding" {
		c.defect(field+".name", "remove it", "the framing of a message can't be matched")
	}
	return c.once(list, v, field)
}

// once keeps the first match of a name: later ones must be ignored (Gateway API).
func (c *routeCompiler) once(list []config.ValueMatch, v config.ValueMatch, field string) []config.ValueMatch {
	if slices.ContainsFunc(list, func(o config.ValueMatch) bool { return o.Name == v.Name }) {
		c.report.warnf(field+".name", "remove it", "%q is matched by an earlier entry; this one is ignored", v.Name)
		return list
	}
	return append(list, v)
}

func (c *routeCompiler) pathMatch(p *gatewayv1.HTTPPathMatch, field string) config.PathMatch {
	kind, value := gatewayv1.PathMatchPathPrefix, "/"
	if p != nil {
		kind, value = ptr.Deref(p.Type, kind), ptr.Deref(p.Value, value)
	}
	switch kind {
	case gatewayv1.PathMatchExact, gatewayv1.PathMatchPathPrefix:
		if problem := pathError(value); problem != "" {
			c.defect(field+".value", "write the path as it appears in a request line", "the path %q %s", clip(value), problem)
		}
		if kind == gatewayv1.PathMatchExact {
			return config.PathMatch{Kind: config.PathExact, Value: value}
		}
		return config.PathMatch{Kind: config.PathPrefix, Value: value}
	case gatewayv1.PathMatchRegularExpression:
		if problem := c.regexes.check(value, pathBytesMax); problem != "" {
			c.defect(field+".value", c.regexes.hint(problem, "path"), "the regular expression %q %s", clip(value), problem)
		}
		return config.PathMatch{Kind: config.PathRegex, Value: value}
	}
	c.defect(field+".type", "use Exact, PathPrefix or RegularExpression", "the path type %q is not known", kind)
	return config.PathMatch{}
}

// valueMatch takes the types of header and query matches as a string: their constants are the same.
func (c *routeCompiler) valueMatch(field, name, value, kind string, valueBytesMax int) config.ValueMatch {
	if problem := tokenError(name); problem != "" {
		c.defect(field+".name", "correct the name", "the name %q %s", name, problem)
	}
	out := config.ValueMatch{Name: name, Value: value}
	switch kind {
	case string(gatewayv1.HeaderMatchExact):
		if value == "" || len(value) > valueBytesMax || !utf8.ValidString(value) {
			c.defect(field+".value", "correct the value", "the value must be UTF-8 text of 1 to %d bytes", valueBytesMax)
		}
	case string(gatewayv1.HeaderMatchRegularExpression):
		out.Regex = true
		if problem := c.regexes.check(value, min(valueBytesMax, regexBytesMax)); problem != "" {
			c.defect(field+".value", c.regexes.hint(problem, "value"), "the regular expression %q %s", clip(value), problem)
		}
	default:
		c.defect(field+".type", "use Exact or RegularExpression", "the type %q is not known", kind)
	}
	return out
}

// pathError applies the Gateway API's rules for Exact and PathPrefix: what can't be the path of a request after dot
// segments are resolved can't match and is a mistake or an attack.
func pathError(p string) string {
	switch {
	case !strings.HasPrefix(p, "/"):
		return "does not begin with '/'"
	case len(p) > pathBytesMax:
		return "is longer than 1024 bytes"
	case strings.Contains(p, "//"):
		return "contains '//'"
	case strings.Contains(p, "%2f"), strings.Contains(p, "%2F"):
		return "contains an encoded slash"
	}
	for segment := range strings.SplitSeq(p, "/") {
		if segment == "." || segment == ".." {
			return "contains a dot segment"
		}
	}
	for i := 0; i < len(p); i++ {
		switch c := p[i]; {
		case c == '%':
			if i+2 >= len(p) || !isHex(p[i+1]) || !isHex(p[i+2]) {
				return "contains '%' without two hexadecimal digits"
			}
		case !isAlphanumeric(c) && !strings.ContainsRune("-/._~!$&'()*+,;=:@", rune(c)):
			return fmt.Sprintf("contains %q, which must be percent-encoded", c)
		}
	}
	return ""
}

func isHex(c byte) bool {
	return c >= '0' && c <= '9' || c >= 'a' && c <= 'f' || c >= 'A' && c <= 'F'
}

func isAlphanumeric(c byte) bool {
	return c >= '0' && c <= '9' || c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z'
}

// clip keeps messages readable when a value is refused for its length.
func clip(s string) string {
	const most = 100
	if len(s) <= most {
		return s
	}
	return strings.ToValidUTF8(s[:most], "") + "..."
}

// tokenError checks a field name (RFC 9110 section 5.6.2).
func tokenError(name string) string {
	if name == "" {
		return "is empty"
	}
	if len(name) > nameBytesMax {
		return "is longer than 256 bytes"
	}
	for i := range len(name) {
		if !isAlphanumeric(name[i]) && !strings.ContainsRune("!#$%&'*+-.^_`|~", rune(name[i])) {
			return "contains a character that is not allowed in names"
		}
	}
	return ""
}
