package demo

import (
	"context"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/coder/websocket"

	"rauta.io/rauta/internal/testrig"
)

func TestABackEndSaysItsNameAndWhatReachedIt(t *testing.T) {
	s := httptest.NewServer(Handler("web"))
	defer s.Close()
	req, _ := http.NewRequest("POST", s.URL+"/a/b?c=d", strings.NewReader("12345"))
	req.Header.Set("X-Shop", "quickstart")
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, _ := io.ReadAll(resp.Body)
	for _, want := range []string{"back end: web", "POST /a/b?c=d", "X-Shop: quickstart", "5 bytes"} {
		if !strings.Contains(string(body), want) {
			t.Errorf("the answer lacks %q:\n%s", want, body)
		}
	}
	if got := resp.Header.Get("X-Backend"); got != "web" {
		t.Errorf("X-Backend is %q", got)
	}
}

func TestTheWebSocketSendsBackWhatItGets(t *testing.T) {
	s := httptest.NewServer(Handler("web"))
	defer s.Close()
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	c, _, err := websocket.Dial(ctx, s.URL+"/ws", nil)
	if err != nil {
		t.Fatal(err)
	}
	defer c.CloseNow()
	for _, text := range []string{"one", "two"} {
		if err := c.Write(ctx, websocket.MessageText, []byte(text)); err != nil {
			t.Fatal(err)
		}
		_, got, err := c.Read(ctx)
		if err != nil || string(got) != text {
			t.Fatalf("got %q, %v, want %q", got, err, text)
		}
	}
}

func TestThePageForBrowsersOpensTheWebSocket(t *testing.T) {
	w := httptest.NewRecorder()
	Handler("web").ServeHTTP(w, httptest.NewRequest("GET", "/browser", nil))
	if got := w.Header().Get("Content-Type"); !strings.HasPrefix(got, "text/html") || !strings.Contains(w.Body.String(), "new WebSocket(") {
		t.Errorf("Content-Type %q, page:\n%s", got, w.Body)
	}
}

func TestATakenPortIsNamedAndNothingIsLeftRunning(t *testing.T) {
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	free := testrig.DeadAddress(t)
	_, err = Start([]Backend{{Name: "web", Addr: free}, {Name: "api", Addr: taken.Addr().String()}})
	if err == nil || !strings.Contains(err.Error(), taken.Addr().String()+" is in use") {
		t.Errorf("got %v, want an error that names %s", err, taken.Addr())
	}
	again, err := net.Listen("tcp", free)
	if err != nil {
		t.Fatalf("the first back end was left running: %v", err)
	}
	again.Close()
}

func TestTheQuickStartNamesThePortsOfTheBackEnds(t *testing.T) {
	text, err := os.ReadFile("../../examples/quickstart/backends.yaml")
	if err != nil {
		t.Fatal(err)
	}
	for _, b := range Quickstart() {
		_, port, _ := net.SplitHostPort(b.Addr)
		if !strings.Contains(string(text), "name: "+b.Name+"\n") || !strings.Contains(string(text), "port: "+port+"\n") {
			t.Errorf("examples/quickstart/backends.yaml lacks %s on port %s", b.Name, port)
		}
	}
}
