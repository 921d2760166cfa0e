package translate

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"rauta.io/rauta/proxy/config"
)

// Annotations of routes whose kinds have no field or filter for it.
const (
	annotationCORSOrigins     = annotationPrefix + "cors-allow-origins"
	annotationCORSMethods     = annotationPrefix + "cors-allow-methods"
	annotationCORSHeaders     = annotationPrefix + "cors-allow-headers"
	annotationCORSExpose      = annotationPrefix + "cors-expose-headers"
	annotationCORSCredentials = annotationPrefix + "cors-allow-credentials"
	annotationCORSMaxAge      = annotationPrefix + "cors-max-age"
	annotationMirror          = annotationPrefix + "mirror"
	annotationRetryAttempts   = annotationPrefix + "retry-attempts"
	annotationRetryBackoff    = annotationPrefix + "retry-backoff"
	annotationRetryCodes      = annotationPrefix + "retry-codes"
	annotationTraceSampling   = annotationPrefix + "trace-sampling"
)

const (
	// listMax bounds the entries of a list, as the Gateway API does.
	listMax = 64
	// corsMaxAgeMax is a day in seconds; browsers remember a preflight for less.
	corsMaxAgeMax = 86400
)

func corsAnnotations(kinds []string) []Annotation {
	const without = "; has no effect without cors-allow-origins"
	return []Annotation{{
		Name: annotationCORSOrigins, Kinds: kinds, Type: "`*`, or comma-separated list of up to 64 origins such as `https://www.example.com`",
		Default: "CORS is the business of the back end", OnInvalid: "pages of no other origin may read responses",
		Doc: "Pages of which origins may read responses. `https://*.example.com` stands for all names below, `https://*` for " +
			"all names; a port is 443 or 80 if it is missing. Preflights are answered by RAUTA, and Access-Control-* fields of the " +
			"back end are removed. With an HTTPRoute use a CORS filter.",
		admits:   celListOf(celOrigin, originBytesMax),
		validate: func(v string) error { _, err := parseOrigins(v); return err },
	}, {
		Name: annotationCORSMethods, Kinds: kinds, Type: "`*`, or comma-separated list of up to 64 methods such as `PUT`",
		Default: "GET, HEAD and POST, which need no permission", OnInvalid: "the default",
		Doc:      "Which methods such pages may use" + without + ".",
		admits:   celListOf(celToken, nameBytesMax),
		validate: func(v string) error { _, err := parseTokens(v); return err },
	}, {
		Name: annotationCORSHeaders, Kinds: kinds, Type: "`*`, or comma-separated list of up to 64 header names",
		Default: "those that need no permission", OnInvalid: "the default",
		Doc:      "Which header fields such pages may set" + without + ".",
		admits:   celListOf(celToken, nameBytesMax),
		validate: func(v string) error { _, err := parseTokens(v); return err },
	}, {
		Name: annotationCORSExpose, Kinds: kinds, Type: "`*`, or comma-separated list of up to 64 header names",
		Default: "those that need no permission", OnInvalid: "the default",
		Doc:      "Which header fields of responses such pages may read; `*` means nothing with cors-allow-credentials" + without + ".",
		admits:   celListOf(celToken, nameBytesMax),
		validate: func(v string) error { _, err := parseTokens(v); return err },
	}, {
		Name: annotationCORSCredentials, Kinds: kinds, Type: "`true` or `false`",
		Default: "`false`", OnInvalid: "the default",
		Doc:      "Whether such pages may act with the cookies of the user" + without + ".",
		admits:   celOneOf("true", "false"),
		validate: func(v string) error { _, err := parseBool(v); return err },
	}, {
		Name: annotationCORSMaxAge, Kinds: kinds, Type: "number of seconds from 1 to 86400",
		Default: "5", OnInvalid: "the default",
		Doc:      "How long browsers may remember the answer to a preflight" + without + ".",
		admits:   celNumber(1, corsMaxAgeMax),
		validate: func(v string) error { _, err := parseNumber(v, 1, corsMaxAgeMax); return err },
	}}
}

func retryAnnotations(kinds []string) []Annotation {
	return []Annotation{{
		Name: annotationRetryAttempts, Kinds: kinds, Type: "number from 0 to 100",
		Default: "1", OnInvalid: "the default",
		Doc: "How many attempts there may be after the first one, within the retry budget. 0 switches retries off. With an " +
			"HTTPRoute use `retry`.",
		admits:   celNumber(0, config.RetryAttemptsMax),
		validate: func(v string) error { _, err := parseNumber(v, 0, config.RetryAttemptsMax); return err },
	}, {
		Name: annotationRetryBackoff, Kinds: kinds, Type: "duration from 1ms to 10m",
		Default: "25ms", OnInvalid: "the default",
		Doc: "The least time between two attempts. It doubles with each up to eight times that. Without it the first failure of " +
			"a connection is tried elsewhere at once.",
		admits:   celDuration(false) + ` && duration(@) <= duration("10m")`,
		validate: func(v string) error { _, err := parseBackoff(v); return err },
	}, {
		Name: annotationRetryCodes, Kinds: kinds, Type: "comma-separated list of up to 64 statuses from 400 to 599",
		Default: "none", OnInvalid: "the default",
		Doc: "Statuses of responses that are not passed on while another attempt may be made, whatever the method. Failures for " +
			"which RAUTA would answer with one of them (502, 503, 504) are tried again for idempotent methods.",
		admits:   `@.split(",").size() <= 64 && @.split(",").all(c, c.trim().matches("^[45][0-9]{2}$"))`,
		validate: func(v string) error { _, err := parseCodes(v); return err },
	}}
}

func mirrorAnnotation() Annotation {
	return Annotation{
		Name: annotationMirror, Kinds: []string{kindIngress}, Type: "`SERVICE:PORT`, a Service in the namespace of the Ingress and its port by number or name",
		Default: "no mirror", OnInvalid: "the default",
		Doc: "Gets a copy of every request that is forwarded; its answers are thrown away, and requests never wait for it. With " +
			"Gateway API use a RequestMirror filter.",
		admits:   `@.matches("^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?:[a-z0-9]([a-z0-9-]{0,13}[a-z0-9])?$")`,
		validate: func(v string) error { _, _, err := parseMirror(v); return err },
	}
}

func traceAnnotation(kinds []string) Annotation {
	return Annotation{
		Name: annotationTraceSampling, Kinds: kinds, Type: "percentage from 0 to 100 with up to four decimals, such as `0.5`",
		Default: "what `--trace-sampling` says", OnInvalid: "the default",
		Doc: "How many of the traces that begin with requests of this object are marked as sampled. Where the client has decided " +
			"for or against it, that is kept. Has no effect without `--trace-propagate`: see [tracing.md](tracing.md).",
		admits:   `@.matches("^[0-9]{1,3}(\\.[0-9]{1,4})?$") && double(@) <= 100.0`,
		validate: func(v string) error { _, err := parsePercentage(v); return err },
	}
}

// celToken and celOrigin are one entry of a list.
const (
	celToken  = "[!#$%&'*+.^_`|~0-9A-Za-z-]{1,256}"
	celLabel  = `[A-Za-z0-9_]([A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?`
	celPort   = `([1-9][0-9]{0,3}|[1-5][0-9]{4}|6[0-4][0-9]{3}|65[0-4][0-9]{2}|655[0-2][0-9]|6553[0-5])`
	celOrigin = `[Hh][Tt][Tt][Pp][Ss]?://((\\*\\.)?` + celLabel + `(\\.` + celLabel + `)*|\\*)(:` + celPort + `)?`
)

// originBytesMax is that of the Gateway API.
const originBytesMax = 253

// celListOf is true of "*" and of a list of what the pattern takes.
func celListOf(one string, bytesMax int) string {
	return fmt.Sprintf(`@.trim() == "*" || @.split(",").size() <= %d && @.split(",").all(e, e.trim() != "*" && e.trim().size() <= %d && e.trim().matches("^%s$"))`,
		listMax, bytesMax, one)
}

// parseList takes a list apart; "*" must be alone.
func parseList(v string, check func(string) error) ([]string, error) {
	parts := strings.Split(v, ",")
	if len(parts) > listMax {
		return nil, fmt.Errorf("has more than %d entries", listMax)
	}
	for i := range parts {
		parts[i] = strings.TrimSpace(parts[i])
		if parts[i] == "*" {
			if len(parts) > 1 {
				return nil, errors.New(`has "*", which stands for everything, among others`)
			}
			continue
		}
		if err := check(parts[i]); err != nil {
			return nil, fmt.Errorf("has the entry %q, which %w", clip(parts[i]), err)
		}
	}
	return parts, nil
}

func parseTokens(v string) ([]string, error) {
	return parseList(v, func(name string) error {
		if problem := tokenError(name); problem != "" {
			return errors.New(problem)
		}
		return nil
	})
}

func parseOrigins(v string) ([]string, error) {
	list, err := parseList(v, func(origin string) error {
		one := config.Filter{CORS: &config.CORS{AllowOrigins: []string{strings.ToLower(origin)}}}
		ascii := strings.IndexFunc(origin, func(r rune) bool { return r > '~' }) < 0 // some letters become ASCII in lower case
		if !ascii || len(origin) > originBytesMax || config.CheckFilter(&one) != nil {
			return errors.New("is not an origin such as https://www.example.com or https://*.example.com:8443")
		}
		return nil
	})
	for i := range list {
		list[i] = strings.ToLower(list[i])
	}
	return list, err
}

func parseBool(v string) (bool, error) {
	if v != "true" && v != "false" {
		return false, errors.New("is not true or false")
	}
	return v == "true", nil
}

func parseNumber(v string, least, most int) (int, error) {
	n, err := strconv.Atoi(v)
	if err != nil || n < least || n > most {
		return 0, fmt.Errorf("is not a number from %d to %d", least, most)
	}
	return n, nil
}

// parsePercentage takes up to four decimals, which is 1 in a million.
func parsePercentage(v string) (float64, error) {
	whole, decimals, dotted := strings.Cut(v, ".")
	f, err := strconv.ParseFloat(v, 64)
	if err != nil || f > 100 || !onlyDigits(whole, 3) || dotted && !onlyDigits(decimals, 4) {
		return 0, errors.New("is not a percentage from 0 to 100")
	}
	return f, nil
}

// onlyDigits reports whether v has from one to most characters, all of them digits.
func onlyDigits(v string, most int) bool {
	return len(v) >= 1 && len(v) <= most && strings.Trim(v, "0123456789") == ""
}

func parseBackoff(v string) (config.Duration, error) {
	d, err := parseTimeout(v, false)
	if err == nil && d > config.RetryBackoffMax {
		return 0, fmt.Errorf("is longer than %s", time.Duration(config.RetryBackoffMax))
	}
	return d, err
}

func parseCodes(v string) ([]int, error) {
	var out []int
	parts := strings.Split(v, ",")
	if len(parts) > listMax {
		return nil, fmt.Errorf("has more than %d entries", listMax)
	}
	for _, part := range parts {
		part = strings.TrimSpace(part)
		n, err := parseNumber(part, config.RetryCodeMin, config.RetryCodeMax)
		if err != nil || len(part) != len("503") {
			return nil, fmt.Errorf("has the entry %q, which is not a status from %d to %d", clip(part), config.RetryCodeMin, config.RetryCodeMax)
		}
		out = append(out, n)
	}
	return out, nil
}

// Lengths of names: of a Service (RFC 1035 section 2.3.4), and of a port that can be a container's, too (RFC 6335 section 5.1).
const (
	serviceNameBytesMax = 63
	portNameBytesMax    = 15
)

func parseMirror(v string) (service, port string, err error) {
	service, port, _ = strings.Cut(v, ":")
	if strings.ContainsAny(v, "._") || !validName(service) || !validName(port) || len(service) > serviceNameBytesMax || len(port) > portNameBytesMax {
		return "", "", errors.New("does not have the form SERVICE:PORT")
	}
	return service, port, nil
}

// corsOf returns the policy of an object's annotations, nil for none.
func corsOf(values map[string]string) *config.CORS {
	origins, set := values[annotationCORSOrigins]
	if !set {
		return nil
	}
	out := &config.CORS{}
	list, err := parseOrigins(origins)
	if err != nil {
		return out // nobody
	}
	out.AllowOrigins = list
	out.AllowMethods, _ = parseTokens(values[annotationCORSMethods])
	out.AllowHeaders, _ = parseTokens(values[annotationCORSHeaders])
	out.ExposeHeaders, _ = parseTokens(values[annotationCORSExpose])
	out.AllowCredentials, _ = parseBool(values[annotationCORSCredentials])
	out.MaxAge, _ = parseNumber(values[annotationCORSMaxAge], 1, corsMaxAgeMax)
	if out.AllowCredentials {
		out.ExposeHeaders = slices.DeleteFunc(out.ExposeHeaders, func(name string) bool { return name == "*" })
	}
	return out
}

// retryOf returns the retries of an object's annotations, nil for the default.
func retryOf(values map[string]string) *config.Retry {
	attempts, err := parseNumber(values[annotationRetryAttempts], 0, config.RetryAttemptsMax)
	if err != nil {
		attempts = retryAttemptsDefault
	}
	backoff, _ := parseBackoff(values[annotationRetryBackoff])
	codes, _ := parseCodes(values[annotationRetryCodes])
	if err != nil && backoff == 0 && len(codes) == 0 {
		return nil
	}
	return &config.Retry{Attempts: attempts, Codes: codes, Backoff: backoff}
}
