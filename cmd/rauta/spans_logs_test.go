package main

import (
	"encoding/json"
	"fmt"
	"math"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/coder/websocket"
)

// lineOf waits for the line of a trace in a log.
func (x *traced) lineOf(path, trace string) (line string) {
	x.t.Helper()
	x.until("the line of "+trace, func() bool {
		text, _ := os.ReadFile(path)
		for line = range strings.Lines(string(text)) {
			if strings.Contains(line, `"trace_id":"`+trace+`"`) {
				return strings.HasSuffix(line, "\n")
			}
		}
		return false
	})
	return line
}

// TestTheLogsSayOfARequestWhatItsSpanSays: where its time went, and how it ended.
func TestTheLogsSayOfARequestWhatItsSpanSays(t *testing.T) {
	dir := t.TempDir()
	access, errors := filepath.Join(dir, "access.log"), filepath.Join(dir, "error.log")
	x := startTraced(t, "--access-log", access, "--error-log", errors)
	traces := map[string]string{}
	for _, path := range []string{"/plain", "/flaky", "/slow", "/broken", "/mirrored"} {
		traces[path] = x.trace()
		x.do(http.DefaultClient, path, contextOf(traces[path], "01"))
	}
	traces["/socket"] = x.trace()
	c, _, err := websocket.Dial(t.Context(), x.url("/socket"), &websocket.DialOptions{HTTPHeader: contextOf(traces["/socket"], "01")})
	if err != nil {
		t.Fatal(err)
	}
	c.Close(websocket.StatusNormalClosure, "")
	for path, trace := range traces {
		text := x.lineOf(access, trace)
		var line struct {
			Status, Attempts int
			Reason           string
			Stages           map[string]int64 `json:"stages_us"`
		}
		if err := json.Unmarshal([]byte(text), &line); err != nil {
			t.Fatalf("%s: %v", path, err)
		}
		if line.Reason != "" {
			if again := x.lineOf(errors, trace); again != text {
				t.Errorf("%s: the error log says\n%s, the access log\n%s", path, again, text)
			}
		}
		request := x.collector.Wait(trace, 1+line.Attempts)[0]
		want(t, request, map[string]string{
			"http.response.status_code": fmt.Sprint(line.Status), "rauta.attempts": fmt.Sprint(line.Attempts), "rauta.reason": line.Reason,
		})
		for stage, us := range line.Stages {
			seconds, _ := strconv.ParseFloat(request.Attributes["rauta.stage."+stage], 64) // none if no time was spent in it
			if math.Abs(seconds*1e6-float64(us)) > 1 {
				t.Errorf("%s: %s took %d us in the log, %v s in the span", path, stage, us, seconds)
			}
		}
	}
}
