package watch

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"k8s.io/client-go/rest"
)

func TestTheZoneOfANodeIsItsLabel(t *testing.T) {
	for labels, want := range map[string]string{`{"topology.kubernetes.io/zone":"b"}`: "b", `{"other":"b"}`: ""} {
		s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if r.URL.Path != "/api/v1/nodes/n1" {
				t.Errorf("%s is asked for", r.URL.Path)
			}
			w.Header().Set("Content-Type", "application/json")
			fmt.Fprintf(w, `{"apiVersion":"v1","kind":"Node","metadata":{"name":"n1","labels":%s}}`, labels)
		}))
		defer s.Close()
		got, err := Zone(t.Context(), &rest.Config{Host: s.URL}, "n1", slog.New(slog.DiscardHandler))
		if err != nil || got != want {
			t.Errorf("%s: zone %q, %v, want %q", labels, got, err, want)
		}
	}
}

func TestANodeThatMayNotBeReadIsTold(t *testing.T) {
	ctx, stop := context.WithCancel(t.Context())
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(http.StatusForbidden)
		fmt.Fprint(w, `{"apiVersion":"v1","kind":"Status","status":"Failure","reason":"Forbidden","code":403}`)
	}))
	defer s.Close()
	var log bytes.Buffer
	told := slog.New(slog.NewTextHandler(&log, &slog.HandlerOptions{ReplaceAttr: func(_ []string, a slog.Attr) slog.Attr {
		stop() // it has been told, and would be asked for again after a pause
		return a
	}}))
	if _, err := Zone(ctx, &rest.Config{Host: s.URL}, "n1", told); err == nil {
		t.Error("there is an answer")
	}
	if !strings.Contains(log.String(), "allow get of nodes") {
		t.Errorf("the log says %q", log.String())
	}
}
