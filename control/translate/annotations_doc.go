package translate

import (
	"fmt"
	"maps"
	"slices"
	"strings"
)

// AnnotationsMarkdown is docs/annotations.md.
func AnnotationsMarkdown() string {
	var b strings.Builder
	b.WriteString(`# Annotations

Made from the table in control/translate/annotations.go; run ` + "`go test ./control/translate -update`" + ` to renew it.

What the Gateway API and Ingress have no field for is set by annotations. An annotation with an unknown name, or on a
kind that it is not for, is reported as a warning and has no effect. A value that can't be read is reported as an error,
and what the row says under "if invalid" is in effect.

| annotation | on | value | default | if invalid |
| --- | --- | --- | --- | --- |
`)
	for _, a := range Annotations() {
		fmt.Fprintf(&b, "| [`%s`](#%s) | %s | %s | %s | %s |\n",
			a.Name, anchor(a.Name), strings.Join(a.Kinds, ", "), a.Type, a.Default, a.OnInvalid)
	}
	for _, a := range Annotations() {
		fmt.Fprintf(&b, "\n## %s\n\n%s\n", a.Name, a.Doc)
	}
	b.WriteString(`
## Annotations of ingress-nginx

Those that begin with ` + "`" + nginxPrefix + "`" + ` are not obeyed yet. An Ingress of RAUTA's class is not to be more open for that
than it was: with one of the following, requests to it are answered 500, and an error says so. An annotation of RAUTA on the
same Ingress stands for one of ingress-nginx, so that both controllers can serve it while one takes over from the other.

| annotation | refuses | what to do |
| --- | --- | --- |
`)
	for _, r := range nginxRestrictions {
		scope := "the Ingress"
		if r.whole {
			scope = "all rules of its hosts"
		}
		fmt.Fprintf(&b, "| `%s` | %s | %s |\n", r.name, scope, r.hint)
	}
	b.WriteString(`
Snippets do so only with directives other than these: ` + strings.Join(slices.Sorted(maps.Keys(nginxHarmless)), ", ") + `.
An Ingress with ` + "`canary: \"true\"`" + ` is left out, so that the one that it takes requests from keeps them. All others have no effect
and are listed in one warning; for some there is something else:

| annotation | here |
| --- | --- |
`)
	for _, name := range slices.Sorted(maps.Keys(nginxInstead)) {
		instead := nginxInstead[name]
		if ours, rest, found := cutOurs(instead); found {
			instead = fmt.Sprintf("[`%s`](#%s)%s", ours, anchor(ours), rest)
		}
		fmt.Fprintf(&b, "| `%s` | %s |\n", name, instead)
	}
	return b.String()
}

// cutOurs splits an annotation of ours from what is said about it.
func cutOurs(text string) (name, rest string, found bool) {
	if !strings.HasPrefix(text, annotationPrefix) {
		return "", text, false
	}
	if i := strings.IndexByte(text, ' '); i >= 0 {
		return text[:i], text[i:], true
	}
	return text, "", true
}

// anchor is the id that Markdown renderers give to a heading.
func anchor(heading string) string {
	return strings.NewReplacer(".", "", "/", "").Replace(heading)
}
