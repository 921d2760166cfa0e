package filter

import (
	"bytes"
	"strconv"
	"strings"

	"rauta.io/rauta/proxy/config"
	"rauta.io/rauta/proxy/message"
)

// corsMaxAgeDefault is how long browsers may remember a preflight whose policy does not say, in seconds: that of the Fetch
// standard and of the Gateway API.
const corsMaxAgeDefault = 5

// Reasons of answers to preflights.
const (
	reasonPreflight       = "cors_preflight"
	reasonPreflightDenied = "cors_preflight_denied"
)

// cors is a compiled config.CORS.
type cors struct {
	// anyone: every origin may, and which one it is makes no difference to the response.
	anyone bool
	// all: every origin may.
	all         bool
	origins     []originPattern
	credentials bool
	// What is answered; empty for nothing. anyMethod and anyHeader repeat what the preflight asks for: to browsers a "*" has
	// no meaning with credentials, and never stands for Authorization.
	methods, headers, expose, maxAge string
	anyMethod, anyHeader             bool
}

// originPattern is one origin that may, or those below a domain.
type originPattern struct {
	scheme, port string
	host         string // in lower case; with wildcard what it ends with
	wildcard     bool
}

func newCORS(c *config.CORS) *cors {
	p := &cors{credentials: c.AllowCredentials, maxAge: strconv.Itoa(c.MaxAge), expose: strings.Join(c.ExposeHeaders, ", ")}
	if c.MaxAge == 0 {
		p.maxAge = strconv.Itoa(corsMaxAgeDefault)
	}
	if p.anyMethod = isAny(c.AllowMethods); !p.anyMethod {
		p.methods = strings.Join(c.AllowMethods, ", ")
	}
	if p.anyHeader = isAny(c.AllowHeaders); !p.anyHeader {
		p.headers = strings.Join(c.AllowHeaders, ", ")
	}
	if p.all = isAny(c.AllowOrigins); p.all {
		p.anyone = !p.credentials
		return p
	}
	for _, origin := range c.AllowOrigins {
		scheme, host, port, _ := config.SplitOrigin(origin)
		o := originPattern{scheme: scheme, host: host, port: port}
		if port == "" {
			o.port = defaultPort(scheme)
		}
		if rest, ok := strings.CutPrefix(host, "*"); ok {
			o.host, o.wildcard = rest, true
		}
		p.origins = append(p.origins, o)
	}
	return p
}

func isAny(list []string) bool { return len(list) == 1 && list[0] == "*" }

// defaultPort is the port of an origin that names none; scheme may be in upper case.
func defaultPort(scheme string) string {
	if len(scheme) == len("https") {
		return "443"
	}
	return "80"
}

// allows reports whether pages of an origin may read responses.
func (p *cors) allows(origin []byte) bool {
	if string(origin) == "null" {
		// Sandboxed frames and local files of anybody have it: with credentials everybody would be let in.
		return p.anyone
	}
	if p.all {
		return true
	}
	scheme, host, port, ok := config.SplitOrigin(message.String(origin))
	if !ok {
		return false
	}
	if port == "" {
		port = defaultPort(scheme)
	}
	for i := range p.origins {
		if o := &p.origins[i]; o.port == port && strings.EqualFold(o.scheme, scheme) && o.hasHost(host) {
			return true
		}
	}
	return false
}

func (o *originPattern) hasHost(host string) bool {
	if !o.wildcard {
		return strings.EqualFold(host, o.host)
	}
	cut := len(host) - len(o.host)
	return cut > 0 && strings.EqualFold(host[cut:], o.host)
}

// CrossOrigin is what CORS has to say about one exchange (Fetch standard, section 3.2). The zero value says nothing.
type CrossOrigin struct {
	policy  *cors
	origin  message.Span // of the request, in its arena
	allowed bool
}

// Applies reports whether there is a policy.
func (x *CrossOrigin) Applies() bool { return x.policy != nil }

// judge looks at the origin of a request. It returns the answer if the request is a preflight.
func (ctx *Context) judge(p *cors, req *message.Request) *Answer {
	ctx.CrossOrigin = CrossOrigin{policy: p}
	i := req.Lookup("origin", message.Origin, 0)
	if i < 0 {
		return nil
	}
	ctx.CrossOrigin.origin = req.Fields[i].Value
	ctx.CrossOrigin.allowed = p.allows(req.Bytes(req.Fields[i].Value))
	if req.MethodID != message.MethodOptions || req.Lookup(askedMethod, message.Unknown, 0) < 0 {
		return nil
	}
	ctx.answer = Answer{Status: 204, Reason: reasonPreflight, Preflight: true}
	if !ctx.CrossOrigin.allowed {
		ctx.answer.Reason = reasonPreflightDenied
	}
	return &ctx.answer
}

// What preflights ask for.
const (
	askedMethod  = "access-control-request-method"
	askedHeaders = "access-control-request-headers"
)

// Response marks a response head: a back end's before its edits, or one of RAUTA's own. What a back end says itself is
// replaced: two policies at once are none to browsers. req is the request of the exchange.
func (x *CrossOrigin) Response(req *message.Request, h *message.Head) {
	p := x.policy
	if p == nil {
		return
	}
	removePolicy(h)
	if !p.anyone {
		varyByOrigin(h)
	}
	if !x.allowed {
		return
	}
	if p.anyone {
		h.Add("Access-Control-Allow-Origin", "*", message.Unknown)
	} else {
		h.AddBytes("Access-Control-Allow-Origin", req.Bytes(x.origin), message.Unknown)
	}
	if p.credentials {
		h.Add("Access-Control-Allow-Credentials", "true", message.Unknown)
	}
	if p.expose != "" {
		h.Add("Access-Control-Expose-Headers", p.expose, message.Unknown)
	}
}

// Preflight adds what the answer to a preflight says beyond Response.
func (x *CrossOrigin) Preflight(req *message.Request, h *message.Head) {
	p := x.policy
	if !x.allowed {
		return
	}
	addOrRepeat(h, "Access-Control-Allow-Methods", p.methods, req, askedMethod, p.anyMethod)
	addOrRepeat(h, "Access-Control-Allow-Headers", p.headers, req, askedHeaders, p.anyHeader)
	h.Add("Access-Control-Max-Age", p.maxAge, message.Unknown)
}

// addOrRepeat adds a field with a value, or with what the request asks for in another field.
func addOrRepeat(h *message.Head, name, value string, req *message.Request, asked string, repeat bool) {
	if !repeat {
		if value != "" {
			h.Add(name, value, message.Unknown)
		}
		return
	}
	if i := req.Lookup(asked, message.Unknown, 0); i >= 0 {
		h.AddBytes(name, req.Bytes(req.Fields[i].Value), message.Unknown)
	}
}

// policyPrefix begins the names of all fields in which a server states its policy.
const policyPrefix = "access-control-"

func removePolicy(h *message.Head) {
	for i := range h.Fields {
		f := &h.Fields[i]
		if f.ID != message.Unknown || int(f.Name.Len) < len(policyPrefix) {
			continue
		}
		if message.EqualFold(h.Bytes(f.Name)[:len(policyPrefix)], policyPrefix) {
			f.ID = message.Removed
		}
	}
}

// varyByOrigin keeps caches from giving one origin what was meant for another (RFC 9110 section 12.5.5).
func varyByOrigin(h *message.Head) {
	for i := h.Lookup("vary", message.Vary, 0); i >= 0; i = h.Lookup("vary", message.Vary, i+1) {
		for rest := h.Bytes(h.Fields[i].Value); len(rest) > 0; {
			one, more, _ := bytes.Cut(rest, []byte(","))
			if one = bytes.TrimSpace(one); string(one) == "*" || message.EqualFold(one, "origin") {
				return
			}
			rest = more
		}
	}
	h.Add("Vary", "Origin", message.Vary)
}
