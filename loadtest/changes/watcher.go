package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"sync"
	"time"
)

// watcher is told of changes of routes as RAUTA is, and does nothing with them: what it takes to hear of a change is the API
// server's part of it, and the machine's.
type watcher struct {
	mu    sync.Mutex
	heard map[string]time.Time // by version
}

// versionField is where a route says which version it is (route).
var versionField = []byte(`{"name":"X-Version","value":"`)

// watch begins at once, and goes on until ctx is done.
func (l *lab) watch(ctx context.Context) (*watcher, error) {
	list, err := l.api.ask(ctx, routePath+"?limit=1")
	if err != nil {
		return nil, err
	}
	var of struct {
		Metadata struct{ ResourceVersion string }
	}
	err = json.NewDecoder(list.Body).Decode(&of)
	list.Body.Close()
	if err != nil {
		return nil, fmt.Errorf("read a list of routes: %w", err)
	}
	events, err := l.api.ask(ctx, routePath+"?watch=true&resourceVersion="+of.Metadata.ResourceVersion)
	if err != nil {
		return nil, err
	}
	w := &watcher{heard: map[string]time.Time{}}
	go func() {
		defer events.Body.Close()
		lines := bufio.NewScanner(events.Body)
		lines.Buffer(nil, 1<<20)
		for lines.Scan() {
			now := time.Now()
			_, after, found := bytes.Cut(lines.Bytes(), versionField)
			if version, _, ok := bytes.Cut(after, []byte(`"`)); found && ok {
				w.hear(string(version), now)
			}
		}
	}()
	return w, nil
}

// hear notes the first event of a version: a status that is written is another.
func (w *watcher) hear(version string, at time.Time) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if _, known := w.heard[version]; !known {
		w.heard[version] = at
	}
}

// at is when a version was heard of; zero if it was not.
func (w *watcher) at(version string) time.Time {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.heard[version]
}

// ask reads; the body of the answer is the caller's.
func (a *api) ask(ctx context.Context, path string) (*http.Response, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, a.server+path, nil)
	if err != nil {
		return nil, err
	}
	if a.token != "" {
		req.Header.Set("Authorization", "Bearer "+a.token)
	}
	resp, err := a.client.Do(req)
	if err != nil {
		return nil, fmt.Errorf("GET %s: %w", path, err)
	}
	if resp.StatusCode != http.StatusOK {
		resp.Body.Close()
		return nil, fmt.Errorf("GET %s: %s", path, resp.Status)
	}
	return resp, nil
}
