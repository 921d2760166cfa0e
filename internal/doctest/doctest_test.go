// Package doctest holds the tests that keep the documents true where a test can: names of files, links, flags, reasons,
// the example of the README, and the length of lines.
//
// It owns no text. Pages that are made from tables in code (docs/annotations.md, docs/metrics.md) are tested there.
package doctest

import (
	"bytes"
	"errors"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"unicode/utf8"
)

// root is the top folder, seen from this package.
const root = "../.."

// lineCharactersMax is the longest line of a document that people write.
const lineCharactersMax = 120

// generated pages have lines as long as their tables need.
func generated(page string) bool {
	return page == "docs/annotations.md" || page == "docs/metrics.md" || page == "PERF.md"
}

func read(t *testing.T, name string) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(root, name))
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// pages returns the documents at the top and below docs, relative to root.
func pages(t *testing.T) []string {
	t.Helper()
	out, err := filepath.Glob(filepath.Join(root, "*.md"))
	if err != nil {
		t.Fatal(err)
	}
	err = filepath.WalkDir(filepath.Join(root, "docs"), func(path string, d fs.DirEntry, err error) error {
		if err == nil && !d.IsDir() && strings.HasSuffix(path, ".md") {
			out = append(out, path)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	for i := range out {
		if out[i], err = filepath.Rel(root, out[i]); err != nil {
			t.Fatal(err)
		}
	}
	if len(out) < 10 {
		t.Fatalf("found only %d documents: %v", len(out), out)
	}
	return out
}

func exists(name string) bool {
	_, err := os.Stat(filepath.Join(root, name))
	return !errors.Is(err, fs.ErrNotExist)
}

var inBackticks = regexp.MustCompile("`([^`\n]+)`")

// topFolders are those that a path in the text may begin with; anything else with a slash is a value or a media type.
func topFolders(t *testing.T) []string {
	t.Helper()
	entries, err := os.ReadDir(root)
	if err != nil {
		t.Fatal(err)
	}
	var out []string
	for _, e := range entries {
		if e.IsDir() {
			out = append(out, e.Name())
		}
	}
	return out
}

func TestFilesAndFoldersNamedInTheDocumentsExist(t *testing.T) {
	folders := topFolders(t)
	for _, page := range pages(t) {
		named := 0
		for _, match := range inBackticks.FindAllStringSubmatch(read(t, page), -1) {
			first, _, isPath := strings.Cut(match[1], "/")
			if strings.ContainsAny(match[1], " *<>{}=:") || !isPath && !strings.HasSuffix(match[1], ".go") {
				continue
			}
			if !slices.Contains(folders, first) && !strings.HasSuffix(match[1], ".go") {
				continue
			}
			named++
			if !exists(match[1]) {
				t.Errorf("%s names %s, which does not exist", page, match[1])
			}
		}
		if page == "ARCHITECTURE.md" && named < 50 {
			t.Errorf("only %d files were found in %s: the pattern has gone blind", named, page)
		}
	}
}

func TestEveryPackageIsInTheMap(t *testing.T) {
	text := read(t, "ARCHITECTURE.md")
	for _, top := range []string{"cmd", "control", "fastpath", "h2", "proxy"} {
		err := filepath.WalkDir(filepath.Join(root, top), func(path string, d fs.DirEntry, err error) error {
			if err != nil || !d.IsDir() {
				return err
			}
			if d.Name() == "testdata" {
				return fs.SkipDir
			}
			sources, err := filepath.Glob(filepath.Join(path, "*.go"))
			if err != nil || len(sources) == 0 {
				return err
			}
			name, err := filepath.Rel(root, path)
			if err == nil && !strings.Contains(text, "| `"+name+"` |") {
				t.Errorf("package %s is missing in the table of ARCHITECTURE.md", name)
			}
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
	}
}

var link = regexp.MustCompile(`\]\(([^)]+)\)`)

func TestLinksBetweenDocumentsLeadSomewhere(t *testing.T) {
	for _, page := range pages(t) {
		for _, match := range link.FindAllStringSubmatch(read(t, page), -1) {
			target, _, _ := strings.Cut(match[1], "#")
			if target == "" || strings.Contains(target, "://") {
				continue
			}
			if name := filepath.Join(filepath.Dir(page), target); !exists(name) {
				t.Errorf("%s links to %s, which does not exist", page, name)
			}
		}
	}
}

func TestLinesOfDocumentsAreNotTooLong(t *testing.T) {
	for _, page := range pages(t) {
		if generated(page) {
			continue
		}
		for i, line := range strings.Split(read(t, page), "\n") {
			if n := utf8.RuneCountInString(line); n > lineCharactersMax {
				t.Errorf("%s:%d has %d characters, at most %d", page, i+1, n, lineCharactersMax)
			}
		}
	}
}

// program builds rauta and returns its path.
func program(t *testing.T) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "rauta")
	build := exec.Command("go", "build", "-o", path, "./cmd/rauta")
	build.Dir = root
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("build rauta: %v\n%s", err, out)
	}
	return path
}

func run(t *testing.T, name string, args ...string) string {
	t.Helper()
	var out bytes.Buffer
	cmd := exec.Command(name, args...)
	cmd.Stdout, cmd.Stderr = &out, &out
	if err := cmd.Run(); err != nil {
		t.Fatalf("rauta %s: %v\n%s", strings.Join(args, " "), err, out.String())
	}
	return out.String()
}

var (
	documentedFlag = regexp.MustCompile("(?m)^\\| `(--[a-z-]+)` \\|")
	flagOfHelp     = regexp.MustCompile(`(?m)^ +(?:-[a-zA-Z], )?(--[a-z-]+)`)
	anyFlag        = regexp.MustCompile("`[^`\n]*?(--[a-z][a-z-]+)")
)

func matches(re *regexp.Regexp, text string) []string {
	var out []string
	for _, match := range re.FindAllStringSubmatch(text, -1) {
		out = append(out, match[1])
	}
	slices.Sort(out)
	return slices.Compact(out)
}

func TestTheDocumentedFlagsAreThoseOfTheProgram(t *testing.T) {
	rauta := program(t)
	inHelp := matches(flagOfHelp, run(t, rauta, "serve", "--help"))
	inHelp = slices.DeleteFunc(inHelp, func(flag string) bool { return flag == "--help" })
	documented := matches(documentedFlag, read(t, "docs/operations.md"))
	if len(documented) < 10 {
		t.Fatalf("found only the flags %v in docs/operations.md", documented)
	}
	for _, flag := range documented {
		if !slices.Contains(inHelp, flag) {
			t.Errorf("docs/operations.md has the flag %s, which serve does not have", flag)
		}
	}
	for _, flag := range inHelp {
		if !slices.Contains(documented, flag) {
			t.Errorf("serve has the flag %s, which docs/operations.md does not have", flag)
		}
	}
	known := inHelp
	for _, command := range []string{"check", "explain", "probe", "top", "debug profile"} {
		known = append(known, matches(flagOfHelp, run(t, rauta, append(strings.Fields(command), "--help")...))...)
	}
	for _, page := range pages(t) {
		if page == "PERF.md" {
			continue // other programs have flags too
		}
		for _, flag := range matches(anyFlag, read(t, page)) {
			if !slices.Contains(known, flag) {
				t.Errorf("%s mentions the flag %s, which no command has", page, flag)
			}
		}
	}
}

// elsewhere are the flags of serve that mean the same without Kubernetes, by what they begin with.
var elsewhere = []string{
	"--access-log", "--admin", "--bind", "--config", "--drain-", "--ebpf", "--engine", "--error-log", "--gather", "--log-", "--max-", "--metrics",
	"--overlap", "--probe-socket", "--requests-per-connection", "--strict-header-names", "--trace-", "--trusted-proxies", "--workers",
}

// defaultOfFlag finds rows of tables of flags: name and default.
var defaultOfFlag = regexp.MustCompile("(?m)^\\| `(--[a-z-]+)` \\|([^|]*)\\|")

func TestEveryFlagAboutKubernetesIsOnThePageAboutKubernetes(t *testing.T) {
	rows := func(page string) map[string]string {
		out := map[string]string{}
		for _, row := range defaultOfFlag.FindAllStringSubmatch(read(t, page), -1) {
			if _, twice := out[row[1]]; twice {
				t.Errorf("%s has the flag %s twice", page, row[1])
			}
			out[row[1]] = strings.TrimSpace(row[2])
		}
		return out
	}
	here, all := rows("docs/kubernetes.md"), rows("docs/operations.md")
	used := map[string]bool{}
	for flag, value := range all {
		at := slices.IndexFunc(elsewhere, func(prefix string) bool { return strings.HasPrefix(flag, prefix) })
		given, documented := here[flag]
		switch {
		case at >= 0:
			used[elsewhere[at]] = true
			if documented {
				t.Errorf("%s is on the page about Kubernetes, and on the list of flags that are not about it", flag)
			}
		case !documented:
			t.Errorf("docs/kubernetes.md has no row for %s; a flag that is not about Kubernetes belongs on the list of this test", flag)
		case given != value:
			t.Errorf("docs/kubernetes.md has %q as the default of %s, docs/operations.md %q", given, flag, value)
		}
	}
	for flag := range here {
		if _, is := all[flag]; !is {
			t.Errorf("docs/kubernetes.md has the flag %s, which docs/operations.md does not have", flag)
		}
	}
	for _, prefix := range elsewhere {
		if !used[prefix] {
			t.Errorf("no flag begins with %s any more", prefix)
		}
	}
}

func TestTheExampleOfTheReadmeIsServedWithoutAProblem(t *testing.T) {
	_, rest, found := strings.Cut(read(t, "README.md"), "```yaml\n")
	example, _, closed := strings.Cut(rest, "```")
	if !found || !closed {
		t.Fatal("README.md has no example in YAML")
	}
	file := filepath.Join(t.TempDir(), "app.yaml")
	if err := os.WriteFile(file, []byte(example), 0o600); err != nil {
		t.Fatal(err)
	}
	rauta := program(t)
	if out := run(t, rauta, "check", file); !strings.HasPrefix(out, "0 errors, 0 warnings") {
		t.Errorf("rauta check says:\n%s", out)
	}
	out := run(t, rauta, "explain", "--config", file, "GET", "http://app.localhost:8080/api/hello")
	if !strings.Contains(out, "forward /hello ") {
		t.Errorf("the README says that the back end sees /hello; rauta explain says:\n%s", out)
	}
}

var constantInTable = regexp.MustCompile("(?m)^\\| [^|\n]*`[A-Za-z0-9]+`[^|\n]*\\|")

func TestConstantsNamedInTheLimitsExist(t *testing.T) {
	sources := sourceText(t, "cmd", "control", "fastpath", "h2", "proxy")
	named := 0
	for _, row := range constantInTable.FindAllString(read(t, "docs/limits.md"), -1) {
		for _, match := range inBackticks.FindAllStringSubmatch(row, -1) {
			if strings.ContainsAny(match[1], "./- ") {
				continue
			}
			named++
			if !regexp.MustCompile(`\b` + match[1] + `\b`).MatchString(sources) {
				t.Errorf("docs/limits.md names %s, which is nowhere in the code", match[1])
			}
		}
	}
	if named < 40 {
		t.Errorf("only %d constants were found in docs/limits.md: the pattern has gone blind", named)
	}
}

var metricInText = regexp.MustCompile("`((?:rauta|go|process)_[a-z0-9_]+)`")

func TestTestsNamedAgainstAttacksExist(t *testing.T) {
	var source strings.Builder
	for _, folder := range []string{"control", "proxy", "cmd", "test", "fastpath", "h2"} {
		err := filepath.WalkDir(filepath.Join(root, folder), func(path string, _ fs.DirEntry, err error) error {
			if err != nil || !strings.HasSuffix(path, "_test.go") {
				return err
			}
			text, err := os.ReadFile(path)
			source.Write(text)
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	names := matches(regexp.MustCompile("`(Test[A-Za-z0-9]+)`"), read(t, "docs/attacks.md"))
	if len(names) < 20 {
		t.Fatalf("the page names %d tests", len(names))
	}
	for _, name := range names {
		if !strings.Contains(source.String(), "func "+name+"(") {
			t.Errorf("docs/attacks.md names %s, which does not exist", name)
		}
	}
}

func TestMetricsNamedInTheDocumentsExist(t *testing.T) {
	table := read(t, "docs/metrics.md")
	for _, page := range pages(t) {
		for _, name := range matches(metricInText, read(t, page)) {
			if !strings.Contains(table, "`"+name+"`") {
				t.Errorf("%s names the metric %s, which docs/metrics.md does not have", page, name)
			}
		}
	}
}

func sourceText(t *testing.T, folders ...string) string {
	t.Helper()
	var b strings.Builder
	for _, folder := range folders {
		err := filepath.WalkDir(filepath.Join(root, folder), func(path string, d fs.DirEntry, err error) error {
			if err != nil || d.IsDir() || !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go") {
				return err
			}
			text, err := os.ReadFile(path)
			b.Write(text)
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	return b.String()
}
