package observe

import (
	"slices"
	"strings"
)

// selection is what of the metrics a page has; nil is all of them.
type selection map[string]parts

// parts of a family. Only histograms have more than one.
type parts uint8

const (
	bucketLines parts = 1 << iota
	sumLines
	countLines
	allParts = bucketLines | sumLines | countLines
)

// selected returns the selection of names of families, or of series of histograms, which end in _bucket, _sum or _count. No
// names are all metrics; what a name does not stand for is left out, as other exporters do.
func selected(names []string) selection {
	if len(names) == 0 {
		return nil
	}
	s := selection{}
	for _, name := range names {
		s[name] = allParts
	}
	for _, name := range names {
		for suffix, part := range map[string]parts{"_bucket": bucketLines, "_sum": sumLines, "_count": countLines} {
			if family, ok := strings.CutSuffix(name, suffix); ok {
				s[family] |= part
			}
		}
	}
	return s
}

// of returns what of a family a page has, 0 for nothing.
func (s selection) of(family string) parts {
	if s == nil {
		return allParts
	}
	return s[family]
}

// any tells whether a page has anything whose name begins so.
func (s selection) any(prefix string) bool {
	for name := range s {
		if strings.HasPrefix(name, prefix) {
			return true
		}
	}
	return s == nil
}

// keep leaves those hooks of a list that a page has.
func (s selection) keep(hooks []hook) []hook {
	return slices.DeleteFunc(hooks, func(h hook) bool { return s.of(h.name) == 0 })
}
