package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync/atomic"
	"testing"

	"rauta.io/rauta/internal/testrig"
)

// The scenarios of the Ingress specification, over real connections:
// https://kubernetes.io/docs/concepts/services-networking/ingress/.

// ingressRig is a running rauta with Ingresses, and back ends that answer with their names.
type ingressRig struct {
	*instance
	port     uint16
	backends map[string]string // address by name
	hits     map[string]*atomic.Int64
	client   *http.Client
}

func startIngress(t *testing.T, names []string, flags ...string) *ingressRig {
	t.Helper()
	r := &ingressRig{port: testrig.FreePort(t), backends: map[string]string{}, hits: map[string]*atomic.Int64{}}
	for _, name := range names {
		hits := &atomic.Int64{}
		s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			hits.Add(1)
			io.WriteString(w, name)
		}))
		t.Cleanup(s.Close)
		r.backends[name], r.hits[name] = s.Listener.Addr().String(), hits
	}
	transport := &http.Transport{
		DisableKeepAlives: true,
		DialContext: func(ctx context.Context, network, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, network, fmt.Sprintf("127.0.0.1:%d", r.port))
		},
	}
	r.client = &http.Client{Transport: transport, Timeout: waitMax}
	r.instance = start(t, echoBackend(t), append([]string{"--http-port", fmt.Sprint(r.port)}, flags...)...)
	return r
}

// apply replaces the configuration: the given documents, with a Service for each back end. What start has written stays, so
// that the process does not stop to serve.
func (r *ingressRig) apply(documents ...string) {
	r.t.Helper()
	all := []string{configuration(r.instance.port, "127.0.0.1:1", "kept")}
	for _, name := range slices.Sorted(maps.Keys(r.backends)) {
		all = append(all, serviceOf(name, r.backends[name]))
	}
	r.write(strings.Join(append(all, documents...), "---\n"))
}

// serviceOf is a Service with endpoints on loopback.
func serviceOf(name string, addresses ...string) string {
	out := fmt.Sprintf("apiVersion: v1\nkind: Service\nmetadata: {name: %s}\nspec: {ports: [{name: http, port: 80}]}\n", name)
	for i, address := range addresses {
		_, port, _ := net.SplitHostPort(address)
		out += fmt.Sprintf("---\napiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\nmetadata: {name: %s-%d, labels: {kubernetes.io/service-name: %s}}\n"+
			"addressType: IPv4\nports: [{name: http, port: %s}]\nendpoints: [{addresses: [127.0.0.1]}]\n", name, i, name, port)
	}
	return out
}

// get returns who answers, or the status if it is not 200; "refused" without a connection.
func (r *ingressRig) get(host, path string) string {
	resp, err := r.client.Get("http://" + host + path)
	if err != nil {
		return "refused"
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	switch {
	case err != nil:
		return err.Error()
	case resp.StatusCode != 200:
		return fmt.Sprint(resp.StatusCode)
	}
	return string(body)
}

// settles waits until a request is answered by want: only then the configuration that says so is in force.
func (r *ingressRig) settles(host, path, want string) {
	r.t.Helper()
	r.until(fmt.Sprintf("%s%s answered by %s", host, path, want), func() bool { return r.get(host, path) == want })
}

// endpoints is how many a Service has, as the admin server says.
func (r *ingressRig) endpoints(service string) int {
	r.t.Helper()
	var clusters []struct {
		Name      string            `json:"name"`
		Endpoints []json.RawMessage `json:"endpoints"`
	}
	if err := json.Unmarshal([]byte(r.instance.get(r.admin, "/clusters")), &clusters); err != nil {
		r.t.Fatal(err)
	}
	for _, c := range clusters {
		if c.Name == "default/"+service+":80" {
			return len(c.Endpoints)
		}
	}
	return 0
}

func (r *ingressRig) all(want map[string]string) {
	r.t.Helper()
	for _, url := range slices.Sorted(maps.Keys(want)) {
		host, path, _ := strings.Cut(url, "/")
		if got := r.get(host, "/"+path); got != want[url] {
			r.t.Errorf("%s is answered by %s, want %s", url, got, want[url])
		}
	}
}

// ingress is one with a class and rules of the form "host /path Type backend"; a rule without a path is for its whole host.
func ingress(name, class string, rules ...string) string {
	out := fmt.Sprintf("apiVersion: networking.k8s.io/v1\nkind: Ingress\nmetadata: {name: %s}\nspec:\n", name)
	if class != "" {
		out += "  ingressClassName: " + class + "\n"
	}
	if len(rules) > 0 && strings.HasPrefix(rules[0], "default ") {
		out += "  defaultBackend: {service: {name: " + strings.TrimPrefix(rules[0], "default ") + ", port: {name: http}}}\n"
		rules = rules[1:]
	}
	if len(rules) > 0 {
		out += "  rules:\n"
	}
	for _, rule := range rules {
		f := strings.Fields(rule)
		host := ""
		if f[0] != "any" {
			host = fmt.Sprintf("host: %q, ", f[0])
		}
		if len(f) == 1 {
			out += "  - {" + strings.TrimSuffix(host, ", ") + "}\n"
			continue
		}
		out += fmt.Sprintf("  - {%shttp: {paths: [{path: %s, pathType: %s, backend: {service: {name: %s, port: {number: 80}}}}]}}\n", host, f[1], f[2], f[3])
	}
	return out
}

func TestAnIngressWithADefaultBackendOnlyTakesEverything(t *testing.T) {
	r := startIngress(t, []string{"a"})
	r.apply(ingress("i", "rauta", "default a"))
	r.settles("any.test", "/", "a")
	r.all(map[string]string{"any.test/x/y": "a", "other.example/": "a", "127.0.0.1/?q=1": "a"})
}

func TestIngressRulesTakeTheirHostsAndTheDefaultBackendTheRest(t *testing.T) {
	r := startIngress(t, []string{"fallback", "exact", "wild", "named", "whole"})
	r.apply(ingress("i", "rauta", "default fallback",
		"exact.test /app Prefix exact",
		"*.wild.test / Prefix wild",
		"named.wild.test /only Exact named",
		"whole.test"))
	r.settles("exact.test", "/app", "exact")
	r.all(map[string]string{
		"exact.test/app/x":     "exact",
		"EXACT.test/app":       "exact", // names of hosts know no case
		"exact.test:80/app":    "exact", // nor has the port a say
		"exact.test/other":     "fallback",
		"sub.exact.test/app":   "fallback",
		"a.wild.test/":         "wild",
		"wild.test/":           "fallback", // the wildcard stands for a label
		"a.b.wild.test/":       "fallback", // and for one only
		"xwild.test/":          "fallback",
		"named.wild.test/only": "named", // the name comes before the wildcard
		"named.wild.test/":     "wild",  // and leaves it what it does not take: docs/adr/0004
		"whole.test/x":         "fallback",
		"unknown.test/":        "fallback",
	})
}

func TestAHostWithoutARuleAndWithoutADefaultBackendIsNotFound(t *testing.T) {
	r := startIngress(t, []string{"a"})
	r.apply(ingress("i", "rauta", "a.test /app Prefix a"))
	r.settles("a.test", "/app", "a")
	r.all(map[string]string{"a.test/": "404", "b.test/app": "404", "a.test/application": "404"})
}

func TestIngressPathsAreComparedAsTheirTypesSay(t *testing.T) {
	names := []string{"exact", "slash", "prefix", "longer", "precise", "deep", "impl", "first", "second"}
	r := startIngress(t, names)
	r.apply(ingress("i", "rauta",
		"exact.test /foo Exact exact",
		"slash.test /foo/ Exact slash",
		"prefix.test /aaa/bbb Prefix prefix",
		"trailing.test /aaa/bbb/ Prefix prefix",
		"longest.test / Prefix prefix",
		"longest.test /aaa Prefix longer",
		"longest.test /aaa/bbb Prefix deep",
		"longest.test /aaa/bbb Exact precise",
		"impl.test /foo ImplementationSpecific impl",
		"any /everywhere Prefix first"),
		ingress("j", "rauta", "twice.test / Prefix second"), ingress("h", "rauta", "twice.test / Prefix first"))
	r.settles("exact.test", "/foo", "exact")
	r.all(map[string]string{
		"exact.test/foo": "exact", "exact.test/foo/": "404", "exact.test/foo/x": "404", "exact.test/FOO": "404", "exact.test/foo?q": "exact",
		"slash.test/foo/": "slash", "slash.test/foo": "404",
		// An element is the smallest part that a prefix compares.
		"prefix.test/aaa/bbb": "prefix", "prefix.test/aaa/bbb/": "prefix", "prefix.test/aaa/bbb/ccc": "prefix", "prefix.test/aaa/bbbxyz": "404",
		"prefix.test/aaa": "404", "prefix.test/AAA/bbb": "404", "prefix.test/x/aaa/bbb": "404",
		"trailing.test/aaa/bbb": "prefix", "trailing.test/aaa/bbb/ccc": "prefix", "trailing.test/aaa/bbbxyz": "404",
		// The longest takes the request, and of equal ones Exact.
		"longest.test/": "prefix", "longest.test/ccc": "prefix", "longest.test/aaa/ccc": "longer", "longest.test/aaa/bbb/x": "deep",
		"longest.test/aaa/bbb": "precise", "longest.test/aaa/bbb/": "deep",
		"impl.test/foo": "impl", "impl.test/foo/bar": "impl", "impl.test/foobar": "404",
		"unknown.test/everywhere/x": "first", "exact.test/everywhere": "first",
		"twice.test/": "first", // of two Ingresses without a time the first by name
	})
}

func TestIngressesOfOtherClassesAreLeftAlone(t *testing.T) {
	legacy := func(name, class, host string) string {
		return strings.Replace(ingress(name, "", host+" / Prefix a"), "{name: "+name+"}",
			fmt.Sprintf("{name: %s, annotations: {kubernetes.io/ingress.class: %s}}", name, class), 1)
	}
	class := func(name, controller, isDefault string) string {
		return fmt.Sprintf("apiVersion: networking.k8s.io/v1\nkind: IngressClass\nmetadata: {name: %s, annotations: {ingressclass.kubernetes.io/is-default-class: %q}}\n"+
			"spec: {controller: %s}\n", name, isDefault, controller)
	}
	r := startIngress(t, []string{"a"})
	documents := []string{
		ingress("named", "rauta", "named.test / Prefix a"), ingress("ours", "ours", "ours.test / Prefix a"),
		ingress("foreign", "foreign", "foreign.test / Prefix a"), ingress("missing", "nowhere", "missing.test / Prefix a"),
		ingress("none", "", "none.test / Prefix a"), legacy("old", "rauta", "old.test"), legacy("oldforeign", "foreign", "oldforeign.test"),
		class("foreign", "example.com/controller", "false"),
	}
	r.apply(append(documents, class("ours", "rauta.io/ingress-controller", "false"))...)
	r.settles("named.test", "/", "a")
	want := map[string]string{
		"ours.test/": "a", "old.test/": "a", "foreign.test/": "404", "missing.test/": "404", "none.test/": "404", "oldforeign.test/": "404",
	}
	r.all(want)
	r.apply(append(documents, class("ours", "rauta.io/ingress-controller", "true"))...)
	r.settles("none.test", "/", "a") // the class is the default now
	want["none.test/"] = "a"
	r.all(want)
}

func TestAllTenEndpointsOfAServiceTakePart(t *testing.T) {
	var names, addresses []string
	for n := range 10 {
		names = append(names, fmt.Sprintf("e%d", n))
	}
	r := startIngress(t, names)
	for _, name := range names {
		addresses = append(addresses, r.backends[name])
	}
	rule := ingress("i", "rauta", "ten.test / Prefix ten")
	r.apply(rule, serviceOf("ten", addresses...))
	r.until("the first answer", func() bool { return strings.HasPrefix(r.get("ten.test", "/"), "e") })
	r.until("an answer of every endpoint", func() bool {
		if got := r.get("ten.test", "/"); !strings.HasPrefix(got, "e") {
			t.Fatalf("an answer is %s", got)
		}
		return !slices.ContainsFunc(names, func(name string) bool { return r.hits[name].Load() == 0 })
	})
	// Half of them go. What was under way is answered, and once the change is in force they get nothing more.
	r.apply(rule, serviceOf("ten", addresses[:5]...))
	r.until("five endpoints", func() bool {
		if got := r.get("ten.test", "/"); !strings.HasPrefix(got, "e") {
			t.Fatalf("an answer is %s while endpoints go", got)
		}
		return r.endpoints("ten") == 5
	})
	before := map[string]int64{}
	for _, name := range names[5:] {
		before[name] = r.hits[name].Load()
	}
	for range 200 {
		if got := r.get("ten.test", "/"); !slices.Contains(names[:5], got) {
			t.Fatalf("an answer is %s after its endpoint has gone", got)
		}
	}
	for name, hits := range before {
		if got := r.hits[name].Load(); got != hits {
			t.Errorf("%s got %d requests after it had gone", name, got-hits)
		}
	}
}

func TestIngressesAreUpdatedAndRemovedWhileTheyServe(t *testing.T) {
	r := startIngress(t, []string{"old", "new", "other"})
	stays := ingress("stays", "rauta", "stays.test / Prefix other")
	r.apply(stays, ingress("i", "rauta", "i.test / Prefix old"))
	r.settles("i.test", "/", "old")
	r.apply(stays, ingress("i", "rauta", "i.test / Prefix new")) // another back end
	r.settles("i.test", "/", "new")
	r.apply(stays, ingress("i", "rauta", "i.test /path Prefix new", "more.test / Prefix old")) // another path, and a host more
	r.settles("more.test", "/", "old")
	r.all(map[string]string{"i.test/": "404", "i.test/path": "new", "stays.test/": "other"})
	r.apply(stays, ingress("i", "another", "i.test / Prefix new")) // another class
	r.settles("more.test", "/", "404")
	r.all(map[string]string{"i.test/path": "404", "stays.test/": "other"})
	r.apply(stays) // none
	r.all(map[string]string{"stays.test/": "other"})
	r.apply() // the last one: its port closes
	r.settles("stays.test", "/", "refused")
	r.apply(stays)
	r.settles("stays.test", "/", "other")
}

func TestAnIngressThatIsBrokenIsNotFoundNorInTheWay(t *testing.T) {
	r := startIngress(t, []string{"a"})
	r.apply(ingress("broken", "rauta", "broken.test / Prefix nobody", "_.test / Prefix a", "type.test / Odd a"), ingress("i", "rauta", "a.test / Prefix a"))
	r.settles("a.test", "/", "a")
	r.all(map[string]string{"broken.test/": "500", "type.test/": "404"})
}
