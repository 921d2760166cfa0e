package config

import (
	"errors"
	"fmt"
	"strings"
)

// editsMax bounds the header edits of one filter; the Gateway API allows 16 of each kind.
const editsMax = 64

// CheckFilter says what is wrong with a filter, or nil. Control uses it to refuse an object with a clear status;
// proxy/filter uses it so that nothing unchecked ever reaches a message.
func CheckFilter(f *Filter) error {
	set := 0
	var err error
	if f.RequestHeaders != nil {
		set++
		err = within("requestHeaders", checkHeaderEdit(f.RequestHeaders, true))
	}
	if f.ResponseHeaders != nil {
		set++
		err = within("responseHeaders", checkHeaderEdit(f.ResponseHeaders, false))
	}
	if f.Redirect != nil {
		set++
		err = within("redirect", checkRedirect(f.Redirect))
	}
	if f.Rewrite != nil {
		set++
		err = within("rewrite", checkRewrite(f.Rewrite))
	}
	if f.Answer != nil {
		set++
		err = within("answer", checkAnswer(f.Answer))
	}
	if f.GRPCWeb != nil {
		set++
	}
	if f.RequireHTTPS != nil {
		set++
		err = within("requireHTTPS", checkRedirect(&Redirect{Scheme: "https", Port: f.RequireHTTPS.Port, Status: f.RequireHTTPS.Status}))
	}
	if f.HSTS != nil {
		set++
		if value, problem := ParseHSTS(f.HSTS.Value); problem != nil || value != f.HSTS.Value {
			err = within("hsts", fmt.Errorf("%q is not a policy in canonical form", f.HSTS.Value))
		}
	}
	if f.CORS != nil {
		set++
		err = within("cors", checkCORS(f.CORS))
	}
	if f.Mirror != nil {
		set++
		err = within("mirror", checkMirror(f.Mirror))
	}
	if set != 1 {
		return fmt.Errorf("a filter sets exactly one of its fields, this one sets %d", set)
	}
	return err
}

func checkMirror(m *Mirror) error {
	switch {
	case m.Cluster == "":
		return errors.New("no cluster")
	case m.Numerator > m.Denominator:
		return fmt.Errorf("%d of %d requests is more than all", m.Numerator, m.Denominator)
	}
	return nil
}

func within(field string, err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("%s: %w", field, err)
}

// isProtected reports whether a field belongs to the connection or frames the message (RFC 9110 section 7.6.1,
// RFC 9112 section 6). The proxy writes these itself; a filter that could would open request smuggling.
func isProtected(lowerName string) bool {
	switch lowerName {
	case "connection", "keep-alive", "proxy-connection", "te", "trailer", "transfer-encoding", "upgrade",
		"content-length", "http2-settings", "expect":
		return true
	}
	return false
}

func checkHeaderEdit(e *HeaderEdit, request bool) error {
	if len(e.Set)+len(e.Add)+len(e.Remove) > editsMax {
		return fmt.Errorf("more than %d header edits in one filter", editsMax)
	}
	for i, h := range e.Set {
		if request && strings.EqualFold(h.Name, "host") {
			if err := checkAuthority(h.Value); err != nil {
				return fmt.Errorf("set[%d]: %w", i, err)
			}
			continue
		}
		if err := checkHeader(h); err != nil {
			return fmt.Errorf("set[%d]: %w", i, err)
		}
	}
	for i, h := range e.Add {
		if err := checkHeader(h); err != nil {
			return fmt.Errorf("add[%d]: %w", i, err)
		}
	}
	for i, name := range e.Remove {
		if err := checkEditable(name); err != nil {
			return fmt.Errorf("remove[%d]: %w", i, err)
		}
	}
	return nil
}

func checkHeader(h Header) error {
	if err := checkEditable(h.Name); err != nil {
		return err
	}
	return CheckFieldValue(h.Value)
}

func checkEditable(name string) error {
	if err := CheckFieldName(name); err != nil {
		return err
	}
	lowerName := strings.ToLower(name)
	if lowerName == "host" {
		return errors.New("host can only be set on a request; to change what is forwarded, set it or use a rewrite's hostname")
	}
	if isProtected(lowerName) {
		return fmt.Errorf("header %q belongs to the connection; the proxy writes it and it can't be edited", name)
	}
	return nil
}

func checkRedirect(r *Redirect) error {
	switch r.Scheme {
	case "", "http", "https":
	default:
		return fmt.Errorf("scheme %q is not http or https", r.Scheme)
	}
	if r.Hostname != "" {
		if err := CheckHostname(r.Hostname, false); err != nil {
			return err
		}
	}
	switch r.Status {
	case 301, 302, 303, 307, 308:
	default:
		return fmt.Errorf("status %d is not one of 301, 302, 303, 307, 308", r.Status)
	}
	return within("path", checkPathModifier(r.Path))
}

func checkRewrite(r *Rewrite) error {
	if r.Hostname != "" {
		if err := CheckHostname(r.Hostname, false); err != nil {
			return err
		}
	}
	return within("path", checkPathModifier(r.Path))
}

func checkPathModifier(m *PathModifier) error {
	switch {
	case m == nil:
		return nil
	case m.Kind != PathExact && m.Kind != PathPrefix:
		return fmt.Errorf("kind %q is not %s or %s", m.Kind, PathExact, PathPrefix)
	case m.Value == "":
		return nil // an empty replacement removes the prefix; an empty whole path becomes "/" (RFC 9110 section 4.2.3)
	}
	return checkPath(m.Value)
}

func checkAnswer(a *Answer) error {
	if a.Status < 200 || a.Status > 599 {
		return fmt.Errorf("status %d is not between 200 and 599", a.Status)
	}
	if !isToken(a.Reason) || len(a.Reason) > reasonBytesMax {
		return fmt.Errorf("reason %q is not a token of at most %d bytes", a.Reason, reasonBytesMax)
	}
	return nil
}
