package config

import (
	"errors"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
)

// Limits of one CORS policy; the Gateway API allows 64 of each.
const (
	corsListMax = 64
	// corsMaxAgeMax is in seconds: that of the Gateway API. Browsers have smaller ones.
	corsMaxAgeMax = math.MaxInt32
)

// corsAny in place of a list stands for everything.
const corsAny = "*"

// CORS says which pages of other origins may read responses (Fetch standard, section 3.2), and answers their preflights.
type CORS struct {
	// AllowOrigins are "*" alone, or origins in lower case as "https://a.example", "https://*.a.example:8443" for any
	// number of labels, or "https://*". Without any, no other origin may.
	AllowOrigins []string `json:"allowOrigins,omitempty"`
	// AllowMethods and AllowHeaders are "*" alone, or what preflights are told.
	AllowMethods []string `json:"allowMethods,omitempty"`
	AllowHeaders []string `json:"allowHeaders,omitempty"`
	// ExposeHeaders are the fields that scripts may read; "*" only without AllowCredentials.
	ExposeHeaders []string `json:"exposeHeaders,omitempty"`
	// AllowCredentials lets requests carry cookies and the like.
	AllowCredentials bool `json:"allowCredentials,omitempty"`
	// MaxAge is how long a preflight may be remembered, in seconds; 0 means the default.
	MaxAge int `json:"maxAge,omitempty"`
}

func checkCORS(c *CORS) error {
	for _, list := range []struct {
		field  string
		values []string
		check  func(string) error
	}{
		{"allowOrigins", c.AllowOrigins, checkOrigin},
		{"allowMethods", c.AllowMethods, checkMethod},
		{"allowHeaders", c.AllowHeaders, CheckFieldName},
		{"exposeHeaders", c.ExposeHeaders, CheckFieldName},
	} {
		if len(list.values) > corsListMax {
			return fmt.Errorf("%s: more than %d values", list.field, corsListMax)
		}
		if len(list.values) > 1 && slices.Contains(list.values, corsAny) {
			return fmt.Errorf(`%s: "*" stands for everything; remove the others`, list.field)
		}
		for i, v := range list.values {
			if v == corsAny {
				continue
			}
			if err := list.check(v); err != nil {
				return fmt.Errorf("%s[%d]: %w", list.field, i, err)
			}
		}
	}
	switch {
	case c.AllowCredentials && slices.Contains(c.ExposeHeaders, corsAny):
		return errors.New(`exposeHeaders: "*" has no meaning with credentials; name the fields`)
	case c.MaxAge < 0 || c.MaxAge > corsMaxAgeMax:
		return fmt.Errorf("maxAge: %d is not between 0 and %d", c.MaxAge, corsMaxAgeMax)
	}
	return nil
}

func checkMethod(method string) error {
	if !isToken(method) {
		return fmt.Errorf("method %q is not a token", method)
	}
	return nil
}

func checkOrigin(origin string) error {
	scheme, host, port, ok := SplitOrigin(origin)
	if !ok || scheme != "http" && scheme != "https" {
		return fmt.Errorf("origin %q does not have the form https://host or https://host:port", origin)
	}
	if port != "" {
		if n, err := strconv.ParseUint(port, 10, 16); err != nil || n == 0 || port[0] == '0' {
			return fmt.Errorf("origin %q has a port that is not between 1 and 65535", origin)
		}
	}
	if host == corsAny {
		return nil
	}
	return CheckHostname(host, true)
}

// SplitOrigin takes an origin apart; port is empty if there is none.
func SplitOrigin(origin string) (scheme, host, port string, ok bool) {
	scheme, rest, ok := strings.Cut(origin, "://")
	if i := strings.LastIndexByte(rest, ':'); i >= 0 && strings.IndexByte(rest[i:], ']') < 0 {
		return scheme, rest[:i], rest[i+1:], ok && rest[i+1:] != ""
	}
	return scheme, rest, "", ok
}
