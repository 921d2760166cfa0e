package message

import "testing"

func TestTargetsAreNormalisedOrRefused(t *testing.T) {
	for _, c := range []struct {
		in, path, query string
		problem         TargetProblem
	}{
		{"/", "/", "", TargetOK},
		{"/a/../b?x=1", "/b", "x=1", TargetOK},
		{"/a/%2e%2E/b", "/b", "", TargetOK},
		{"/a//b/./", "/a//b/", "", TargetOK},
		{"/a%2fb%5c\\;x", "/a%2fb%5c\\;x", "", TargetOK},
		{"/../..", "/", "", TargetOK},
		{"/?%", "/", "%", TargetOK},
		{"", "", "", BadPath},
		{"a", "", "", BadPath},
		{"/a b", "", "", BadPath},
		{"/a#b", "", "", BadPath},
		{"/\x80", "", "", BadPath},
		{"/%", "", "", BadPathEscape},
		{"/%0g", "", "", BadPathEscape},
		{"/%00", "", "", BadPathEscape},
		{"/?a#b", "/", "", BadQuery},
	} {
		var r Request
		r.Received = []byte(c.in)
		problem := r.SetTarget(Span{Len: uint32(len(c.in))})
		if problem != c.problem {
			t.Errorf("%q: problem %d, want %d", c.in, problem, c.problem)
			continue
		}
		if problem == TargetOK && (string(r.Bytes(r.Path)) != c.path || string(r.Bytes(r.Query)) != c.query) {
			t.Errorf("%q: path %q query %q", c.in, r.Bytes(r.Path), r.Bytes(r.Query))
		}
	}
}

func TestAuthoritiesAreHostsWithAnOptionalPort(t *testing.T) {
	for in, want := range map[string]bool{
		"a": true, "a.example": true, "a.example.": true, "a:80": true, "1.2.3.4:1": true, "[::1]:65535": true, "a_b": true, "a.:80": true,
		"": false, ".": false, ".:80": false, ":80": false, "a..b": false, "a,b": false, "u@a": false, "a/b": false, "a b": false, "a:": false, "a:0": false,
		"a:65536": false, "a:x": false, "[::1%25x]": false, "[1.2.3.4]": false, "[::1": false, "[::1]x": false,
	} {
		if got := ValidAuthority([]byte(in)); got != want {
			t.Errorf("%q: %t", in, got)
		}
	}
}

func TestLookAlikeNamesMislead(t *testing.T) {
	for in, want := range map[string]bool{
		"x-a": false, "x_a": true, "content.length": true, "x.forwarded.for": true, "a.b": false, "x.forwarded.anything.at-all.long": true,
	} {
		if got := Misleading([]byte(in)); got != want {
			t.Errorf("%q: %t", in, got)
		}
	}
}
