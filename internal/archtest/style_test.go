package archtest

import (
	"go/ast"
	"go/token"
	"regexp"
	"strings"
	"testing"
)

// Sizes in lines. Beyond them a reader loses the thread.
const (
	fileLinesMax     = 500
	testFileLinesMax = 600
	functionLinesMax = 90
)

func TestFilesAndFunctionsAreShort(t *testing.T) {
	for _, f := range sources(t) {
		limit := fileLinesMax
		if f.test {
			limit = testFileLinesMax
		}
		if f.lines > limit {
			t.Errorf("%s has %d lines, more than %d", f.name, f.lines, limit)
		}
		for _, d := range f.ast.Decls {
			fn, ok := d.(*ast.FuncDecl)
			if !ok || f.test || fn.Body == nil || onlyReturnsTable(fn) {
				continue
			}
			if n := f.line(fn.End()) - f.line(fn.Pos()) + 1; n > functionLinesMax {
				t.Errorf("%s:%d: function %s has %d lines, more than %d", f.name, f.line(fn.Pos()), fn.Name.Name, n, functionLinesMax)
			}
		}
	}
}

// onlyReturnsTable reports whether a function is a table of data rather than a course of action.
func onlyReturnsTable(fn *ast.FuncDecl) bool {
	n := len(fn.Body.List)
	if n == 0 || n > 2 {
		return false
	}
	last, ok := fn.Body.List[n-1].(*ast.ReturnStmt)
	return ok && len(last.Results) == 1 && isComposite(last.Results[0])
}

func isComposite(e ast.Expr) bool {
	_, ok := e.(*ast.CompositeLit)
	return ok
}

func TestNothingIsLeftForLater(t *testing.T) {
	mark := regexp.MustCompile(`\b(TO` + `DO|FIX` + `ME|XX` + `X|HA` + `CK)\b`)
	for _, f := range sources(t) {
		for _, group := range f.ast.Comments {
			for _, c := range group.List {
				if mark.MatchString(c.Text) {
					t.Errorf("%s:%d: %s", f.name, f.line(c.Pos()), c.Text)
				}
			}
		}
	}
}

func TestEveryPackageSaysWhatItIsFor(t *testing.T) {
	documented := map[string]bool{}
	for _, f := range sources(t) {
		if !f.test {
			documented[f.pkg] = documented[f.pkg] || f.ast.Doc != nil && len(strings.Fields(f.ast.Doc.Text())) > 5
		}
	}
	for pkg, ok := range documented {
		if !ok {
			t.Errorf("package %s has no documentation that says what it owns and who calls it", pkg)
		}
	}
}

func TestNoPackageActsWhenItIsImported(t *testing.T) {
	for _, f := range sources(t) {
		for _, d := range f.ast.Decls {
			if fn, ok := d.(*ast.FuncDecl); ok && fn.Recv == nil && fn.Name.Name == "init" {
				t.Errorf("%s:%d: func init: let the caller call", f.name, f.line(fn.Pos()))
			}
		}
	}
}

func TestPackageVariablesAreNeverChanged(t *testing.T) {
	files := sources(t)
	vars := map[string]map[string]bool{} // package -> names
	for _, f := range files {
		if f.test {
			continue
		}
		if vars[f.pkg] == nil {
			vars[f.pkg] = map[string]bool{}
		}
		for _, name := range packageVars(t, f) {
			vars[f.pkg][name] = true
		}
	}
	for _, f := range files {
		if f.test {
			continue
		}
		ast.Inspect(f.ast, func(n ast.Node) bool {
			for _, target := range changed(n) {
				if id := root(target); id != nil && vars[f.pkg][id.Name] && isPackageLevel(f, id) {
					t.Errorf("%s:%d: changes the package variable %s", f.name, f.line(n.Pos()), id.Name)
				}
			}
			return true
		})
	}
}

// packageVars returns the names of the package variables of a file, and complains about those that can only be meant
// to change.
func packageVars(t *testing.T, f *file) []string {
	var names []string
	for _, d := range f.ast.Decls {
		decl, ok := d.(*ast.GenDecl)
		if !ok || decl.Tok != token.VAR {
			continue
		}
		for _, s := range decl.Specs {
			spec := s.(*ast.ValueSpec)
			for _, name := range spec.Names {
				if name.Name == "_" {
					continue
				}
				names = append(names, name.Name)
				if len(spec.Values) == 0 && decl.Doc == nil {
					t.Errorf("%s:%d: package variable %s has no value: it can only be state", f.name, f.line(name.Pos()), name.Name)
				}
			}
		}
	}
	return names
}

// changed returns what a statement assigns to.
func changed(n ast.Node) []ast.Expr {
	switch s := n.(type) {
	case *ast.AssignStmt:
		if s.Tok != token.DEFINE {
			return s.Lhs
		}
	case *ast.IncDecStmt:
		return []ast.Expr{s.X}
	}
	return nil
}

// root returns the variable at the bottom of a.b[c].
func root(e ast.Expr) *ast.Ident {
	for {
		switch x := e.(type) {
		case *ast.Ident:
			return x
		case *ast.IndexExpr:
			e = x.X
		case *ast.SelectorExpr:
			e = x.X
		case *ast.ParenExpr:
			e = x.X
		default:
			return nil
		}
	}
}

// isPackageLevel: the parser resolves names within a file; one that it can't resolve is declared in another file.
func isPackageLevel(f *file, id *ast.Ident) bool {
	return id.Obj == nil || f.ast.Scope.Lookup(id.Name) == id.Obj
}

func TestGoroutinesStartWhereTheyMay(t *testing.T) {
	for _, f := range sources(t) {
		if f.test {
			continue
		}
		for _, d := range f.ast.Decls {
			fn, ok := d.(*ast.FuncDecl)
			if !ok || fn.Body == nil {
				continue
			}
			ast.Inspect(fn.Body, func(n ast.Node) bool {
				if _, ok := n.(*ast.GoStmt); !ok {
					return true
				}
				if coversAny(goroutineFree(), f.pkg) {
					t.Errorf("%s:%d: package %s starts no goroutines", f.name, f.line(n.Pos()), f.pkg)
				}
				if fn.Recv == nil && (strings.HasPrefix(fn.Name.Name, "New") || strings.HasPrefix(fn.Name.Name, "new")) {
					t.Errorf("%s:%d: constructor %s starts a goroutine: give the type a Start", f.name, f.line(n.Pos()), fn.Name.Name)
				}
				return true
			})
		}
	}
}

func TestWhatRunsOnTheLoopTakesNoLockAndReadsNoClock(t *testing.T) {
	for _, f := range sources(t) {
		if f.test || !coversAny(loopOwned(), f.pkg) {
			continue
		}
		for _, imported := range f.imports() {
			if imported == "sync" {
				t.Errorf("%s imports sync: on the loop nothing waits", f.name)
			}
		}
		ast.Inspect(f.ast, func(n ast.Node) bool {
			if s, ok := n.(*ast.SelectorExpr); ok && s.Sel.Name == "Now" {
				if pkg, ok := s.X.(*ast.Ident); ok && pkg.Name == "time" {
					t.Errorf("%s:%d: time.Now: use the turn's clock", f.name, f.line(n.Pos()))
				}
			}
			return true
		})
	}
}
