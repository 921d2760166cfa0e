package bpf

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// objectFiles is how many files objects.sha256 has: three of source, the script, four objects with their Go, and the compiler.
const objectFiles = 13

func TestTheObjectsAreThoseOfTheirSource(t *testing.T) {
	sums, err := os.ReadFile("objects.sha256")
	if err != nil {
		t.Fatal(err)
	}
	lines := strings.Split(strings.TrimSpace(string(sums)), "\n")
	if len(lines) != objectFiles {
		t.Fatalf("only %d files in objects.sha256", len(lines))
	}
	for _, line := range lines {
		want, name, _ := strings.Cut(line, "  ")
		text, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		if sum := sha256.Sum256(text); hex.EncodeToString(sum[:]) != want {
			t.Errorf("%s has changed since the objects were compiled: run make bpf", name)
		}
	}
}

func TestTheCompilerOfTheObjectsMakesThemAgain(t *testing.T) {
	compiler, err := os.ReadFile("compiler.txt")
	if err != nil {
		t.Fatal(err)
	}
	out, err := exec.Command("clang-19", "--version").Output()
	if first, _, _ := bytes.Cut(out, []byte("\n")); err != nil || string(first) != strings.TrimSpace(string(compiler)) {
		t.Skipf("needs clang-19 as compiler.txt has it (Debian: package clang-19): %s", bytes.TrimSpace(compiler))
	}
	if err := exec.Command("go", "mod", "download", "github.com/cilium/ebpf").Run(); err != nil {
		t.Skipf("needs github.com/cilium/ebpf, whose bpf2go go mod download could not get: %v", err)
	}
	dir := t.TempDir()
	if err := os.CopyFS(filepath.Join(dir, "src"), os.DirFS("src")); err != nil {
		t.Fatal(err)
	}
	script, err := os.ReadFile("generate.sh")
	if err == nil {
		err = os.WriteFile(filepath.Join(dir, "generate.sh"), script, 0o755)
	}
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command("./generate.sh")
	cmd.Dir = dir
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	objects, err := filepath.Glob("*_bpfel.o")
	if err != nil || len(objects) != 4 {
		t.Fatalf("objects: %v %v", objects, err)
	}
	for _, name := range objects {
		committed, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		if made, err := os.ReadFile(filepath.Join(dir, name)); err != nil || !bytes.Equal(made, committed) {
			t.Errorf("%s is not what its source compiles to (%v): run make bpf", name, err)
		}
	}
}
