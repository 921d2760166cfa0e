package doctest

import (
	"encoding/json"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// instruction is one line of a Dockerfile, with the lines that continue it.
type instruction struct{ name, rest string }

// dockerfile parses what deploy/Dockerfile uses of the format: comments, continued lines, and no here-documents.
func dockerfile(t *testing.T, text string) []instruction {
	t.Helper()
	var out []instruction
	whole := ""
	for line := range strings.Lines(text) {
		line = strings.TrimSpace(line)
		if line == "" || strings.HasPrefix(line, "#") {
			continue
		}
		before, continued := strings.CutSuffix(line, `\`)
		whole += before
		if continued {
			continue
		}
		name, rest, found := strings.Cut(whole, " ")
		if !found || name != strings.ToUpper(name) {
			t.Fatalf("%q is not an instruction", whole)
		}
		out = append(out, instruction{name, strings.Join(strings.Fields(rest), " ")})
		whole = ""
	}
	if whole != "" {
		t.Fatalf("%q is continued by nothing", whole)
	}
	return out
}

// one returns what the only instruction of a name says.
func one(t *testing.T, all []instruction, name string) string {
	t.Helper()
	var found []string
	for _, i := range all {
		if i.name == name {
			found = append(found, i.rest)
		}
	}
	if len(found) != 1 {
		t.Fatalf("%s is there %d times, want once: %q", name, len(found), found)
	}
	return found[0]
}

// TestTheImageIsMadeOfWhatIsThere: nobody builds the image here, so that what its recipe says of the tree is compared with
// the tree: the version of Go, the files, the package, the variables that the linker sets, the user, and the program.
func TestTheImageIsMadeOfWhatIsThere(t *testing.T) {
	all := dockerfile(t, read(t, "deploy/Dockerfile"))
	stages := []int{}
	for i, in := range all {
		if in.name == "FROM" {
			stages = append(stages, i)
		}
	}
	if len(stages) != 2 {
		t.Fatalf("%d stages, want one that builds and one that is shipped", len(stages))
	}
	build, shipped := all[stages[0]:stages[1]], all[stages[1]:]

	module := regexp.MustCompile(`(?m)^go (\d+\.\d+)`).FindStringSubmatch(read(t, "go.mod"))
	if module == nil {
		t.Fatal("go.mod names no version of Go")
	}
	if !slices.Contains(all[:stages[0]], instruction{"ARG", "GO=golang:" + module[1]}) {
		t.Errorf("ARG GO is not golang:%s, which go.mod asks for", module[1])
	}

	ignored := strings.Fields(read(t, ".dockerignore"))
	for _, in := range build {
		if in.name != "COPY" {
			continue
		}
		words := strings.Fields(in.rest)
		for _, source := range words[:len(words)-1] {
			if _, err := os.Stat(filepath.Join(root, source)); err != nil || slices.Contains(ignored, source) {
				t.Errorf("COPY %s: it is not in what is sent to the builder (%v)", source, err)
			}
		}
	}

	var compile string
	for _, in := range build {
		if in.name == "RUN" && strings.Contains(in.rest, "go build") {
			compile = in.rest
		}
	}
	words := strings.Fields(compile)
	if len(words) == 0 || !slices.Contains(words, "CGO_ENABLED=0") {
		t.Fatalf("the image has no C library, and the program is not built without: %q", compile)
	}
	program := words[len(words)-1]
	list := exec.Command("go", "list", "-deps", "-f", "{{if not .Standard}}{{.ImportPath}}{{end}}", program)
	list.Dir = root
	packages, err := list.Output()
	if err != nil {
		t.Fatalf("go list %s: %v", program, err)
	}
	for _, name := range strings.Fields(string(packages)) {
		inside, own := strings.CutPrefix(name, "rauta.io/rauta/")
		if top, _, _ := strings.Cut(inside, "/"); own && slices.Contains(ignored, top) {
			t.Errorf("%s needs %s, which .dockerignore keeps from the builder", program, name)
		}
	}
	set := regexp.MustCompile(`-X main\.(\w+)=`).FindAllStringSubmatch(compile, -1)
	if len(set) == 0 {
		t.Error("the linker is told no version")
	}
	source := read(t, path.Join(program, "version.go"))
	for _, variable := range set {
		// The linker sets strings only, and says nothing of a name that is not there.
		if !regexp.MustCompile(`(?m)^\s+` + variable[1] + `\s+= "`).MatchString(source) {
			t.Errorf("-X main.%s: %s/version.go has no such string", variable[1], program)
		}
	}

	from, target, _ := strings.Cut(strings.TrimPrefix(one(t, shipped, "COPY"), "--from=build "), " ")
	if !strings.Contains(compile, "-o "+from+" ") {
		t.Errorf("%s is copied, but not what was built: %q", from, compile)
	}
	var entry []string
	if err := json.Unmarshal([]byte(one(t, shipped, "ENTRYPOINT")), &entry); err != nil {
		t.Fatalf("ENTRYPOINT needs a shell, and the image has none: %v", err)
	}
	if len(entry) != 1 || target != "/usr/local/bin/"+entry[0] {
		t.Errorf("ENTRYPOINT %q does not start %s", entry, target)
	}
	user, group, _ := strings.Cut(one(t, shipped, "USER"), ":")
	if user != group || !strings.Contains(read(t, "deploy/deployment/deployment.yaml"), "runAsUser: "+user+"\n") {
		t.Errorf("USER %s:%s is not the one of deploy/deployment", user, group)
	}
}
