package translate

import (
	"fmt"
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
	return b.String()
}

// anchor is the id that Markdown renderers give to a heading.
func anchor(heading string) string {
	return strings.NewReplacer(".", "", "/", "").Replace(heading)
}
