package translate

import (
	"regexp"
	"strings"
	"testing"
)

// TestTheAPIServerRefusesTheListsThatTranslateRefuses compares the patterns in the expressions for the API server with the
// functions that read the values.
func TestTheAPIServerRefusesTheListsThatTranslateRefuses(t *testing.T) {
	for _, c := range []struct {
		pattern  string
		bytesMax int
		parse    func(string) ([]string, error)
		values   string // separated by spaces; those that begin with ! are refused
	}{
		{celToken, nameBytesMax, parseTokens, "GET X-Header-1 a.b !a@b !a/b !(x) !é !a\x00 " + strings.Repeat("a", 256) + " !" + strings.Repeat("a", 257)},
		{celOrigin, originBytesMax, parseOrigins, "http://a https://A.Example HTTPS://a.example:1 https://*.a.example:65535 https://* https://*:8080 " +
			"http://127.0.0.1:3000 https://a_b.c !https://a:0 !https://a:080 !https://a:65536 !https://a: !https://-a !https://a- !https://a..b !https://*a " +
			"!https://a.*.b !ftp://a !a.example !https:// !https://a/ !https://a?b !https://[::1] !https://\u212a.example !http\u017f://a !null " +
			"https://" + strings.Repeat("a", 63) + ".b !https://" + strings.Repeat("a", 64) + ".b " +
			"https://" + strings.Repeat("a.", 122) + "b !https://" + strings.Repeat("a.", 123) + "b"},
	} {
		pattern := regexp.MustCompile("^" + strings.ReplaceAll(c.pattern, `\\`, `\`) + "$")
		for value := range strings.FieldsSeq(c.values) {
			value, refused := strings.CutPrefix(value, "!")
			_, err := c.parse(value)
			server := !pattern.MatchString(value) || len([]rune(value)) > c.bytesMax
			if (err != nil) != refused || server != refused {
				t.Errorf("%q: refused by Translate %t, by the API server %t, want %t", value, err != nil, server, refused)
			}
		}
	}
}

func TestAListIsBoundedAndHasNothingBesidesTheAsterisk(t *testing.T) {
	for value, valid := range map[string]bool{
		"*": true, " * ": true, "a,b": true, " a , b ": true, "": false, "a,": false, ",": false, "a,*": false, "*,*": false,
		strings.Repeat("a,", listMax-1) + "a": true, strings.Repeat("a,", listMax) + "a": false,
	} {
		if _, err := parseTokens(value); (err == nil) != valid {
			t.Errorf("%q: %v", value, err)
		}
	}
}

func TestPercentagesHaveAFixedForm(t *testing.T) {
	for text, want := range map[string]float64{"0": 0, "100": 100, "0.5": 0.5, "007.25": 7.25, "99.9999": 99.9999, "100.0": 100} {
		if got, err := parsePercentage(text); err != nil || got != want {
			t.Errorf("%q is %v, %v", text, got, err)
		}
	}
	for _, text := range []string{"", "-1", "+1", "100.0001", "101", "1e1", "0x1p3", "NaN", "Inf", ".5", "5.", "0.12345", "0001", "5%", " 5", "1_0"} {
		if got, err := parsePercentage(text); err == nil {
			t.Errorf("%q is %v", text, got)
		}
	}
}
