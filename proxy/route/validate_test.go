package route

import (
	"strings"
	"testing"

	"rauta.io/rauta/proxy/config"
)

func TestAMatchThatCannotBeBuiltIsRefusedWithAReason(t *testing.T) {
	for _, c := range []struct {
		match config.Match
		want  string // part of the error; empty: accepted
	}{
		{prefix("/"), ""},
		{exact("/a?b"), ""},
		{prefix("a"), `path "a": start it with "/"`},
		{exact(""), `start it with "/"`},
		{exact("/" + strings.Repeat("a", pathBytesMax)), "shorten it to at most 8192"},
		{config.Match{}, `path kind ""`},
		{config.Match{Path: config.PathMatch{Kind: "Glob", Value: "/"}}, `path kind "Glob": use Exact, Prefix, Regex or GRPC`},
		{regexPath(""), ""},
		{regexPath(strings.Repeat("a", regexPatternMax)), ""},
		{regexPath(strings.Repeat("a", regexPatternMax+1)), "the pattern has 4097 bytes"},
		{regexPath("("), "missing closing )"},
		{regexPath("a)(b"), "unexpected )"},
		{regexPath("(?=a)"), "invalid or unsupported Perl syntax"},
		{regexPath(`(a)\1`), "invalid escape sequence"},
		{regexPath(`\Qa(`), ""},
		{regexPath("((a{100}){100})"), "invalid repeat count"},
		{regexPath("(a{30}b{30}c{30}){30}(a{30}b{30}c{30}){30}"), "use smaller repetition counts"},
		{with(prefix("/"), "PURGE"), ""},
		{with(prefix("/"), "GET "), `method "GET "`},
		{with(prefix("/"), "h:x-a=1", "q:é=1"), ""},
		{with(prefix("/"), "h:X-A=1"), `header "X-A": use a field name in lower case`},
		{with(prefix("/"), "h:=1"), `header ""`},
		{with(prefix("/"), "h:content-length=1"), `header "content-length": the framing`},
		{with(prefix("/"), "h:transfer-encoding=chunked"), "the framing"},
		{with(prefix("/"), "h~:x-a=["), `header "x-a", value "[": compile the pattern as RE2`},
		{with(prefix("/"), "q:=1"), `query parameter "": give it a name`},
		{with(prefix("/"), "q~:a=*"), `query parameter "a", value "*"`},
		{with(prefix("/"), strings.Split(strings.Repeat("h:x-a=1 ", 65), " ")[:65]...), "use at most 64"},
	} {
		err := ValidateMatch(&c.match)
		_, buildErr := Build([]Entry{on("", prefix("/")), {Hostname: "a.com", Match: c.match, Rule: 7}})
		if c.want == "" {
			if err != nil || buildErr != nil {
				t.Errorf("%.100v: %v, Build: %v", c.match, err, buildErr)
			}
			continue
		}
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%.100v: %v, want %q", c.match, err, c.want)
		}
		if buildErr == nil || !strings.HasPrefix(buildErr.Error(), `entry 1 (hostname "a.com", rule 7): `) || !strings.Contains(buildErr.Error(), c.want) {
			t.Errorf("%.100v: Build: %v, want %q", c.match, buildErr, c.want)
		}
	}
}
