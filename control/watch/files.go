// Package watch reads Kubernetes objects from where they are kept and says when they have changed.
//
// It owns decoding and change detection. It does not own meaning: control/translate decides what objects stand for.
// control calls it.
package watch

import (
	"bufio"
	"bytes"
	"cmp"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	utilyaml "k8s.io/apimachinery/pkg/util/yaml"

	"rauta.io/rauta/control/translate"
)

// Limits of configuration files, in bytes and files; whoever crosses one has pointed RAUTA at the wrong folder.
const (
	fileBytesMax = 64 << 20
	filesMax     = 20_000
)

// Position is where an object stands.
type Position struct {
	File string `json:"file"`
	// Line is where the document begins, from 1.
	Line int `json:"line"`
}

func (p Position) String() string { return fmt.Sprintf("%s:%d", p.File, p.Line) }

// FileProblem is something in a file that could not be read.
type FileProblem struct {
	Position
	Severity translate.Severity
	// Object is the zero value when it is not known which object it is.
	Object translate.ObjectRef
	Field  string
	Reason string
	Hint   string
}

func (p FileProblem) Error() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s: ", p.Position)
	if p.Object.Kind != "" {
		fmt.Fprintf(&b, "%s: ", objectText(p.Object))
	}
	if p.Field != "" {
		fmt.Fprintf(&b, "%s: ", p.Field)
	}
	b.WriteString(p.Reason)
	if p.Hint != "" {
		fmt.Fprintf(&b, " (%s)", p.Hint)
	}
	return b.String()
}

func objectText(o translate.ObjectRef) string {
	if o.Namespace == "" {
		return o.Kind + " " + o.Name
	}
	return o.Kind + " " + o.Namespace + "/" + o.Name
}

// Loaded is what a set of files contains.
type Loaded struct {
	Objects *translate.Objects
	// Positions says where each object stands first: the same object may be repeated.
	Positions map[translate.ObjectRef]Position
	// Problems in order of file and line. With one of severity Error the objects are incomplete.
	Problems []FileProblem

	digests map[translate.ObjectRef][sha256.Size]byte // of each object's text, while files are read
}

// Broken reports whether a file could not be read completely.
func (l *Loaded) Broken() bool {
	return slices.ContainsFunc(l.Problems, func(p FileProblem) bool { return p.Severity == translate.Error })
}

// Err joins the problems of severity Error, nil if there are none.
func (l *Loaded) Err() error {
	var errs []error
	for _, p := range l.Problems {
		if p.Severity == translate.Error {
			errs = append(errs, p)
		}
	}
	return errors.Join(errs...)
}

// Load reads files, and folders with all .yaml, .yml and .json files below them (hidden ones are left out).
func Load(paths []string) *Loaded {
	l := &Loaded{
		Objects: &translate.Objects{}, Positions: map[translate.ObjectRef]Position{}, digests: map[translate.ObjectRef][sha256.Size]byte{},
	}
	files, err := List(paths)
	if err != nil {
		l.fail(Position{File: strings.Join(paths, ", "), Line: 1}, translate.ObjectRef{}, "", err.Error(), "")
		return l
	}
	for _, f := range files {
		l.readFile(f)
	}
	l.digests = nil
	slices.SortStableFunc(l.Problems, func(a, b FileProblem) int {
		return cmp.Or(strings.Compare(a.File, b.File), cmp.Compare(a.Line, b.Line))
	})
	return l
}

// List returns the configuration files that paths stand for, in order of name.
func List(paths []string) ([]string, error) {
	var files []string
	for _, p := range paths {
		info, err := os.Stat(p)
		if err != nil {
			return nil, fmt.Errorf("read configuration: %w", err)
		}
		if p = filepath.Clean(p); !info.IsDir() {
			files = append(files, p)
			continue
		}
		p += string(filepath.Separator) // follows p where it is a symbolic link
		err = filepath.WalkDir(p, func(path string, d fs.DirEntry, err error) error {
			switch {
			case err != nil:
				return err
			case path != p && strings.HasPrefix(d.Name(), ".") && d.IsDir():
				return fs.SkipDir
			case d.IsDir() || strings.HasPrefix(d.Name(), ".") || !hasConfigSuffix(path):
				return nil
			}
			files = append(files, path)
			if len(files) > filesMax {
				return fmt.Errorf("more than %d files below %s", filesMax, p)
			}
			return nil
		})
		if err != nil {
			return nil, fmt.Errorf("read configuration folder: %w", err)
		}
	}
	slices.Sort(files)
	return slices.Compact(files), nil
}

func hasConfigSuffix(path string) bool {
	switch filepath.Ext(path) {
	case ".yaml", ".yml", ".json":
		return true
	}
	return false
}

func (l *Loaded) readFile(path string) {
	f, err := os.Open(path)
	if err != nil {
		l.fail(Position{path, 1}, translate.ObjectRef{}, "", err.Error(), "")
		return
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, fileBytesMax+1))
	if err == nil && len(data) > fileBytesMax {
		err = fmt.Errorf("larger than %d MiB", fileBytesMax>>20)
	}
	if err != nil {
		l.fail(Position{path, 1}, translate.ObjectRef{}, "", err.Error(), "")
		return
	}
	line := 1
	reader := utilyaml.NewYAMLReader(bufio.NewReader(bytes.NewReader(data)))
	for {
		doc, err := reader.Read()
		if errors.Is(err, io.EOF) {
			return
		}
		if err != nil {
			l.fail(Position{path, line}, translate.ObjectRef{}, "", err.Error(), "")
			return
		}
		l.readDocument(Position{path, line + leadingBlank(doc)}, doc)
		line += bytes.Count(doc, []byte{'\n'}) + 1 // the separator
	}
}

// leadingBlank counts the lines before the first one with content, so that messages point at the object.
func leadingBlank(doc []byte) int {
	n := 0
	for line := range bytes.Lines(doc) {
		text := bytes.TrimSpace(line)
		if len(text) > 0 && text[0] != '#' && !bytes.Equal(text, []byte("---")) {
			return n
		}
		n++
	}
	return 0
}

func (l *Loaded) fail(at Position, o translate.ObjectRef, field, reason, hint string) {
	l.Problems = append(l.Problems, FileProblem{at, translate.Error, o, field, reason, hint})
}

func (l *Loaded) warn(at Position, o translate.ObjectRef, reason, hint string) {
	l.Problems = append(l.Problems, FileProblem{at, translate.Warning, o, "", reason, hint})
}
