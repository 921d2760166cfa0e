package archtest

import (
	"bytes"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
)

const modulePath = "rauta.io/rauta/"

// file is one parsed Go file.
type file struct {
	name  string // relative to the module, with slashes
	pkg   string // the folder
	test  bool
	lines int
	text  []byte
	ast   *ast.File
	set   *token.FileSet
}

func (f *file) line(p token.Pos) int { return f.set.Position(p).Line }

// imports returns the paths that the file imports.
func (f *file) imports() []string {
	var paths []string
	for _, spec := range f.ast.Imports {
		p, _ := strconv.Unquote(spec.Path.Value)
		paths = append(paths, p)
	}
	return paths
}

// sources parses every Go file of the module for all platforms; generated ones are left out.
func sources(t *testing.T) []*file {
	t.Helper()
	root := "../.."
	if _, err := os.Stat(filepath.Join(root, "go.mod")); err != nil {
		t.Fatalf("find the module: %v", err)
	}
	var files []*file
	set := token.NewFileSet()
	err := filepath.WalkDir(root, func(p string, d fs.DirEntry, err error) error {
		name := d.Name()
		if err == nil && d.IsDir() && p != root && (strings.HasPrefix(name, ".") || name == "testdata" || name == "bin" || name == "out") {
			return fs.SkipDir
		}
		if err != nil || d.IsDir() || !strings.HasSuffix(name, ".go") || strings.HasPrefix(name, ".") {
			return err
		}
		f, err := parse(set, root, p)
		if err == nil && f != nil {
			files = append(files, f)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	if len(files) < 50 {
		t.Fatalf("found only %d files: the test looks in the wrong place", len(files))
	}
	return files
}

func parse(set *token.FileSet, root, p string) (*file, error) {
	text, err := os.ReadFile(p)
	if err != nil {
		return nil, err
	}
	if bytes.HasPrefix(text, []byte("// Code generated ")) {
		return nil, nil
	}
	rel, err := filepath.Rel(root, p)
	if err != nil {
		return nil, err
	}
	tree, err := parser.ParseFile(set, p, text, parser.ParseComments)
	if err != nil {
		return nil, err
	}
	rel = filepath.ToSlash(rel)
	return &file{
		name: rel, pkg: path.Dir(rel), test: strings.HasSuffix(rel, "_test.go"),
		lines: bytes.Count(text, []byte{'\n'}), text: text, ast: tree, set: set,
	}, nil
}

// covers reports whether a pattern stands for a path; a trailing /... means the path itself and all below it.
func covers(pattern, p string) bool {
	if prefix, ok := strings.CutSuffix(pattern, "/..."); ok {
		return p == prefix || strings.HasPrefix(p, prefix+"/")
	}
	return p == pattern
}

func coversAny(patterns []string, p string) bool {
	for _, pattern := range patterns {
		if covers(pattern, p) {
			return true
		}
	}
	return false
}
