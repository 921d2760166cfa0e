package filter

import (
	"fmt"

	"rauta.io/rauta/proxy/config"
	"rauta.io/rauta/proxy/message"
)

// Context is what filters need to know about a request beside its head. The exchange keeps one and reuses it.
type Context struct {
	// PrefixLen is the number of bytes of the request's Path that the rule's prefix match covers; 0 for other matches.
	// A path rewrite moves it to the end of what it put there, so that a back end's filter continues from a rule's.
	PrefixLen int
	// ListenerPort is the port of the listener that the request came in on.
	ListenerPort uint16
	// Scheme is what the client used.
	Scheme message.Scheme
	// CrossOrigin is what a CORS filter has found out.
	CrossOrigin CrossOrigin

	answer Answer
}

// Answer ends an exchange without a back end.
type Answer struct {
	// Status is 200 to 599.
	Status int
	// Reason is a token for logs and metrics: "redirect", or what the configuration gives.
	Reason string
	// Location of a redirect (RFC 9110 section 10.2.2), nil otherwise. It lies in the request's arena: valid until the
	// next edit of the request.
	Location []byte
	// Preflight: the answer is one of Context.CrossOrigin.
	Preflight bool
}

// reasonRedirect is Answer.Reason of every redirect.
const reasonRedirect = "redirect"

// Chain is a compiled list of filters.
type Chain struct {
	request  []step
	response []*headerEdit
	hsts     string
	grpcWeb  bool // there is a body filter that translates gRPC-Web
}

// step is one filter on the request side; exactly one field is set.
type step struct {
	edit     *headerEdit
	rewrite  *rewrite
	redirect *redirect
	secure   *redirect // of requests that did not come over HTTPS
	answer   *Answer
	cors     *cors
}

// Compile checks and compiles filters in their order. It returns nil for none. The error names the filter by its index
// and says what to change.
func Compile(filters []config.Filter) (*Chain, error) {
	if len(filters) == 0 {
		return nil, nil
	}
	c := new(Chain)
	for i := range filters {
		f := &filters[i]
		if err := config.CheckFilter(f); err != nil {
			return nil, fmt.Errorf("filters[%d]: %w", i, err)
		}
		switch {
		case f.RequestHeaders != nil:
			c.request = append(c.request, step{edit: newHeaderEdit(f.RequestHeaders)})
		case f.ResponseHeaders != nil:
			c.response = append(c.response, newHeaderEdit(f.ResponseHeaders))
		case f.Redirect != nil:
			c.request = append(c.request, step{redirect: newRedirect(f.Redirect)})
		case f.Rewrite != nil:
			c.request = append(c.request, step{rewrite: newRewrite(f.Rewrite)})
		case f.GRPCWeb != nil:
			c.grpcWeb = true
		case f.Mirror != nil: // the exchange's business
		case f.RequireHTTPS != nil:
			to := &config.Redirect{Scheme: message.SchemeHTTPS.String(), Port: f.RequireHTTPS.Port, Status: f.RequireHTTPS.Status}
			c.request = append(c.request, step{secure: newRedirect(to)})
		case f.HSTS != nil:
			c.hsts = f.HSTS.Value
		case f.CORS != nil:
			c.request = append(c.request, step{cors: newCORS(f.CORS)})
		case f.Answer != nil:
			c.request = append(c.request, step{answer: &Answer{Status: f.Answer.Status, Reason: f.Answer.Reason}})
		}
	}
	return c, nil
}

// Refuse returns a chain that answers every request: what stands in for filters that can't be compiled. status is 200 to
// 599, reason a token.
func Refuse(status int, reason string) *Chain {
	return &Chain{request: []step{{answer: &Answer{Status: status, Reason: reason}}}}
}

// Request runs the filters on a request. A non-nil answer ends the exchange; it is valid until the next use of ctx and
// the next edit of req. Nothing is allocated beyond what req's arena grows by.
func (c *Chain) Request(req *message.Request, ctx *Context) *Answer {
	if c == nil {
		return nil
	}
	for i := range c.request {
		switch s := &c.request[i]; {
		case s.edit != nil:
			s.edit.request(req)
		case s.rewrite != nil:
			s.rewrite.apply(req, ctx)
		case s.redirect != nil:
			return ctx.redirect(s.redirect, req)
		case s.secure != nil:
			if ctx.Scheme != message.SchemeHTTPS {
				return ctx.redirect(s.secure, req)
			}
		case s.cors != nil:
			if a := ctx.judge(s.cors, req); a != nil {
				return a
			}
		default:
			return s.answer
		}
	}
	return nil
}

func (ctx *Context) redirect(r *redirect, req *message.Request) *Answer {
	ctx.answer = Answer{Status: r.status, Reason: reasonRedirect, Location: r.location(req, ctx)}
	return &ctx.answer
}

// HSTS is the value of Strict-Transport-Security for responses over HTTPS; empty for none.
func (c *Chain) HSTS() string {
	if c == nil {
		return ""
	}
	return c.hsts
}

// Response runs the filters on a response head: a back end's, or one that answers a redirect.
func (c *Chain) Response(resp *message.Response) {
	if c == nil {
		return
	}
	for _, e := range c.response {
		e.apply(&resp.Head)
	}
}

// EditsResponse reports whether Response changes anything, so that callers can skip it.
func (c *Chain) EditsResponse() bool { return c != nil && len(c.response) > 0 }
