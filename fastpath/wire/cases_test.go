package wire

import (
	"bytes"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
)

var update = flag.Bool("update", false, "rewrite the expected outcomes in testdata; read the difference before you commit it")

// A testdata file has cases of this form:
//
//	# anything about the case or those after it
//	-- a sentence that names the case
//	@ head line=100
//	> GET / HTTP/1.1\r\n
//	>*3 A: b\r\n
//	>
//	< the outcome, line by line
//
// Input lines hold bytes with the escapes of Go strings and are joined without the line ends of the file; >*3 stands for
// three times the rest of the line. The words after @ say how the case is run.
type wireCase struct {
	name    string
	options []string
	in      []byte
	want    string

	source []string // all lines but those of the outcome
}

// option returns the number behind "name=", or otherwise.
func (c *wireCase) option(name string, otherwise int) int {
	for _, o := range c.options {
		if v, ok := strings.CutPrefix(o, name+"="); ok {
			n, err := strconv.Atoi(v)
			if err != nil {
				panic(fmt.Sprintf("case %q: option %q: %v", c.name, o, err))
			}
			return n
		}
	}
	return otherwise
}

func (c *wireCase) has(option string) bool {
	for _, o := range c.options {
		if o == option {
			return true
		}
	}
	return false
}

func (c *wireCase) limits(lim Limits) Limits {
	lim.RequestLineBytes = c.option("line", lim.RequestLineBytes)
	lim.HeadBytes = c.option("head-bytes", lim.HeadBytes)
	lim.Fields = c.option("fields", lim.Fields)
	lim.StrictNames = c.has("strict")
	return lim
}

// readCases reads the files of a folder of testdata, by file name.
func readCases(tb testing.TB, folder string) map[string][]*wireCase {
	tb.Helper()
	names, err := filepath.Glob(filepath.Join("testdata", folder, "*.txt"))
	if err != nil || len(names) == 0 {
		tb.Fatal("no cases in ", folder, err)
	}
	files := map[string][]*wireCase{}
	for _, name := range names {
		b, err := os.ReadFile(name)
		if err != nil {
			tb.Fatal(err)
		}
		var pending []string
		var c *wireCase
		for i, line := range strings.Split(strings.TrimRight(string(b), "\n"), "\n") {
			if len(line) > 0 && strings.ContainsRune("#-", rune(line[0])) || line == "" {
				c = nil
				pending = append(pending, line)
				if sentence, ok := strings.CutPrefix(line, "-- "); ok {
					c = &wireCase{name: sentence, source: pending}
					pending = nil
					files[name] = append(files[name], c)
				}
				continue
			}
			if c == nil {
				tb.Fatalf("%s:%d: a line outside of a case", name, i+1)
			}
			if err := c.line(line); err != nil {
				tb.Fatalf("%s:%d: %v", name, i+1, err)
			}
		}
	}
	return files
}

func (c *wireCase) line(line string) error {
	rest := strings.TrimPrefix(line[1:], " ")
	switch line[0] {
	case '<':
		c.want += rest + "\n"
		return nil
	case '@':
		c.options = append(c.options, strings.Fields(rest)...)
	case '>':
		times := 1
		if count, ok := strings.CutPrefix(line, ">*"); ok {
			digits, text, _ := strings.Cut(count, " ")
			n, err := strconv.Atoi(digits)
			if err != nil {
				return err
			}
			times, rest = n, text
		}
		text, err := strconv.Unquote(`"` + strings.ReplaceAll(rest, `"`, `\"`) + `"`)
		if err != nil {
			return err
		}
		c.in = append(c.in, strings.Repeat(text, times)...)
	default:
		return fmt.Errorf("starts with none of # - @ > <: %q", line)
	}
	c.source = append(c.source, line)
	return nil
}

// runCases holds the outcome of each case, fed whole, byte by byte, and in every two parts, against the file.
func runCases(t *testing.T, folder string, outcome func(c *wireCase, in []byte, ends []int) string) {
	for name, cases := range readCases(t, folder) {
		var rewritten strings.Builder
		seen := map[string]bool{}
		for _, c := range cases {
			if seen[c.name] {
				t.Errorf("%s: two cases are named %q", name, c.name)
			}
			seen[c.name] = true
			got := outcome(c, c.in, []int{len(c.in)})
			for _, l := range c.source {
				fmt.Fprintln(&rewritten, l)
			}
			for _, l := range strings.Split(strings.TrimSuffix(got, "\n"), "\n") {
				fmt.Fprintln(&rewritten, "<", l)
			}
			if got != c.want && !*update {
				t.Errorf("%s: %s\n%q\ngot\n%swant\n%s", name, c.name, c.in, got, c.want)
			}
			ends := make([]int, 0, len(c.in))
			for i := range c.in {
				ends = append(ends, i+1)
			}
			if in := outcome(c, c.in, ends); in != got {
				t.Errorf("%s: %s: whole\n%sbyte by byte\n%s", name, c.name, got, in)
			}
			for i := 0; i <= len(c.in); i++ {
				if in := outcome(c, c.in, []int{i, len(c.in)}); in != got {
					t.Errorf("%s: %s: whole\n%scut at %d\n%s", name, c.name, got, i, in)
					break
				}
			}
		}
		if *update {
			if err := os.WriteFile(name, []byte(rewritten.String()), 0o644); err != nil {
				t.Fatal(err)
			}
		}
	}
}

// moved returns b elsewhere in memory and spoils what is at its old place, as a caller does who reuses a buffer.
func moved(old, b []byte) []byte {
	fresh := bytes.Clone(b)
	for i := range old {
		old[i] = 0xaa
	}
	return fresh
}

// addCases adds the inputs of all cases to a fuzz test.
func addCases(f *testing.F, folder string, add func(c *wireCase)) {
	for _, cases := range readCases(f, folder) {
		for _, c := range cases {
			add(c)
		}
	}
}
