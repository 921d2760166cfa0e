package message

import (
	"net/url"
	"strings"
	"testing"
)

// removeDotSegments is RFC 3986 section 5.2.4 word by word, after the dots of whole segments are decoded.
func removeDotSegments(path string) string {
	segments := strings.Split(path, "/")
	for i, s := range segments {
		if d := strings.NewReplacer("%2e", ".", "%2E", ".").Replace(s); d == "." || d == ".." {
			segments[i] = d
		}
	}
	in, out := strings.Join(segments, "/"), ""
	for in != "" {
		switch {
		case strings.HasPrefix(in, "/./"):
			in = in[len("/."):]
		case in == "/.":
			in = "/"
		case strings.HasPrefix(in, "/../"), in == "/..":
			if in = in[len("/.."):]; in == "" {
				in = "/"
			}
			out = out[:max(strings.LastIndexByte(out, '/'), 0)]
		default:
			end := strings.IndexByte(in[1:], '/') + 1
			if end == 0 {
				end = len(in)
			}
			out += in[:end]
			in = in[end:]
		}
	}
	return out
}

func FuzzTarget(f *testing.F) {
	for _, s := range []string{
		"/", "/a/../b?x=1", "/a/%2e%2E/b", "/a//b/./", "/../..", "/.", "/..", "//..//a", "/a/.%2e", "/a/b/../../../c/./", "/?%", "/%2e%2ea",
		"/a%2f..%2fb", "/a/..;/b", "/%252e/", "/.../", "/a%2", "/%00", "/a#b", "/a/./", "/./..//./a/..",
	} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, in string) {
		var r Request
		r.Received = []byte(in)
		problem := r.SetTarget(Span{Len: uint32(len(in))})
		if problem != TargetOK {
			return
		}
		path, query, _ := strings.Cut(in, "?")
		got := string(r.Bytes(r.Path))
		if want := removeDotSegments(path); got != want {
			t.Fatalf("%q: path %q, want %q", in, got, want)
		}
		if string(r.Bytes(r.Query)) != query || r.HasQuery != strings.Contains(in, "?") {
			t.Fatalf("%q: query %q, want %q", in, r.Bytes(r.Query), query)
		}
		// Whoever reads what we forward sees the same path, and nothing in it that is still to be resolved.
		var again Request
		again.Received = []byte(got)
		if p := again.SetTarget(Span{Len: uint32(len(got))}); p != TargetOK || string(again.Bytes(again.Path)) != got {
			t.Fatalf("%q: path %q becomes %q", in, got, again.Bytes(again.Path))
		}
		decoded, err := url.PathUnescape(path)
		if err != nil {
			t.Fatalf("%q: %v", in, err)
		}
		if u, err := url.ParseRequestURI(in); err != nil || u.Path != decoded || u.RawQuery != query {
			t.Fatalf("%q: net/url has %+v, %v", in, u, err)
		}
	})
}

func FuzzAuthority(f *testing.F) {
	for _, s := range []string{"a", "a.example.", "a:80", "1.2.3.4:1", "[::1]:65535", "[::ffff:1.2.3.4]", "[fe80::1%25eth0]", "u@a", "a/b", "a:", "a_b"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, in string) {
		if !ValidAuthority([]byte(in)) {
			return
		}
		u, err := url.Parse("http://" + in + "/")
		if err != nil || u.Host != in || u.User != nil || u.Path != "/" {
			t.Fatalf("%q: net/url has %+v, %v", in, u, err)
		}
	})
}
