package lane

import (
	"io"
	"strings"

	"github.com/valyala/fasthttp"

	"rauta.io/rauta/proxy/message"
)

// Action is what is to happen to the request.
type Action uint8

// Actions.
const (
	// ActionAnswer: the client gets Status, Fields and Body.
	ActionAnswer Action = iota
	// ActionContinue: the request goes on, with the edits.
	ActionContinue
)

// Verdict is the outcome of a job.
type Verdict struct {
	Action Action
	// Status, Fields and Body of an answer. Fields do not have those that say how the body is framed, nor Date and
	// Server, which the exchange sets.
	Status int
	Fields []Field
	Body   []byte
	// Reason is a token for logs and metrics when the lane answered instead of the handler, else "".
	Reason string

	edits   []edit
	invalid bool
}

// Field is a field of an answer.
type Field struct{ Name, Value string }

type editKind uint8

const (
	editSet editKind = iota
	editRemove
)

type edit struct {
	kind        editKind
	name, value string
}

func failed(status int, reason string) *Verdict { return &Verdict{Status: status, Reason: reason} }

// Apply edits the head of the request as the handler asked with SetField and RemoveField.
func (v *Verdict) Apply(h *message.Head) {
	for _, e := range v.edits {
		id := message.LookupIDString(e.name)
		if e.kind == editRemove {
			h.RemoveName(strings.ToLower(e.name), id)
			continue
		}
		h.Set(e.name, e.value, id)
	}
}

// stateKey is the user value under which a handler's wishes are kept.
type stateKey struct{}

// state is what Continue, SetField and RemoveField have collected.
type state struct {
	goesOn  bool
	edits   []edit
	invalid bool
}

func stateOf(ctx *fasthttp.RequestCtx) *state {
	s, _ := ctx.UserValue(stateKey{}).(*state)
	if s == nil {
		s = &state{}
		ctx.SetUserValue(stateKey{}, s)
	}
	return s
}

// Continue lets the request go on when the handler returns, whatever it has written to ctx.Response.
func Continue(ctx *fasthttp.RequestCtx) { stateOf(ctx).goesOn = true }

// SetField replaces the fields of the name by one in the request that goes on. Edits of ctx.Request do not reach it. A
// name or value that can't be sent (RFC 9110 section 5), or a name that the proxy keeps to itself because it frames or
// addresses the message, turns the outcome into a 500: a handler that adds who the user is must not fail silently.
func SetField(ctx *fasthttp.RequestCtx, name, value string) {
	s := stateOf(ctx)
	s.invalid = s.invalid || !validName(name) || !validValue(value) || reserved(name)
	s.edits = append(s.edits, edit{editSet, name, value})
}

// RemoveField removes the fields of the name from the request that goes on.
func RemoveField(ctx *fasthttp.RequestCtx, name string) {
	s := stateOf(ctx)
	s.invalid = s.invalid || !validName(name) || reserved(name)
	s.edits = append(s.edits, edit{kind: editRemove, name: name})
}

// reserved fields are the typed parts of a head.
func reserved(name string) bool {
	switch message.LookupIDString(name) {
	case message.Host, message.ContentLength, message.TransferEncoding, message.Connection, message.KeepAlive,
		message.ProxyConnection, message.Upgrade, message.Trailer, message.TE, message.Expect, message.HTTP2Settings:
		return true
	}
	return false
}

// validName reports whether s is a token (RFC 9110 section 5.6.2).
func validName(s string) bool {
	for i := 0; i < len(s); i++ {
		c := s[i]
		alphanumeric := '0' <= c && c <= '9' || 'A' <= c && c <= 'Z' || 'a' <= c && c <= 'z'
		if !alphanumeric && strings.IndexByte("!#$%&'*+-.^_`|~", c) < 0 {
			return false
		}
	}
	return s != ""
}

// validValue reports whether s is a field value without surrounding space (RFC 9110 section 5.5).
func validValue(s string) bool {
	for i := 0; i < len(s); i++ {
		if c := s[i]; c < ' ' && c != '\t' || c == 0x7f {
			return false
		}
	}
	return strings.Trim(s, " \t") == s
}

// verdictOf reads the outcome off a context whose handler has returned. Everything is copied.
func verdictOf(ctx *fasthttp.RequestCtx) *Verdict {
	s := stateOf(ctx)
	if s.invalid {
		return invalid("lane_bad_field")
	}
	if ctx.Hijacked() {
		return invalid("lane_hijack") // there is no connection to be had off the loop
	}
	if s.goesOn {
		return &Verdict{Action: ActionContinue, edits: s.edits}
	}
	resp := &ctx.Response
	if timedOut := ctx.LastTimeoutErrorResponse(); timedOut != nil {
		resp = timedOut
	}
	v := &Verdict{Status: resp.StatusCode()}
	if v.Status < 200 || v.Status > 599 {
		return invalid("lane_bad_status")
	}
	for name, value := range resp.Header.All() {
		field := Field{string(name), string(value)}
		switch id := message.LookupIDString(field.Name); {
		case reserved(field.Name) || id == message.Date || id == message.Server:
			continue
		case !validName(field.Name) || !validValue(field.Value):
			return invalid("lane_bad_field")
		}
		v.Fields = append(v.Fields, field)
	}
	body, ok := bodyOf(resp)
	if !ok {
		return invalid("lane_bad_body")
	}
	v.Body = body
	return v
}

func invalid(reason string) *Verdict {
	v := failed(fasthttp.StatusInternalServerError, reason)
	v.invalid = true
	return v
}

// bodyOf reads the body of an answer, which may be a stream; ok is false when it is too large or can't be read.
func bodyOf(resp *fasthttp.Response) (body []byte, ok bool) {
	stream := resp.BodyStream()
	if stream == nil {
		body = append(body, resp.Body()...)
		return body, len(body) <= AnswerBytesMax
	}
	defer resp.CloseBodyStream()
	body, err := io.ReadAll(io.LimitReader(stream, AnswerBytesMax+1))
	return body, err == nil && len(body) <= AnswerBytesMax
}
