package demo

import (
	"bytes"
	"context"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"
)

// callGRPC sends the messages and returns everything that comes back.
func callGRPC(t *testing.T, path string, messages ...string) (body []byte, status string) {
	t.Helper()
	s := httptest.NewUnstartedServer(GRPCHandler("echo"))
	s.Config.Protocols = &http.Protocols{}
	s.Config.Protocols.SetUnencryptedHTTP2(true)
	s.Start()
	defer s.Close()
	transport := &http.Transport{Protocols: s.Config.Protocols}
	defer transport.CloseIdleConnections()
	var sent bytes.Buffer
	for _, m := range messages {
		sent.Write(append([]byte{0, 0, 0, 0, byte(len(m))}, m...))
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, s.URL+path, &sent)
	if err != nil {
		t.Fatal(err)
	}
	request.Header.Set("Content-Type", "application/grpc")
	request.Header.Set("Te", "trailers")
	response, err := transport.RoundTrip(request)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	if body, err = io.ReadAll(response.Body); err != nil {
		t.Fatal(err)
	}
	if status = response.Trailer.Get("Grpc-Status"); status == "" {
		status = response.Header.Get("Grpc-Status")
	}
	return body, status
}

func TestAGRPCMessageComesBackWithTheBackEndsName(t *testing.T) {
	const one, two = "\x0a\x03one", "\x0a\x03two"
	const name = "\x12\x04echo"
	body, status := callGRPC(t, "/demo.Echo/Chat", one, two)
	if want := "\x00\x00\x00\x00\x0b" + one + name + "\x00\x00\x00\x00\x0b" + two + name; status != "0" || string(body) != want {
		t.Errorf("status %s, %q, want %q", status, body, want)
	}
	if body, status := callGRPC(t, "/demo.Echo/Sing", one); status != grpcUnimplemented || len(body) > 0 {
		t.Errorf("another method: status %s, %q", status, body)
	}
}

func TestReflectionKnowsTheServiceAndNothingElse(t *testing.T) {
	ask := func(field int, text string) string {
		body, status := callGRPC(t, "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo", string(appendText(nil, field, text)))
		if status != "0" {
			t.Errorf("status %s", status)
		}
		return string(body)
	}
	if got := ask(askServices, "*"); !strings.Contains(got, "demo.Echo") {
		t.Errorf("the services are %q", got)
	}
	for field, text := range map[int]string{askFileBySymbol: "demo.Echo", askFileByName: protoFile} {
		if got := ask(field, text); !strings.Contains(got, string(fileDescriptor())) {
			t.Errorf("%s gives %q", text, got)
		}
	}
	if got := ask(askFileBySymbol, "other.Service"); !strings.Contains(got, "only demo.Echo is known") {
		t.Errorf("another service gives %q", got)
	}
	if field, _ := question([]byte{0x3a, 0xff}); field != 0 {
		t.Error("a malformed question is understood")
	}
}
