package route

import (
	"bytes"
	"errors"
	"fmt"
	"regexp"
	"regexp/syntax"
	"strings"

	"rauta.io/rauta/proxy/config"
)

// Limits of a match. A regex is code that the author of a route runs on the event loop: both its size and its input are
// bounded, and RE2 makes the time at most their product.
const (
	// regexPatternMax is the longest regex in bytes.
	regexPatternMax = 4 << 10
	// regexInstructionsMax bounds what a short pattern can expand to by counted repetition, in instructions of the
	// compiled program. A literal of regexPatternMax bytes fits.
	regexInstructionsMax = 5000
	// regexInputMax is the longest value, in bytes, that a regex sees; a longer one doesn't match.
	regexInputMax = 8 << 10
	// regexWorkMax is what the regexes of one look-up may cost together: instructions of each times bytes of what it sees.
	// A step takes up to 28 ns where all of a program is alive at every byte, and a hundredth of that in common patterns; the
	// worst look-up holds its event loop up for 0.1 s. A hundred patterns of 50 instructions see 800 bytes each.
	regexWorkMax = 4 << 20
	// pathBytesMax is the longest path of a match in bytes. node.depth has to hold it.
	pathBytesMax = 8 << 10
	// valueMatchesMax is the number of header matches, and of query matches, in one match (Gateway API allows 16).
	valueMatchesMax = 64
)

// regex matches whole values.
type regex struct {
	re *regexp.Regexp
	// prefix is the literal text that every match starts with. Most values fail on it, at a fraction of the cost.
	prefix []byte
	size   int // instructions
}

// match takes what it costs from work, and does nothing if there is not as much left.
func (r *regex) match(value []byte, work *int) bool {
	if len(value) > regexInputMax || !bytes.HasPrefix(value, r.prefix) {
		return false
	}
	if *work -= r.size * len(value); *work < 0 {
		return false
	}
	return r.re.Match(value)
}

// compileRegex compiles pattern (RE2) so that it matches whole values only.
func compileRegex(pattern string) (regex, error) {
	if len(pattern) > regexPatternMax {
		return regex{}, fmt.Errorf("the pattern has %d bytes: shorten it to at most %d", len(pattern), regexPatternMax)
	}
	// Compiled by itself first: "a)(b" is no regex, although it becomes one in the parentheses below.
	open, err := regexp.Compile(pattern)
	if err != nil {
		return regex{}, fmt.Errorf("compile the pattern as RE2: %w", err)
	}
	parsed, err := syntax.Parse(pattern, syntax.Perl)
	if err != nil {
		return regex{}, fmt.Errorf("parse the pattern as RE2: %w", err)
	}
	text := pattern
	if strings.Contains(pattern, `\Q`) {
		text = parsed.String() // an open \Q would swallow the parenthesis
	}
	prog, err := syntax.Compile(parsed.Simplify())
	if err != nil {
		return regex{}, fmt.Errorf("compile the pattern as RE2: %w", err)
	}
	if len(prog.Inst) > regexInstructionsMax {
		return regex{}, fmt.Errorf("the pattern expands to %d instructions, more than %d: use smaller repetition counts",
			len(prog.Inst), regexInstructionsMax)
	}
	whole, err := regexp.Compile("^(?:" + text + ")$")
	if err != nil {
		return regex{}, fmt.Errorf("compile the pattern as RE2: %w", err)
	}
	prefix, _ := open.LiteralPrefix()
	return regex{re: whole, prefix: []byte(prefix), size: len(prog.Inst)}, nil
}

// ValidateMatch reports what keeps Build from accepting a match: a path that doesn't start with "/", names that are no
// tokens (RFC 9110 section 5.6.2), a regex that isn't RE2 or is too large.
func ValidateMatch(m *config.Match) error {
	return validate(m, func(pattern string) error {
		_, err := compileRegex(pattern)
		return err
	})
}

// validate checks a match; compile is called for each of its regexes.
func validate(m *config.Match, compile func(pattern string) error) error {
	switch m.Path.Kind {
	case config.PathExact, config.PathPrefix:
		if !strings.HasPrefix(m.Path.Value, "/") {
			return fmt.Errorf("path %q: start it with \"/\"", m.Path.Value)
		}
		if len(m.Path.Value) > pathBytesMax {
			return fmt.Errorf("path of %d bytes: shorten it to at most %d", len(m.Path.Value), pathBytesMax)
		}
	case config.PathRegex, config.PathGRPC:
		if err := compile(m.Path.Value); err != nil {
			return fmt.Errorf("path %q: %w", clip(m.Path.Value), err)
		}
	default:
		return fmt.Errorf("path kind %q: use %s, %s, %s or %s", m.Path.Kind, config.PathExact, config.PathPrefix,
			config.PathRegex, config.PathGRPC)
	}
	if m.Method != "" && !isToken(m.Method) {
		return fmt.Errorf("method %q: use a token, such as GET", m.Method)
	}
	if err := validateValues("header", m.Headers, compile, func(name string) error {
		switch {
		case !isToken(name) || name != strings.ToLower(name):
			return errors.New("use a field name in lower case")
		case name == "content-length" || name == "transfer-encoding":
			return errors.New("the framing of a message can't be matched: remove it")
		}
		return nil
	}); err != nil {
		return err
	}
	return validateValues("query parameter", m.Query, compile, func(name string) error {
		if name == "" {
			return errors.New("give it a name")
		}
		return nil
	})
}

func validateValues(what string, values []config.ValueMatch, compile, name func(string) error) error {
	if len(values) > valueMatchesMax {
		return fmt.Errorf("%d %s matches: use at most %d", len(values), what, valueMatchesMax)
	}
	for i := range values {
		v := &values[i]
		if err := name(v.Name); err != nil {
			return fmt.Errorf("%s %q: %w", what, clip(v.Name), err)
		}
		if !v.Regex {
			continue
		}
		if err := compile(v.Value); err != nil {
			return fmt.Errorf("%s %q, value %q: %w", what, clip(v.Name), clip(v.Value), err)
		}
	}
	return nil
}

// clip keeps messages readable when a pattern is refused for its length.
func clip(s string) string {
	const most = 100
	if len(s) <= most {
		return s
	}
	return s[:most] + "..."
}

// isToken reports whether s is a token (RFC 9110 section 5.6.2).
func isToken(s string) bool {
	for i := 0; i < len(s); i++ {
		c := s[i]
		alnum := '0' <= c && c <= '9' || 'a' <= c|0x20 && c|0x20 <= 'z'
		if !alnum && strings.IndexByte("!#$%&'*+-.^_`|~", c) < 0 {
			return false
		}
	}
	return s != ""
}
