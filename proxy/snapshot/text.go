package snapshot

import (
	"fmt"
	"strings"
	"time"

	"rauta.io/rauta/proxy/config"
)

// Text renders an explanation for a terminal: what won is marked with an asterisk.
func (e *Explanation) Text() string {
	var b strings.Builder
	if e.Path == "" {
		fmt.Fprintf(&b, "a client of %s (server name %q)\n", e.Port, e.Host)
	} else {
		fmt.Fprintf(&b, "%s %s (host %q) on %s\n", e.Method, e.Path, e.Host, e.Port)
	}
	fmt.Fprintf(&b, "outcome: %s\n", e.Outcome.text())
	b.WriteString("\nlisteners\n")
	for _, l := range e.Listeners {
		fmt.Fprintf(&b, "%s %s (hostname %s): %s\n", mark(l.Chosen), l.Name, hostnameText(l.Hostname), l.Why)
	}
	if len(e.Candidates) > 0 {
		b.WriteString("\ncandidates\n")
		for i := range e.Candidates {
			e.Candidates[i].text(&b)
		}
	}
	if e.Rule != nil {
		e.Rule.text(&b)
	}
	if e.L4 != nil {
		e.L4.text(&b)
	}
	return b.String()
}

func mark(won bool) string {
	if won {
		return "  *"
	}
	return "   "
}

func hostnameText(hostname string) string {
	if hostname == "" {
		return "any"
	}
	return hostname
}

func (o *Outcome) text() string {
	if o.Kind == OutcomeForward {
		return fmt.Sprintf("forward %s (host %q)", o.Path, o.Authority)
	}
	if text := o.l4Text(); text != "" {
		return text
	}
	text := fmt.Sprintf("answer %d, %s", o.Status, o.Reason)
	if o.Location != "" {
		text += " to " + o.Location
	}
	return text
}

func (c *Candidate) text(b *strings.Builder) {
	if c.Match == nil {
		fmt.Fprintf(b, "%s ... %s\n", mark(false), c.Why)
		return
	}
	fmt.Fprintf(b, "%s %s rule %s (listener %s, hostname %s, %s): %s\n", mark(c.Won), c.Route, c.Rule, c.Listener,
		hostnameText(c.Hostname), matchText(c.Match), c.Why)
}

func matchText(m *config.Match) string {
	parts := []string{fmt.Sprintf("%s %s", strings.ToLower(string(m.Path.Kind)), m.Path.Value)}
	if m.Method != "" {
		parts = append(parts, "method "+m.Method)
	}
	for i := range m.Headers {
		parts = append(parts, "header "+valueText(&m.Headers[i]))
	}
	for i := range m.Query {
		parts = append(parts, "query "+valueText(&m.Query[i]))
	}
	return strings.Join(parts, ", ")
}

func valueText(v *config.ValueMatch) string {
	if v.Regex {
		return fmt.Sprintf("%s ~ %q", v.Name, v.Value)
	}
	return fmt.Sprintf("%s = %q", v.Name, v.Value)
}

func (r *ExplainedRule) text(b *strings.Builder) {
	fmt.Fprintf(b, "\nrule %s of %s\n", r.Rule, r.Route)
	fmt.Fprintf(b, "    from: %s %s/%s, rule index %d\n", r.Source.Kind, r.Source.Namespace, r.Source.Name, r.Index)
	for _, t := range []struct {
		name  string
		value config.Duration
	}{
		{"request timeout", r.Timeouts.Request},
		{"back end timeout", r.Timeouts.BackendRequest},
		{"response timeout", r.Timeouts.Response},
		{"tunnel idle timeout", r.Timeouts.TunnelIdle},
	} {
		switch {
		case t.value > 0:
			fmt.Fprintf(b, "    %s: %s\n", t.name, time.Duration(t.value))
		case t.value < 0:
			fmt.Fprintf(b, "    %s: none\n", t.name)
		}
	}
	if r.BodyBytesMax > 0 {
		fmt.Fprintf(b, "    request body: at most %d bytes\n", r.BodyBytesMax)
	}
	if p := r.TraceSampling; p != nil {
		fmt.Fprintf(b, "    traces that begin here: %v%% sampled\n", *p)
	}
	if t := r.Retry; t != nil {
		fmt.Fprintf(b, "    retry: at most %d times%s%s\n", t.Attempts, codesText(t.Codes), backoffText(t.Backoff))
	}
	filtersText(b, "    ", r.Filters)
	for i := range r.Backends {
		r.Backends[i].text(b, "answers 500")
	}
}

func codesText(codes []int) string {
	if len(codes) == 0 {
		return ""
	}
	return ", also after " + strings.Trim(fmt.Sprint(codes), "[]")
}

func backoffText(d config.Duration) string {
	if d == 0 {
		return ""
	}
	return ", not before " + time.Duration(d).String()
}

func (x *ExplainedBackend) text(b *strings.Builder, ifInvalid string) {
	name := x.Cluster
	if name == "" {
		name = "(none)"
	}
	fmt.Fprintf(b, "    back end %s: weight %d (%.3g%%)", name, x.Weight, x.Percent)
	if x.Invalid != "" {
		fmt.Fprintf(b, ", %s: %s\n", ifInvalid, x.Invalid)
		return
	}
	fmt.Fprintf(b, ", %d of %d endpoints ready", x.Ready, x.Endpoints)
	if x.TLS != "" {
		fmt.Fprintf(b, ", TLS with %s", x.TLS)
	}
	b.WriteByte('\n')
	filtersText(b, "        ", x.Filters)
}

// expected says whom a back end has to prove to be.
func expected(t *config.BackendTLS) string {
	switch {
	case t == nil:
		return ""
	case t.Unverified:
		return "whoever answers"
	case len(t.SubjectAltNames) == 0:
		return t.ServerName
	}
	var names []string
	for _, n := range t.SubjectAltNames {
		names = append(names, n.Hostname+n.URI)
	}
	return strings.Join(names, " or ")
}

func filtersText(b *strings.Builder, indent string, filters []config.Filter) {
	for i := range filters {
		f := &filters[i]
		var text string
		switch {
		case f.RequestHeaders != nil:
			text = "request headers: " + editText(f.RequestHeaders)
		case f.ResponseHeaders != nil:
			text = "response headers: " + editText(f.ResponseHeaders)
		case f.Redirect != nil:
			text = "redirect: " + redirectText(f.Redirect)
		case f.Rewrite != nil:
			text = "rewrite: " + strings.Join(urlParts("", f.Rewrite.Hostname, 0, f.Rewrite.Path), ", ")
		case f.Answer != nil:
			text = fmt.Sprintf("answer: %d, %s", f.Answer.Status, f.Answer.Reason)
		case f.GRPCWeb != nil:
			text = "gRPC-Web becomes gRPC"
		case f.CORS != nil:
			text = "CORS: " + corsText(f.CORS)
		case f.Mirror != nil:
			text = "mirror: " + mirrorText(f.Mirror)
		}
		fmt.Fprintf(b, "%sfilter %s\n", indent, text)
	}
}

func corsText(c *config.CORS) string {
	origins := strings.Join(c.AllowOrigins, ", ")
	if origins == "" {
		origins = "none"
	}
	if c.AllowCredentials {
		return "origins " + origins + " with credentials"
	}
	return "origins " + origins
}

func mirrorText(m *config.Mirror) string {
	if m.Denominator == 0 {
		return m.Cluster
	}
	return fmt.Sprintf("%s, %d of %d requests", m.Cluster, m.Numerator, m.Denominator)
}

func editText(e *config.HeaderEdit) string {
	var parts []string
	for _, name := range e.Remove {
		parts = append(parts, "remove "+name)
	}
	for _, h := range e.Set {
		parts = append(parts, fmt.Sprintf("set %s: %q", h.Name, h.Value))
	}
	for _, h := range e.Add {
		parts = append(parts, fmt.Sprintf("add %s: %q", h.Name, h.Value))
	}
	return strings.Join(parts, ", ")
}

func redirectText(r *config.Redirect) string {
	return strings.Join(append([]string{fmt.Sprint(r.Status)}, urlParts(r.Scheme, r.Hostname, r.Port, r.Path)...), ", ")
}

func urlParts(scheme, hostname string, port uint16, path *config.PathModifier) []string {
	var parts []string
	if scheme != "" {
		parts = append(parts, "scheme "+scheme)
	}
	if hostname != "" {
		parts = append(parts, "host "+hostname)
	}
	if port != 0 {
		parts = append(parts, fmt.Sprintf("port %d", port))
	}
	switch {
	case path == nil:
	case path.Kind == config.PathPrefix:
		parts = append(parts, fmt.Sprintf("matched prefix becomes %q", path.Value))
	default:
		parts = append(parts, fmt.Sprintf("path becomes %q", path.Value))
	}
	return parts
}
