package config

import (
	"errors"
	"fmt"
	"strings"
)

// Limits of values in a configuration. They bound what one object can cost each request.
const (
	// hostnameBytesMax is the length of a DNS name in text (RFC 1035 section 2.3.4, without the root dot).
	hostnameBytesMax = 253
	// labelBytesMax is the length of one label (RFC 1035 section 2.3.4).
	labelBytesMax = 63
	// fieldNameBytesMax bounds a header field name, in bytes, as the Gateway API does.
	fieldNameBytesMax = 256
	// fieldValueBytesMax bounds a header field value, in bytes, as the Gateway API does.
	fieldValueBytesMax = 4096
	// pathBytesMax bounds a path in a match or a modifier, in bytes: twice the Gateway API's 1024, for Ingress, and with two
	// slashes for a gRPC service and method of that length.
	pathBytesMax = 2050
	// patternBytesMax bounds a regular expression for a path, in bytes: those of a gRPC service and method, 1024 each in the
	// Gateway API, make one.
	patternBytesMax = 4096
	// reasonBytesMax bounds Answer.Reason, which becomes a metrics label.
	reasonBytesMax = 64
)

// isTokenByte reports tchar (RFC 9110 section 5.6.2).
func isTokenByte(c byte) bool {
	switch {
	case 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z', '0' <= c && c <= '9':
		return true
	}
	return strings.IndexByte("!#$%&'*+-.^_`|~", c) >= 0
}

// isToken reports whether s is a token (RFC 9110 section 5.6.2).
func isToken(s string) bool {
	for i := 0; i < len(s); i++ {
		if !isTokenByte(s[i]) {
			return false
		}
	}
	return s != ""
}

// CheckFieldName says what is wrong with a header field name (RFC 9110 section 5.1), or nil.
func CheckFieldName(name string) error {
	switch {
	case name == "":
		return errors.New("header name is empty")
	case len(name) > fieldNameBytesMax:
		return fmt.Errorf("header name is longer than %d bytes", fieldNameBytesMax)
	case !isToken(name):
		return fmt.Errorf("header name %q has a character that RFC 9110 does not allow", name)
	}
	return nil
}

// CheckFieldValue says what is wrong with a header field value (RFC 9110 section 5.5), or nil. An empty one is valid.
func CheckFieldValue(value string) error {
	if len(value) > fieldValueBytesMax {
		return fmt.Errorf("header value is longer than %d bytes", fieldValueBytesMax)
	}
	for i := 0; i < len(value); i++ {
		if c := value[i]; c < ' ' && c != '\t' || c == 0x7f {
			return fmt.Errorf("header value has the control character %#02x at byte %d", c, i)
		}
	}
	if value != strings.Trim(value, " \t") {
		return errors.New("header value begins or ends with white space; remove it")
	}
	return nil
}

// CheckHostname says what is wrong with a host name, or nil: lower-case DNS labels (RFC 1123 section 2.1), and with
// wildcard also one leading "*." label. An underscore is allowed, as in DNS service names.
func CheckHostname(name string, wildcard bool) error {
	if len(name) > hostnameBytesMax {
		return fmt.Errorf("hostname is longer than %d bytes", hostnameBytesMax)
	}
	rest := name
	if wildcard {
		rest = strings.TrimPrefix(name, "*.")
	}
	for label := range strings.SplitSeq(rest, ".") {
		if !isLabel(label) {
			return fmt.Errorf("hostname %q is not valid; use lower-case labels of letters, digits and dashes", name)
		}
	}
	return nil
}

func isLabel(s string) bool {
	if s == "" || len(s) > labelBytesMax || s[0] == '-' || s[len(s)-1] == '-' {
		return false
	}
	for i := 0; i < len(s); i++ {
		c := s[i]
		if !('a' <= c && c <= 'z' || '0' <= c && c <= '9' || c == '-' || c == '_') {
			return false
		}
	}
	return true
}

// checkPath says what is wrong with an absolute path that requests are compared with or rewritten to, or nil
// (RFC 3986 section 3.3). Dot segments are refused because a request path never has them.
func checkPath(path string) error {
	switch {
	case len(path) > pathBytesMax:
		return fmt.Errorf("path is longer than %d bytes", pathBytesMax)
	case path == "" || path[0] != '/':
		return fmt.Errorf("path %q does not begin with a slash", path)
	}
	for i := 0; i < len(path); i++ {
		switch c := path[i]; {
		case c == '?' || c == '#':
			return fmt.Errorf("path %q has a query or fragment; a path modifier or match has none", path)
		case c <= ' ' || c == 0x7f || c == '\\':
			return fmt.Errorf("path %q has the character %#02x at byte %d; percent-encode it", path, c, i)
		}
	}
	for segment := range strings.SplitSeq(path, "/") {
		if segment == "." || segment == ".." {
			return fmt.Errorf("path %q has a dot segment; write the path that it resolves to", path)
		}
	}
	return nil
}

// checkAuthority says what is wrong with a value for Host: a host name or IPv4 address with an optional port.
func checkAuthority(value string) error {
	host, port, found := strings.Cut(value, ":")
	if found {
		if port == "" || len(port) > 5 || strings.Trim(port, "0123456789") != "" {
			return fmt.Errorf("host %q has a port that is not a number", value)
		}
	}
	return CheckHostname(strings.ToLower(host), false)
}
