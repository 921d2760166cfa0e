package archtest

import (
	"slices"
	"strings"
	"testing"
)

func TestPackagesImportOnlyWhatTheRuleAllows(t *testing.T) {
	rule := allowed()
	for _, e := range additions() {
		rule[e.from] = append(rule[e.from], e.to)
	}
	for _, pkg := range standalone() {
		rule[pkg] = nil
	}
	for _, f := range sources(t) {
		to, known := rule[f.pkg]
		if !known && !f.test {
			t.Errorf("%s: package %s is not in the import rule: add it to rule_test.go", f.name, f.pkg)
			rule[f.pkg] = nil
			continue
		}
		if f.test {
			continue // tests may look at a package from anywhere
		}
		for _, imported := range f.imports() {
			own, ok := strings.CutPrefix(imported, modulePath)
			if ok && !coversAny(to, own) {
				t.Errorf("%s imports %s: the import rule has no edge %s -> %s", f.name, own, f.pkg, own)
			}
		}
	}
}

func TestControlAndDataPlaneMeetOnlyInTheConfiguration(t *testing.T) {
	for _, f := range sources(t) {
		for _, imported := range f.imports() {
			own, ok := strings.CutPrefix(imported, modulePath)
			switch {
			case !ok:
			case covers("control/...", f.pkg) && !f.test && !covers("control/...", own) && own != "proxy/config":
				t.Errorf("%s imports %s: control knows nothing below proxy/config", f.name, own)
			case coversAny([]string{"proxy/...", "fastpath/...", "h2/...", "bpf/..."}, f.pkg) && !f.test && coversAny([]string{"control/...", "cmd/..."}, own):
				t.Errorf("%s imports %s: the data plane knows nothing above itself", f.name, own)
			}
		}
	}
}

func TestForeignPackagesAreImportedByTheirOwnersOnly(t *testing.T) {
	for _, f := range sources(t) {
		if f.test {
			continue
		}
		for _, imported := range f.imports() {
			for _, o := range owners() {
				if covers(o.imported+"/...", imported) && !coversAny(o.by, f.pkg) && !ownedMoreNarrowly(o.imported, imported, f.pkg) {
					t.Errorf("%s imports %s, which belongs to %s: %s", f.name, imported, strings.Join(o.by, ", "), o.why)
				}
			}
		}
	}
}

// ownedMoreNarrowly: net/http/httptest is below net/http, golang.org/x/net/http2 is not; the longest entry decides.
func ownedMoreNarrowly(entry, imported, pkg string) bool {
	return slices.ContainsFunc(owners(), func(o owner) bool {
		return len(o.imported) > len(entry) && covers(o.imported+"/...", imported) && coversAny(o.by, pkg)
	})
}

func TestEveryAdditionToTheRuleHasAReasonAndIsNew(t *testing.T) {
	rule := allowed()
	for _, e := range additions() {
		if e.why == "" {
			t.Errorf("%s -> %s has no reason", e.from, e.to)
		}
		if coversAny(rule[e.from], e.to) {
			t.Errorf("%s -> %s is in the design's table already", e.from, e.to)
		}
	}
}
