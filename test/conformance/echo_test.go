package conformance

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

// Where the suite's back end is copied to.
const (
	suiteModule = "sigs.k8s.io/gateway-api/conformance"
	echoFolder  = "echo" // git ignores it
	echoPackage = "rauta.io/rauta/test/conformance/" + echoFolder
)

// edit is one change to the suite's back end.
type edit struct{ file, from, to string }

// echoEdits make the back end listen on the address of its pod: here many pods share one network.
func echoEdits() []edit {
	const address = `os.Getenv("POD_IP")+`
	return []edit{
		{"echo-basic.go", `Sprintf(":%s"`, `Sprintf(` + address + `":%s"`},
		{"tcpserver/tcpserver.go", `Sprintf(":%s"`, `Sprintf(` + address + `":%s"`},
		{"grpc/grpc.go", `Sprintf("0.0.0.0:%d"`, `Sprintf(` + address + `":%d"`},
		{"udpechoserver/udpechoserver.go", `ResolveUDPAddr("udp", ":"+`, `ResolveUDPAddr("udp", ` + address + `":"+`},
	}
}

// copyEcho copies the suite's back end out of the module cache and changes what has to be changed.
func copyEcho() error {
	text, err := exec.Command("go", "list", "-m", "-f", "{{.Dir}}", suiteModule).Output()
	if err != nil {
		return fmt.Errorf("find %s: %w", suiteModule, err)
	}
	source := filepath.Join(strings.TrimSpace(string(text)), "echo-basic")
	if err := os.RemoveAll(echoFolder); err != nil {
		return err
	}
	edits := echoEdits()
	done := make([]bool, len(edits))
	for _, folder := range []string{".", "grpc", "grpcechoserver", "tcpserver", "udpechoserver"} {
		files, err := filepath.Glob(filepath.Join(source, folder, "*.go"))
		if err != nil {
			return err
		}
		for _, file := range files {
			if strings.HasSuffix(file, "_test.go") {
				continue
			}
			name := filepath.Join(folder, filepath.Base(file))
			text, err := os.ReadFile(file)
			if err != nil {
				return err
			}
			text = bytes.ReplaceAll(text, []byte(`"`+suiteModule+`/echo-basic/`), []byte(`"`+echoPackage+`/`))
			for i, e := range edits {
				if e.file == name {
					done[i] = bytes.Contains(text, []byte(e.from))
					text = bytes.ReplaceAll(text, []byte(e.from), []byte(e.to))
				}
			}
			if err := writeGenerated(filepath.Join(echoFolder, name), text); err != nil {
				return err
			}
		}
	}
	for i, ok := range done {
		if !ok {
			return fmt.Errorf("the suite's back end has changed: %s has no %s any more", edits[i].file, edits[i].from)
		}
	}
	return nil
}

func writeGenerated(name string, text []byte) error {
	if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
		return err
	}
	return os.WriteFile(name, append([]byte("// Code generated from the conformance suite of the Gateway API; DO NOT EDIT.\n\n"), text...), 0o644)
}
