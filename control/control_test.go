package control

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"reflect"
	"runtime"
	"strings"
	"testing"
	"time"

	"rauta.io/rauta/control/translate"
	"rauta.io/rauta/control/watch"
	"rauta.io/rauta/proxy/config"
)

// plane records what is published.
type plane struct {
	published []*config.Config
	failed    []error
	told      chan struct{}
	err       error
}

func (p *plane) Publish(cfg *config.Config, _ config.Endpoints) error {
	p.published = append(p.published, cfg)
	p.told <- struct{}{}
	return p.err
}

func (p *plane) Failed(err error) {
	p.failed = append(p.failed, err)
	p.told <- struct{}{}
}

const gateway = `apiVersion: gateway.networking.k8s.io/v1
kind: GatewayClass
metadata: {name: rauta}
spec: {controllerName: rauta.io/gateway-controller}
---
apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata: {name: gw}
spec:
  gatewayClassName: rauta
  listeners: [{name: http, port: 8000, protocol: HTTP}]
`

func files(t *testing.T, text string) (*Files, *plane, *bytes.Buffer) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "a.yaml")
	put(t, path, text)
	p := &plane{told: make(chan struct{}, 100)}
	log := &bytes.Buffer{}
	return &Files{Paths: []string{path}, To: p, Log: slog.New(slog.NewTextHandler(log, nil))}, p, log
}

func put(t *testing.T, path, text string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}

func TestWhatCanBeReadIsPublished(t *testing.T) {
	f, p, _ := files(t, gateway)
	if err := f.Load(); err != nil {
		t.Fatal(err)
	}
	if len(p.published) != 1 || len(p.published[0].Listeners) != 1 || p.published[0].Listeners[0].Port != 8000 {
		t.Errorf("published %+v", p.published)
	}
}

func TestABrokenFilePublishesNothingAndIsRecorded(t *testing.T) {
	f, p, _ := files(t, gateway+"nonsense: 1\n")
	err := f.Load()
	if err == nil || !strings.Contains(err.Error(), "a.yaml:6: Gateway default/gw: nonsense: unknown field") {
		t.Errorf("got %v", err)
	}
	if len(p.published) != 0 || len(p.failed) != 1 {
		t.Errorf("published %d times, failed %d times, want 0 and 1", len(p.published), len(p.failed))
	}
}

func TestAProblemOfOneObjectIsLoggedOnceAndTheRestIsPublished(t *testing.T) {
	f, p, log := files(t, gateway+`---
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: r}
spec:
  parentRefs: [{name: gw}]
  rules: [{backendRefs: [{name: missing, port: 80}]}]
`)
	for range 2 {
		if err := f.Load(); err != nil {
			t.Fatal(err)
		}
	}
	if len(p.published) != 2 || len(p.published[0].Routes) != 1 {
		t.Errorf("published %+v", p.published)
	}
	if got := strings.Count(log.String(), "a.yaml:13: HTTPRoute default/r: "); got != 1 {
		t.Errorf("the problem was logged %d times, want once:\n%s", got, log)
	}
}

func TestWhatTheDataPlaneLeavesOutIsReturned(t *testing.T) {
	f, p, _ := files(t, gateway)
	p.err = errors.New("port 8000 is taken")
	if err := f.Load(); !errors.Is(err, p.err) {
		t.Errorf("got %v", err)
	}
}

func TestChangesAreFollowedUntilTheEnd(t *testing.T) {
	f, p, _ := files(t, gateway)
	if err := f.Load(); err != nil {
		t.Fatal(err)
	}
	<-p.told
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error)
	go func() { done <- f.Follow(ctx, nil) }()
	put(t, f.Paths[0], strings.Replace(gateway, "8000", "8001", 1))
	for deadline := time.After(20 * time.Second); ; {
		select {
		case <-p.told:
		case <-deadline:
			t.Fatal("the change was not published")
		}
		if last := p.published[len(p.published)-1]; len(last.Listeners) == 1 && last.Listeners[0].Port == 8001 {
			break
		}
	}
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
}

// TestWhatIsPublishedIsWhatWasTranslated, whatever there is: it is moved in between.
func TestWhatIsPublishedIsWhatWasTranslated(t *testing.T) {
	cases, err := filepath.Glob("translate/testdata/*/*")
	if err != nil || len(cases) < 100 {
		t.Fatalf("%d cases: %v", len(cases), err)
	}
	for _, path := range cases {
		if info, err := os.Stat(path); err != nil || !info.IsDir() {
			continue
		}
		loaded := watch.Load([]string{path})
		result := translate.Translate(loaded.Objects, translate.Options{})
		got := moved(&published{result.Config, result.Endpoints})
		if !reflect.DeepEqual(got.Config, result.Config) || !reflect.DeepEqual(got.Endpoints, result.Endpoints) {
			t.Errorf("%s: got  %+v %+v\nwant %+v %+v", path, got.Config, got.Endpoints, result.Config, result.Endpoints)
		}
	}
}

// TestAConfigurationFromFilesStandsTogetherInMemory, not between what was read. Unmoved it would take more than twice of what lives.
func TestAConfigurationFromFilesStandsTogetherInMemory(t *testing.T) {
	text := gateway
	for i := range 3000 {
		text += fmt.Sprintf("---\napiVersion: gateway.networking.k8s.io/v1\nkind: HTTPRoute\nmetadata: {name: r%d}\nspec:\n"+
			"  parentRefs: [{name: gw}]\n  hostnames: [h%[1]d.example.com]\n  rules: [{backendRefs: [{name: s, port: 80}]}]\n", i)
	}
	f, p, _ := files(t, text)
	text = ""
	usage := func() (used, live float64) {
		var m runtime.MemStats
		runtime.GC()
		runtime.GC() // sweeps what the first one found
		runtime.ReadMemStats(&m)
		return float64(m.HeapInuse), float64(m.HeapAlloc)
	}
	usedBefore, liveBefore := usage()
	if err := f.Load(); err != nil || len(p.published[0].Routes) != 3000 {
		t.Fatalf("%d routes are published: %v", len(p.published[0].Routes), err)
	}
	used, live := usage()
	runtime.KeepAlive(p)
	used, live = used-usedBefore, live-liveBefore
	t.Logf("%.1f MB, of which %.1f live", used/1e6, live/1e6)
	if used > 1.4*live {
		t.Errorf("%.1f MB of heap for %.1f MB that live", used/1e6, live/1e6)
	}
}
