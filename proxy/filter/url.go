package filter

import (
	"bytes"
	"strconv"

	"rauta.io/rauta/proxy/config"
	"rauta.io/rauta/proxy/message"
)

// Default ports, left out of a Location (RFC 9110 sections 4.2.1 and 4.2.2).
const (
	portHTTP  = 80
	portHTTPS = 443
)

// pathEdit replaces the whole path, or the prefix that the rule matched.
type pathEdit struct {
	// whole replaces all of the path.
	whole bool
	// value is the replacement of a path that the prefix covers all of; never empty.
	value string
	// stem is the replacement of a prefix that more follows: value without its trailing slash, because what follows
	// begins with one.
	stem string
}

func newPathEdit(m *config.PathModifier) *pathEdit {
	if m == nil {
		return nil
	}
	e := &pathEdit{whole: m.Kind == config.PathExact, value: m.Value}
	if e.value == "" {
		e.value = "/"
	}
	e.stem = e.value
	if e.stem[len(e.stem)-1] == '/' {
		e.stem = e.stem[:len(e.stem)-1]
	}
	return e
}

// split returns what replaces the beginning of path, and the rest of path that stays. A trailing slash of the matched
// prefix belongs to the rest (Gateway API, HTTPPathModifier: "/foo" and "/foo/" replace alike).
func (e *pathEdit) split(path []byte, prefixLen int) (replacement string, rest []byte) {
	if e.whole {
		return e.value, nil
	}
	prefixLen = min(prefixLen, len(path))
	if prefixLen > 0 && path[prefixLen-1] == '/' {
		prefixLen--
	}
	if rest = path[prefixLen:]; len(rest) == 0 {
		return e.value, nil
	}
	return e.stem, rest
}

// rewrite changes what is forwarded.
type rewrite struct {
	hostname string
	path     *pathEdit
}

func newRewrite(r *config.Rewrite) *rewrite {
	return &rewrite{hostname: r.Hostname, path: newPathEdit(r.Path)}
}

func (r *rewrite) apply(req *message.Request, ctx *Context) {
	if r.hostname != "" {
		req.Authority = req.StoreString(r.hostname)
	}
	path := req.Bytes(req.Path)
	if r.path == nil || !isAbsolute(path) {
		return
	}
	replacement, rest := r.path.split(path, ctx.PrefixLen)
	req.Path = req.StoreFunc(func(b []byte) []byte { return append(append(b, replacement...), rest...) })
	ctx.PrefixLen = len(replacement)
}

// isAbsolute tells a path from the "*" of OPTIONS, which has no parts to replace.
func isAbsolute(path []byte) bool { return len(path) > 0 && path[0] == '/' }

// redirect answers with a Location.
type redirect struct {
	status int
	// scheme is "" for the request's.
	scheme   string
	hostname string
	// port is 0 when it follows from the scheme or the listener.
	port uint16
	path *pathEdit
}

func newRedirect(r *config.Redirect) *redirect {
	return &redirect{status: r.Status, scheme: r.Scheme, hostname: r.Hostname, port: r.Port, path: newPathEdit(r.Path)}
}

// location builds the target in the request's arena. The parts follow the Gateway API's HTTPRequestRedirectFilter; the
// query is kept.
func (r *redirect) location(req *message.Request, ctx *Context) []byte {
	scheme := r.scheme
	if scheme == "" {
		scheme = ctx.Scheme.String()
	}
	host := hostOf(req.Bytes(req.Authority))
	port := r.effectivePort(scheme, ctx)
	replacement, rest := "", req.Bytes(req.Path)
	switch {
	case !isAbsolute(rest):
		rest = nil
	case r.path != nil:
		replacement, rest = r.path.split(rest, ctx.PrefixLen)
	}
	span := req.StoreFunc(func(b []byte) []byte {
		switch {
		case r.hostname != "":
			b = append(append(append(b, scheme...), "://"...), r.hostname...)
			b = appendPort(b, port)
		case len(host) > 0:
			b = append(append(append(b, scheme...), "://"...), host...)
			b = appendPort(b, port)
		default:
			// Without any host (HTTP/1.0) the reference is relative, and then two slashes would name a host.
			replacement, rest = relative(replacement, rest)
		}
		if len(replacement)+len(rest) == 0 {
			b = append(b, '/')
		}
		b = append(append(b, replacement...), rest...)
		if req.HasQuery {
			b = append(append(b, '?'), req.Bytes(req.Query)...)
		}
		return b
	})
	return req.Bytes(span)
}

// effectivePort returns the port to write, 0 for none: the given one; else the well-known one of a given scheme; else
// the listener's. The scheme's own port is never written.
func (r *redirect) effectivePort(scheme string, ctx *Context) uint16 {
	port := r.port
	if port == 0 && r.scheme == "" {
		port = ctx.ListenerPort
	}
	if scheme == "http" && port == portHTTP || scheme == "https" && port == portHTTPS {
		return 0
	}
	return port
}

func appendPort(b []byte, port uint16) []byte {
	if port == 0 {
		return b
	}
	return strconv.AppendUint(append(b, ':'), uint64(port), 10)
}

// hostOf returns an authority without its port; an IPv6 address keeps its brackets.
func hostOf(authority []byte) []byte {
	colon := bytes.LastIndexByte(authority, ':')
	if colon < 0 || bytes.IndexByte(authority[colon:], ']') >= 0 {
		return authority
	}
	return authority[:colon]
}

// relative leaves one slash at the beginning of a path that is in two parts.
func relative(replacement string, rest []byte) (string, []byte) {
	for len(replacement) > 1 && replacement[0] == '/' && replacement[1] == '/' {
		replacement = replacement[1:]
	}
	if len(replacement) > 1 {
		return replacement, rest
	}
	for len(rest) > 1 && rest[0] == '/' && rest[1] == '/' {
		rest = rest[1:]
	}
	if replacement == "/" && len(rest) > 0 && rest[0] == '/' {
		replacement = ""
	}
	return replacement, rest
}
