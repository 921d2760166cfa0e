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

// TestHTTP2ConformsToH2spec runs github.com/summerwind/h2spec, which `make h2spec` builds and names in H2SPEC, over
// cleartext, on a port that speaks HTTP/1 too, and over TLS.
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
	endpoint := app.Listener.Addr().String()
	for name, transport := range map[string]struct {
		addr string
		args []string
	}{
		"cleartext": {start(t, []string{endpoint}).addr, nil},
		"TLS":       {startTLS(t, endpoint).addr, []string{"-t", "-k"}},
	} {
		t.Run(name, func(t *testing.T) {
			host, port, _ := net.SplitHostPort(transport.addr)
			// A case waits this many seconds for the end of a connection, on a machine that may be busy.
			const patience = "5"
			args := append([]string{"-h", host, "-p", port, "-o", patience}, transport.args...)
			out, _ := exec.Command(program, args...).CombinedOutput()
			if !strings.Contains(string(out), "145 tests, 145 passed, 0 skipped, 0 failed") {
				t.Errorf("h2spec %q:\n%s", args, out)
			}
		})
	}
}
