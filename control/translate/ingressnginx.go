package translate

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	networkingv1 "k8s.io/api/networking/v1"
)

const (
	// nginxPrefix is common to the annotations of ingress-nginx. RAUTA obeys none of them yet: what only makes requests nicer is
	// reported, and what keeps requests out refuses them all, for an Ingress must not be more open here than it was there.
	nginxPrefix = "nginx.ingress.kubernetes.io/"
	// nginxCanary marks an Ingress that takes a part of the requests for which another one has the same paths.
	nginxCanary = nginxPrefix + "canary"
	// reasonUnsupportedAnnotation stands in the access log.
	reasonUnsupportedAnnotation = "unsupported_annotation"
	// nginxNamesMax is how many annotations without effect a message names.
	nginxNamesMax = 20
)

// nginxRestriction is an annotation without which more would be let through, or to another place, than its owner wants.
type nginxRestriction struct {
	name string // without nginxPrefix
	// whole: ingress-nginx applies it to all that is served under the hosts of the Ingress.
	whole bool
	// instead is what does the same here; with an annotation of ours for it on the same Ingress the one of ingress-nginx is
	// passed over, so that both controllers can serve one Ingress while one takes over from the other.
	instead string
	hint    string
	// asks reports whether a value, of all annotations, restricts anything; nil for every value.
	asks func(value string, all map[string]string) bool
}

const (
	hintOpen    = "remove it where RAUTA may serve the Ingress without"
	hintSnippet = "remove it, or keep to directives that only set headers of responses, buffers and timeouts"
)

// nginxRestrictions, in the order in which they are reported.
var nginxRestrictions = []nginxRestriction{
	{name: "auth-url", hint: hintOpen},
	{name: "auth-type", hint: hintOpen},
	{name: "auth-tls-secret", whole: true, instead: annotationClientCA, hint: "set " + annotationClientCA, asks: func(_ string, all map[string]string) bool {
		return all[nginxPrefix+"auth-tls-verify-client"] != "off"
	}},
	{name: "whitelist-source-range", hint: hintOpen},
	{name: "allowlist-source-range", hint: hintOpen},
	{name: "denylist-source-range", hint: hintOpen},
	{name: "enable-modsecurity", whole: true, hint: hintOpen, asks: notFalse},
	{name: "enable-owasp-core-rules", whole: true, hint: hintOpen, asks: notFalse},
	{name: "modsecurity-snippet", whole: true, hint: hintOpen},
	{name: "configuration-snippet", hint: hintSnippet, asks: notHarmless},
	{name: "server-snippet", whole: true, hint: hintSnippet, asks: notHarmless},
	{name: "rewrite-target", hint: "use an HTTPRoute with URLRewrite"},
	{name: "permanent-redirect", hint: "use an HTTPRoute with RequestRedirect"},
	{name: "temporal-redirect", hint: "use an HTTPRoute with RequestRedirect"},
	{name: "backend-protocol", instead: annotationBackendProtocol, hint: "set " + annotationBackendProtocol, asks: func(v string, _ map[string]string) bool {
		return !strings.EqualFold(v, "HTTP")
	}},
}

func notFalse(v string, _ map[string]string) bool { return v != "false" }

// nginxHarmless are directives of nginx whose absence lets nothing through and shows nobody more.
var nginxHarmless = map[string]bool{
	"access_log": true, "add_header": true, "client_body_buffer_size": true, "client_body_timeout": true, "client_header_timeout": true,
	"error_log": true, "expires": true, "gzip": true, "gzip_comp_level": true, "gzip_min_length": true, "gzip_types": true,
	"keepalive_timeout": true, "more_set_headers": true, "proxy_buffer_size": true, "proxy_buffering": true, "proxy_buffers": true,
	"proxy_busy_buffers_size": true, "proxy_connect_timeout": true, "proxy_http_version": true, "proxy_read_timeout": true,
	"proxy_request_buffering": true, "proxy_send_timeout": true, "send_timeout": true,
}

// notHarmless reports whether a snippet has a directive that is not known to be harmless. Quotes are not understood: what they
// hide looks like another directive, which is one more reason to refuse.
func notHarmless(snippet string, _ map[string]string) bool {
	for directive := range strings.FieldsFuncSeq(snippet, func(r rune) bool { return r == ';' || r == '{' || r == '}' || r == '\n' }) {
		words := strings.Fields(directive)
		if len(words) > 0 && !strings.HasPrefix(words[0], "#") && !nginxHarmless[words[0]] {
			return true
		}
	}
	return false
}

// nginxInstead says what does here what an annotation that keeps nobody out does there.
var nginxInstead = map[string]string{
	"affinity":                  annotationHashOn + " on the Service",
	"cors-allow-credentials":    annotationCORSCredentials,
	"cors-allow-headers":        annotationCORSHeaders,
	"cors-allow-methods":        annotationCORSMethods,
	"cors-allow-origin":         annotationCORSOrigins,
	"cors-expose-headers":       annotationCORSExpose,
	"cors-max-age":              annotationCORSMaxAge,
	"enable-cors":               annotationCORSOrigins,
	"force-ssl-redirect":        annotationSSLRedirect,
	"load-balance":              annotationLoadBalancer + " on the Service",
	"mirror-target":             annotationMirror,
	"proxy-body-size":           annotationMaxBodySize,
	"proxy-connect-timeout":     annotationConnectTimeout + " on the Service",
	"proxy-next-upstream":       annotationRetryCodes,
	"proxy-next-upstream-tries": annotationRetryAttempts,
	"proxy-read-timeout":        annotationResponseTimeout,
	"ssl-passthrough":           "a TLSRoute",
	"ssl-redirect":              annotationSSLRedirect,
	"upstream-hash-by":          annotationHashOn + " on the Service",
	"use-regex":                 "an HTTPRoute with path type RegularExpression",
}

// nginxAsk is what the annotations of ingress-nginx on an Ingress come to here.
type nginxAsk struct {
	// by are the restrictions that it asks for.
	by []nginxRestriction
	// canary: it takes requests from another Ingress, and must not take all of them.
	canary bool
	// ignored are annotations without effect, in order.
	ignored []string
}

func nginxAsks(o *networkingv1.Ingress) (ask nginxAsk) {
	if !anyWith(nginxPrefix, o.Annotations) {
		return ask
	}
	restricts := map[string]bool{}
	for _, r := range nginxRestrictions {
		value, set := o.Annotations[nginxPrefix+r.name]
		restricts[r.name] = true
		if _, replaced := o.Annotations[r.instead]; !set || replaced || strings.TrimSpace(value) == "" {
			continue
		}
		if r.asks == nil || r.asks(value, o.Annotations) {
			ask.by = append(ask.by, r)
		}
	}
	ask.canary = o.Annotations[nginxCanary] == "true"
	for _, name := range slices.Sorted(maps.Keys(o.Annotations)) {
		short, foreign := strings.CutPrefix(name, nginxPrefix)
		instead := nginxInstead[short]
		if _, replaced := o.Annotations[instead]; !foreign || restricts[short] || name == nginxCanary || replaced {
			continue
		}
		if instead != "" {
			short += " (here " + instead + ")"
		}
		ask.ignored = append(ask.ignored, short)
	}
	return ask
}

// ingressNginx is what annotations of ingress-nginx come to on all Ingresses.
type ingressNginx struct {
	asks map[*networkingv1.Ingress]nginxAsk
	// closed are hosts of which an Ingress restricts all that is served, by who does it first.
	closed map[string]*networkingv1.Ingress
}

// ingressNginx reads the annotations.
func (t *translator) ingressNginx(ours []*networkingv1.Ingress) *ingressNginx {
	n := &ingressNginx{asks: map[*networkingv1.Ingress]nginxAsk{}, closed: map[string]*networkingv1.Ingress{}}
	for _, o := range ours {
		ask := nginxAsks(o)
		n.asks[o] = ask
		if !slices.ContainsFunc(ask.by, func(r nginxRestriction) bool { return r.whole }) {
			continue
		}
		for _, host := range hostsOfRules(o) {
			if n.closed[host] == nil {
				n.closed[host] = o
			}
		}
	}
	return n
}

// reportNginx reports the annotations of ingress-nginx. It returns false if the Ingress must not be served.
func (c *ingressCompiler) reportNginx() bool {
	ask := c.nginx.asks[c.object]
	field := func(name string) string { return "metadata.annotations[" + nginxPrefix + name + "]" }
	if ask.canary {
		c.report.errorf("metadata.annotations["+nginxCanary+"]", "use an HTTPRoute with weights or matches of headers",
			"canaries of ingress-nginx are not supported; the rules are left out, so that the other Ingress keeps its requests")
		return false
	}
	for _, r := range ask.by {
		c.report.errorf(field(r.name), r.hint, "is not supported, and without it more would be let through or elsewhere; requests are answered 500")
	}
	if n := len(ask.ignored); n > 0 {
		more := ""
		if n > nginxNamesMax {
			more = fmt.Sprintf(" and %d more", n-nginxNamesMax)
		}
		c.report.warnf("metadata.annotations", "see docs/annotations.md", "these annotations of ingress-nginx have no effect: %s%s",
			strings.Join(ask.ignored[:min(n, nginxNamesMax)], ", "), more)
	}
	return true
}

// refuses reports whether requests to a host are answered 500 because of an annotation of ingress-nginx.
func (c *ingressCompiler) refuses(host, field string) bool {
	owner, refused := c.nginx.closed[host], len(c.nginx.asks[c.object].by) > 0
	if owner != nil && !refused {
		c.report.errorf(field, "give the Ingresses different hosts", "Ingress %s/%s restricts the host %q with annotations of ingress-nginx that are not supported; requests are answered 500",
			owner.Namespace, owner.Name, host)
	}
	return refused || owner != nil
}
