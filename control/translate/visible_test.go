package translate

import "testing"

func TestNoMessageHasCharactersThatTerminalsAndReadersOfLogsObey(t *testing.T) {
	for text, want := range map[string]string{
		"a route, \"ä\" `x`":            "a route, \"ä\" `x`",
		"a\nlevel=ERROR msg=forged\r\n": `a\nlevel=ERROR msg=forged\r\n`,
		"\x1b[31mred":                   `\x1b[31mred`,
		"x\x00y\u2028\u202ez":           `x\x00y\u2028\u202ez`,
	} {
		var problems []Problem
		reporter{out: &problems}.errorf("spec", "", "%s", text)
		if got := problems[0].Message; got != want {
			t.Errorf("a problem says %q, not %q", got, want)
		}
		if got := condition("Accepted", false, "Invalid", 1, text).Message; got != want {
			t.Errorf("a condition says %q, not %q", got, want)
		}
	}
}
