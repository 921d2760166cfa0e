package watch

import (
	"encoding/json"
	"maps"
	"net/http"
	"net/http/httptest"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
)

// apiServer is as much of an API server as reading needs: lists, watches and discovery, in JSON.
type apiServer struct {
	*httptest.Server

	mu       sync.Mutex
	version  int
	objects  map[string]map[string]map[string]any // by path of the collection in all namespaces, then by namespace/name
	served   map[string][]string                  // plurals of the Gateway API by version
	watchers map[chan event]string                // path that is watched
	down     bool                                 // every request fails
	forget   bool                                 // lists are empty
	starting bool                                 // it is not ready, and has no kind of the Gateway API yet
	requests []string
}

type event struct {
	Type   string         `json:"type"`
	Object map[string]any `json:"object"`
}

func newAPIServer(t *testing.T) *apiServer {
	s := &apiServer{objects: map[string]map[string]map[string]any{}, served: map[string][]string{}, watchers: map[chan event]string{}}
	s.Server = httptest.NewServer(s)
	t.Cleanup(func() {
		s.CloseClientConnections()
		s.Close()
	})
	return s
}

// put creates or replaces an object, given as JSON without apiVersion and kind.
func (s *apiServer) put(path, text string) {
	var o map[string]any
	if err := json.Unmarshal([]byte(text), &o); err != nil {
		panic(err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.version++
	meta := o["metadata"].(map[string]any)
	meta["resourceVersion"] = strconv.Itoa(s.version)
	o["apiVersion"], o["kind"] = versionAndKind(path)
	kind := "ADDED"
	if s.objects[path] == nil {
		s.objects[path] = map[string]map[string]any{}
	}
	if s.objects[path][keyOf(o)] != nil {
		kind = "MODIFIED"
	}
	s.objects[path][keyOf(o)] = o
	s.tell(path, event{kind, o})
}

func (s *apiServer) remove(path, key string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.version++
	o := maps.Clone(s.objects[path][key])
	delete(s.objects[path], key)
	s.tell(path, event{"DELETED", o})
}

func (s *apiServer) tell(path string, e event) {
	for w, watched := range s.watchers {
		if watched == path {
			w <- e
		}
	}
}

// interrupt ends all watches, and lets everything fail from now on, or answer again.
func (s *apiServer) interrupt(down, forget bool) {
	s.mu.Lock()
	s.down, s.forget = down, forget
	s.mu.Unlock()
	s.CloseClientConnections()
}

// asked is how often a path was asked for.
func (s *apiServer) asked(path string) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	n := 0
	for _, url := range s.requests {
		if url == path {
			n++
		}
	}
	return n
}

func (s *apiServer) serve(version string, plurals ...string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.served[version] = plurals
}

func keyOf(o map[string]any) string {
	meta := o["metadata"].(map[string]any)
	namespace, _ := meta["namespace"].(string)
	return namespace + "/" + meta["name"].(string)
}

// versionAndKind are those of the objects of a collection.
func versionAndKind(path string) (version, kind string) {
	parts := strings.Split(strings.TrimPrefix(strings.TrimPrefix(path, "/apis/"), "/api/"), "/")
	plural := parts[len(parts)-1]
	for _, r := range resources() {
		if r.plural == plural {
			kind = r.kind
		}
	}
	return strings.Join(parts[:len(parts)-1], "/"), kind
}

func (s *apiServer) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	s.requests = append(s.requests, r.URL.String())
	down, starting := s.down, s.starting
	s.mu.Unlock()
	path, namespace := r.URL.Path, ""
	if before, after, found := strings.Cut(path, "/namespaces/"); found {
		var plural string
		if namespace, plural, found = strings.Cut(after, "/"); found {
			path = before + "/" + plural
		}
	}
	q := r.URL.Query()
	admits := func(o map[string]any) bool { return selects(q.Get("fieldSelector"), namespace, o) }
	switch {
	case down:
		http.Error(w, "down", http.StatusServiceUnavailable)
	case starting && path == "/readyz" && s.asked(path)%2 == 0:
		answer(w, http.StatusForbidden, map[string]any{"kind": "Status", "apiVersion": "v1", "status": "Failure", "reason": "Forbidden", "code": 403})
	case starting && path == "/readyz":
		http.Error(w, "starting", http.StatusInternalServerError)
	case starting && strings.HasPrefix(path, "/apis/"+gatewayGroup):
		answer(w, http.StatusNotFound, map[string]any{"kind": "Status", "apiVersion": "v1", "status": "Failure", "reason": "NotFound", "code": 404})
	case q.Get("sendInitialEvents") == "true":
		answer(w, http.StatusUnprocessableEntity, map[string]any{"kind": "Status", "apiVersion": "v1", "status": "Failure", "reason": "Invalid", "code": 422})
	case path == "/apis/"+gatewayGroup || strings.HasPrefix(path, "/apis/"+gatewayGroup+"/") && strings.Count(path, "/") == 3:
		s.discover(w, path)
	case strings.HasPrefix(path, "/apis/"+gatewayGroup) && !s.has(path):
		answer(w, http.StatusNotFound, map[string]any{"kind": "Status", "apiVersion": "v1", "status": "Failure", "reason": "NotFound", "code": 404})
	case q.Get("watch") == "true":
		s.watch(w, r, path, admits)
	default:
		s.list(w, path, admits)
	}
}

// discover answers which versions or kinds of the Gateway API there are.
func (s *apiServer) discover(w http.ResponseWriter, path string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	parts := strings.Split(strings.Trim(path, "/"), "/") // apis, group, version
	if len(s.served) == 0 {
		answer(w, http.StatusNotFound, map[string]any{"kind": "Status", "apiVersion": "v1", "status": "Failure", "reason": "NotFound", "code": 404})
		return
	}
	if len(parts) == 2 {
		var versions []map[string]any
		for _, v := range slices.Sorted(maps.Keys(s.served)) {
			versions = append(versions, map[string]any{"groupVersion": gatewayGroup + "/" + v, "version": v})
		}
		answer(w, http.StatusOK, map[string]any{"kind": "APIGroup", "apiVersion": "v1", "name": gatewayGroup, "versions": versions})
		return
	}
	var list []map[string]any
	for _, plural := range s.served[parts[2]] {
		list = append(list, map[string]any{"name": plural})
	}
	answer(w, http.StatusOK, map[string]any{"kind": "APIResourceList", "apiVersion": "v1", "resources": list})
}

// has reports whether a collection of the Gateway API exists.
func (s *apiServer) has(path string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	parts := strings.Split(strings.Trim(path, "/"), "/") // apis, group, version, plural
	return slices.Contains(s.served[parts[2]], parts[3])
}

func answer(w http.ResponseWriter, code int, body any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(code)
	_ = json.NewEncoder(w).Encode(body)
}

func (s *apiServer) list(w http.ResponseWriter, path string, admits func(map[string]any) bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	items := []map[string]any{}
	for _, key := range slices.Sorted(maps.Keys(s.objects[path])) {
		if o := s.objects[path][key]; admits(o) && !s.forget {
			items = append(items, o)
		}
	}
	version, kind := versionAndKind(path)
	answer(w, http.StatusOK, map[string]any{
		"apiVersion": version, "kind": kind + "List", "items": items, "metadata": map[string]any{"resourceVersion": strconv.Itoa(s.version)},
	})
}

func (s *apiServer) watch(w http.ResponseWriter, r *http.Request, path string, admits func(map[string]any) bool) {
	events := make(chan event, 1000)
	from, _ := strconv.Atoi(r.URL.Query().Get("resourceVersion"))
	s.mu.Lock()
	s.watchers[events] = path
	for _, o := range s.objects[path] { // what has happened since the list
		if v, _ := strconv.Atoi(o["metadata"].(map[string]any)["resourceVersion"].(string)); v > from {
			events <- event{"MODIFIED", o}
		}
	}
	s.mu.Unlock()
	defer func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		delete(s.watchers, events)
	}()
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(http.StatusOK)
	w.(http.Flusher).Flush()
	for {
		select {
		case <-r.Context().Done():
			return
		case e := <-events:
			if !admits(e.Object) {
				continue
			}
			if json.NewEncoder(w).Encode(e) != nil {
				return
			}
			w.(http.Flusher).Flush()
		}
	}
}

// selects understands metadata.name=x and type=x, and != of both.
func selects(fields, namespace string, o map[string]any) bool {
	meta := o["metadata"].(map[string]any)
	if own, _ := meta["namespace"].(string); namespace != "" && own != namespace {
		return false
	}
	kind, _ := o["type"].(string)
	values := map[string]string{"metadata.name": meta["name"].(string), "type": kind}
	for one := range strings.SplitSeq(fields, ",") {
		field, value, _ := strings.Cut(one, "=")
		negated := strings.HasSuffix(field, "!")
		if one != "" && (values[strings.TrimSuffix(field, "!")] == value) == negated {
			return false
		}
	}
	return true
}
