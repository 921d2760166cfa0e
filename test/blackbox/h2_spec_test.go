package blackbox

import (
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"strings"
	"testing"
)

// TestHTTP2ConformsToH2spec runs github.com/summerwind/h2spec, which `make h2spec` builds and names in H2SPEC.
func TestHTTP2ConformsToH2spec(t *testing.T) {
	program := os.Getenv("H2SPEC")
	if program == "" {
		t.Skip("H2SPEC names no program; run make h2spec")
	}
	app := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		io.Copy(io.Discard, r.Body)
		io.WriteString(w, "hello, world") // the suite looks for DATA
	}))
	defer app.Close()
	r := start(t, []string{app.Listener.Addr().String()})
	host, port, _ := net.SplitHostPort(r.addr)
	out, _ := exec.Command(program, "-h", host, "-p", port, "-o", "5").CombinedOutput()
	// On a port that speaks HTTP/1 too, what is no preface is a bad request of HTTP/1, and answered in that protocol.
	const sharedPort = "Sends invalid connection preface"
	var failed []string
	for _, line := range strings.Split(string(out), "\n") {
		if _, name, found := strings.Cut(line, "× "); found && !strings.HasSuffix(name, sharedPort) {
			failed = append(failed, strings.TrimSpace(name))
		}
	}
	if !strings.Contains(string(out), "145 tests, 144 passed, 0 skipped, 1 failed") || len(failed) > 0 {
		t.Errorf("failed: %q\n%s", failed, out)
	}
}
