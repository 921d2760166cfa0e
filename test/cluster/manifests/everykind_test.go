package manifests

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
	"unicode"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/rest"

	cluster "rauta.io/rauta/test/cluster"
)

// poisonsOfAKind is how many objects of each kind are made; the others say how long what is told of them may take.
const (
	poisonsOfAKind       = 500
	poisonConditionsTime = 2 * time.Minute
	poisonEventsTime     = 8 * time.Minute
)

// hostile are texts that break out of configuration files, logs, paths and selectors.
var hostile = []string{
	`"`, "`", "}", ";", "$(id)", "${jndi:ldap://x}", "a\nlevel=ERROR msg=forged", "\r\nX-Forged: 1", "\x1b[31m", "../../etc/passwd", "..",
	"a,b=c", "a=b", `\`, "(", "[", "(?P<", "*", "{{.}}", "%0d%0aX-Forged: 1", "'; } location / { return 200; }", "x\x00y", "\u2028", strings.Repeat("a", 250),
}

// poison is a kind, and objects of it with a text in a field. The last one is taken with any text.
type poison struct {
	group, version, plural, kind string
	clusterScoped                bool
	// conditions, event: each has a condition that is False, and an Event.
	conditions, event bool
	specs             []string // TEXT is the text as JSON, NUMBER that of the object
}

// victim is what policies are about.
const victim = `
apiVersion: v1
kind: Service
metadata: {name: victim, namespace: %[1]s}
spec: {ports: [{port: 80}]}
---
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: victim, namespace: %[1]s}
spec:
  parentRefs: [{name: web}]
  hostnames: [victim.example.com]
  rules: [{backendRefs: [{name: victim, port: 80}]}]
`

const anyAnnotation = `metadata: {annotations: {example.com/x: TEXT}}`

func poisons() []poison {
	routes := func(kind, plural, version, rest string, specs ...string) poison {
		p := poison{group: "gateway.networking.k8s.io", version: version, plural: plural, kind: kind, conditions: true, event: true}
		const parent = `parentRefs: [{name: web}]`
		for _, s := range specs {
			p.specs = append(p.specs, `spec: {`+parent+`, `+rest+`rules: [{backendRefs: [{name: not-there, port: 80}], `+s+`}]}`)
		}
		p.specs = append(p.specs, `spec: {`+parent+`, `+rest+`rules: [{backendRefs: [{name: not-there, port: 80}]}]}`+"\n"+anyAnnotation)
		return p
	}
	const name = `hostnames: [poison.example.com], `
	return []poison{
		routes("HTTPRoute", "httproutes", "v1", name,
			`matches: [{path: {type: RegularExpression, value: TEXT}}]`, `matches: [{path: {type: Exact, value: TEXT}}]`,
			`matches: [{headers: [{name: x, value: TEXT}]}]`, `matches: [{headers: [{name: x, type: RegularExpression, value: TEXT}]}]`,
			`matches: [{queryParams: [{name: x, value: TEXT}]}]`,
			`filters: [{type: RequestHeaderModifier, requestHeaderModifier: {set: [{name: X-Poison, value: TEXT}]}}]`,
			`filters: [{type: URLRewrite, urlRewrite: {path: {type: ReplaceFullPath, replaceFullPath: TEXT}}}]`,
			`filters: [{type: ExtensionRef, extensionRef: {group: example.com, kind: X, name: TEXT}}]`),
		routes("GRPCRoute", "grpcroutes", "v1", name,
			`matches: [{method: {type: RegularExpression, service: TEXT}}]`, `matches: [{headers: [{name: x, value: TEXT}]}]`),
		routes("TLSRoute", "tlsroutes", "v1", name),
		routes("TCPRoute", "tcproutes", "v1", ""),
		routes("UDPRoute", "udproutes", "v1", ""),
		{group: "gateway.networking.k8s.io", version: "v1", plural: "gateways", kind: "Gateway", conditions: true, event: true, specs: []string{
			`spec: {gatewayClassName: rauta, listeners: [{name: a, port: 8443, protocol: HTTPS, tls: {certificateRefs: [{name: TEXT}]}}]}`,
			`spec: {gatewayClassName: rauta, addresses: [{type: Hostname, value: TEXT}], listeners: [{name: a, port: 8443, protocol: HTTPS, tls: {certificateRefs: [{name: a}]}}]}`,
			`spec: {gatewayClassName: rauta, listeners: [{name: a, port: 8443, protocol: HTTPS, tls: {certificateRefs: [{name: poison-NUMBER}]}}]}` + "\n" + anyAnnotation}},
		{group: "gateway.networking.k8s.io", version: "v1", plural: "listenersets", kind: "ListenerSet", conditions: true, event: true, specs: []string{
			`spec: {parentRef: {name: web}, listeners: [{name: a, port: 8444, protocol: HTTPS, tls: {certificateRefs: [{name: TEXT}]}}]}`,
			`spec: {parentRef: {name: web}, listeners: [{name: a, port: 8444, protocol: HTTPS, tls: {certificateRefs: [{name: a}]}}]}` + "\n" + anyAnnotation}},
		{group: "gateway.networking.k8s.io", version: "v1", plural: "backendtlspolicies", kind: "BackendTLSPolicy", conditions: true, event: true, specs: []string{
			`spec: {targetRefs: [{group: "", kind: Service, name: victim}], validation: {hostname: x.test, caCertificateRefs: [{group: "", kind: ConfigMap, name: TEXT}]}}`,
			`spec: {targetRefs: [{group: "", kind: Service, name: victim}, {group: "", kind: Service, name: TEXT}], validation: {hostname: x.test, caCertificateRefs: [{group: "", kind: ConfigMap, name: poison-NUMBER}]}}`,
			`spec: {targetRefs: [{group: "", kind: Service, name: victim}], validation: {hostname: x.test, caCertificateRefs: [{group: "", kind: ConfigMap, name: poison-NUMBER}]}}` + "\n" + anyAnnotation}},
		{group: "gateway.networking.k8s.io", version: "v1", plural: "referencegrants", kind: "ReferenceGrant", specs: []string{
			`spec: {from: [{group: gateway.networking.k8s.io, kind: HTTPRoute, namespace: elsewhere}], to: [{group: "", kind: Service, name: TEXT}]}`,
			`spec: {from: [{group: gateway.networking.k8s.io, kind: HTTPRoute, namespace: elsewhere}], to: [{group: "", kind: Service}]}` + "\n" + anyAnnotation}},
		{group: "networking.k8s.io", version: "v1", plural: "ingresses", kind: "Ingress", event: true, specs: []string{
			`spec: {ingressClassName: rauta, rules: [{host: poison.example.com, http: {paths: [{path: TEXT, pathType: ImplementationSpecific, backend: {service: {name: not-there, port: {number: 80}}}}]}}]}`,
			`spec: {ingressClassName: rauta, rules: [{host: poison.example.com, http: {paths: [{path: /, pathType: Prefix, backend: {service: {name: not-there, port: {number: 80}}}}]}}], tls: [{hosts: [poison.example.com], secretName: TEXT}]}`,
			`spec: {ingressClassName: rauta, rules: [{host: poison.example.com, http: {paths: [{path: /, pathType: Prefix, backend: {service: {name: not-there, port: {number: 80}}}}]}}]}` + "\n" + anyAnnotation}},
		{group: "networking.k8s.io", version: "v1", plural: "ingressclasses", kind: "IngressClass", clusterScoped: true, specs: []string{
			`spec: {controller: rauta.io/ingress-controller, parameters: {kind: X, name: TEXT}}`,
			`spec: {controller: rauta.io/ingress-controller}` + "\n" + anyAnnotation}},
		{version: "v1", plural: "services", kind: "Service", specs: []string{
			`spec: {ports: [{port: 80, appProtocol: TEXT}]}`, `spec: {type: ExternalName, externalName: TEXT}`,
			`spec: {ports: [{port: 80}]}` + "\n" + anyAnnotation}},
		{group: "discovery.k8s.io", version: "v1", plural: "endpointslices", kind: "EndpointSlice", specs: []string{
			`addressType: IPv4` + "\n" + `endpoints: [{addresses: [10.244.255.1], zone: TEXT}]` + "\n" + `metadata: {labels: {kubernetes.io/service-name: not-there}}`,
			`addressType: FQDN` + "\n" + `endpoints: [{addresses: [TEXT]}]` + "\n" + `metadata: {labels: {kubernetes.io/service-name: not-there}}`,
			`addressType: IPv4` + "\n" + `endpoints: []` + "\n" + anyAnnotation}},
		{version: "v1", plural: "secrets", kind: "Secret", specs: []string{
			`type: kubernetes.io/tls` + "\n" + `stringData: {tls.crt: TEXT, tls.key: TEXT}`, `stringData: {x: TEXT}` + "\n" + anyAnnotation}},
		{version: "v1", plural: "configmaps", kind: "ConfigMap", specs: []string{`data: {ca.crt: TEXT}` + "\n" + anyAnnotation}},
	}
}

// object is the n-th poison of a kind.
func (p *poison) object(t *testing.T, namespace string, n int, spec string) *unstructured.Unstructured {
	text, err := json.Marshal(hostile[n%len(hostile)])
	if err != nil {
		t.Error(err)
	}
	version := p.version
	if p.group != "" {
		version = p.group + "/" + version
	}
	manifest := "apiVersion: " + version + "\nkind: " + p.kind + "\n" + strings.NewReplacer("TEXT", string(text), "NUMBER", fmt.Sprintf("%03d", n)).Replace(spec)
	objects, err := cluster.Objects(manifest)
	if err != nil || len(objects) != 1 {
		t.Errorf("%s: %v", manifest, err)
		return &unstructured.Unstructured{}
	}
	o := objects[0]
	o.SetName(fmt.Sprintf("poison-%03d", n))
	if !p.clusterScoped {
		o.SetNamespace(namespace)
	}
	return o
}

// make makes the poisons of a kind; a text that the API server does not take in one field is put into another one.
func (p *poison) make(t *testing.T, client dynamic.Interface, namespace string) (refused int64) {
	resource := p.in(client, namespace)
	var no atomic.Int64
	next := make(chan int)
	var wait sync.WaitGroup
	for range clients {
		wait.Go(func() {
			for n := range next {
				for at := n / len(hostile) % len(p.specs); ; at++ {
					spec := p.specs[min(at, len(p.specs)-1)]
					_, err := resource.Create(context.Background(), p.object(t, namespace, n, spec), metav1.CreateOptions{})
					if err == nil {
						break
					}
					no.Add(1)
					if at >= len(p.specs) || !apierrors.IsInvalid(err) && !apierrors.IsBadRequest(err) {
						t.Errorf("%s with %q: %v", p.kind, hostile[n%len(hostile)], err)
						break
					}
				}
			}
		})
	}
	for n := range poisonsOfAKind {
		next <- n
	}
	close(next)
	wait.Wait()
	return no.Load()
}

func (p *poison) in(client dynamic.Interface, namespace string) dynamic.ResourceInterface {
	all := client.Resource(schema.GroupVersionResource{Group: p.group, Version: p.version, Resource: p.plural})
	if p.clusterScoped {
		return all
	}
	return all.Namespace(namespace)
}

// complains reports whether a status says of anything that it is not so, or only partly.
func complains(value any) bool {
	switch v := value.(type) {
	case []any:
		for _, one := range v {
			if complains(one) {
				return true
			}
		}
	case map[string]any:
		if kind := v["type"]; kind != nil && v["message"] != "" && (v["status"] == "False" || kind == "PartiallyInvalid" && v["status"] == "True") {
			return true
		}
		for _, one := range v {
			if complains(one) {
				return true
			}
		}
	}
	return false
}

// control reports whether a text has what terminals and readers of logs obey.
func control(text string) bool { return strings.ContainsFunc(text, unicode.IsControl) }

func TestPoisonsOfEveryKindHurtNobodyAndAreTold(t *testing.T) {
	w := deployed(t)
	ns := w.deploy(t, 1, "app")
	const bad = "poison"
	w.Apply(t, "apiVersion: v1\nkind: Namespace\nmetadata: {name: "+bad+"}\n---\n"+fmt.Sprintf(gateway, bad)+"---"+fmt.Sprintf(victim, bad))
	config := w.Config()
	config.QPS, config.WarningHandler = -1, rest.NoWarnings{}
	client, err := dynamic.NewForConfig(config)
	if err != nil {
		t.Fatal(err)
	}
	all := poisons()
	t.Cleanup(func() {
		for i := range all {
			if all[i].clusterScoped {
				for n := range poisonsOfAKind {
					_ = all[i].in(client, "").Delete(context.Background(), fmt.Sprintf("poison-%03d", n), metav1.DeleteOptions{})
				}
			}
		}
		_ = w.Client().CoreV1().Namespaces().Delete(context.Background(), bad, metav1.DeleteOptions{})
	})

	before := w.files(t)
	f := send(t, ns, steady, func(a answer, _ time.Time) error {
		if strings.Contains(a.body, "X-Poison") || strings.Contains(a.body, "X-Forged") {
			return fmt.Errorf("a request has what an object of another namespace says: %s", a.body)
		}
		return nil
	})
	for i := range all {
		refused := all[i].make(t, client, bad)
		t.Logf("%s: %d are there, the API server refused %d", all[i].kind, poisonsOfAKind, refused)
	}
	if t.Failed() {
		return
	}
	w.Apply(t, fmt.Sprintf(route, ns, "after", "[{name: app, port: 80}]"))
	cluster.Eventually(t, "a change beside the poisons to be served", func() error {
		a, err := ask(t.Context(), newClient(false), ns)
		if err == nil && a.change != "after" {
			err = fmt.Errorf("change %q is", a.change)
		}
		return err
	})
	for i := range all {
		p := &all[i]
		if p.conditions {
			cluster.Within(t, poisonConditionsTime, "a condition on every "+p.kind, func() error { return p.everyHasACondition(t, client, bad) })
		}
	}
	cluster.Within(t, poisonEventsTime, "an event on each", func() error { return eventsOn(t, w, bad, all) })
	f.end(t)
	if now := w.files(t); !slices.Equal(before, now) {
		t.Errorf("names of objects have become files: %q were there, %q are", before, now)
	}

	pod := w.ready(t)
	for line := range strings.Lines(w.node.Log(pod.UID)) {
		if line = strings.TrimSuffix(line, "\n"); control(line) || !strings.HasPrefix(line, "time=") && !strings.HasPrefix(line, "{") {
			t.Errorf("the log has the line %q", line)
			break
		}
	}
}

// files are those that RAUTA has, with the exception of the state, which comes and changes.
func (w *world) files(t *testing.T) []string {
	t.Helper()
	all, err := w.node.Files(w.ready(t).UID)
	if err != nil {
		t.Fatal(err)
	}
	return slices.DeleteFunc(all, func(path string) bool { return path == "state/state" || path == "state/state.new" })
}

func (p *poison) everyHasACondition(t *testing.T, client dynamic.Interface, namespace string) error {
	list, err := p.in(client, namespace).List(t.Context(), metav1.ListOptions{})
	if err != nil {
		return err
	}
	lacking := 0
	var last string
	for i := range list.Items {
		o := &list.Items[i]
		if strings.HasPrefix(o.GetName(), "poison-") && !complains(o.Object["status"]) {
			lacking++
			last = fmt.Sprint(o.GetName(), o.Object["status"])
		}
	}
	if lacking > 0 {
		return fmt.Errorf("%d have none, the last one is %s", lacking, last)
	}
	return nil
}

// eventsOn fails while an object lacks an Event, and for an Event that hides something.
func eventsOn(t *testing.T, w *world, namespace string, all []poison) error {
	events, err := w.Client().EventsV1().Events(namespace).List(t.Context(), metav1.ListOptions{})
	if err != nil {
		return err
	}
	about := map[string]map[string]bool{}
	for _, e := range events.Items {
		if control(e.Note) {
			t.Errorf("the Event on %s %s says %q", e.Regarding.Kind, e.Regarding.Name, e.Note)
		}
		if about[e.Regarding.Kind] == nil {
			about[e.Regarding.Kind] = map[string]bool{}
		}
		about[e.Regarding.Kind][e.Regarding.Name] = true
	}
	for i := range all {
		if all[i].event && len(about[all[i].kind]) < poisonsOfAKind {
			return fmt.Errorf("there are Events on %d of kind %s", len(about[all[i].kind]), all[i].kind)
		}
	}
	return nil
}

const crossing = `
apiVersion: gateway.networking.k8s.io/v1
kind: ReferenceGrant
metadata: {name: crossing, namespace: %[2]s}
spec:
  from: [{group: gateway.networking.k8s.io, kind: HTTPRoute, namespace: %[1]s}]
  to: [{group: "", kind: Service, name: app}]
`

func TestAGrantThatIsTakenAwayEndsServingAtOnce(t *testing.T) {
	const times = 10
	w := deployed(t)
	ns := w.deploy(t, 1, "own")
	other := ns + "-x"
	w.Apply(t, "apiVersion: v1\nkind: Namespace\nmetadata: {name: "+other+"}\n---"+fmt.Sprintf(app, other, "app", 1, "1"))
	t.Cleanup(func() {
		_ = w.Client().CoreV1().Namespaces().Delete(context.Background(), other, metav1.DeleteOptions{})
	})
	w.awaitPods(t, other, 1)
	w.Apply(t, fmt.Sprintf(route, ns, "crossing", "[{name: app, namespace: "+other+", port: 80}]"))
	client := newClient(true)
	refused := func() error {
		a, err := ask(t.Context(), client, ns)
		if err == nil {
			return errors.New("it is served: " + a.body)
		}
		if !strings.Contains(err.Error(), "status 500") {
			t.Errorf("the answer is %v", err)
		}
		return nil
	}
	cluster.Eventually(t, "the route to be refused without a grant", refused)
	for range times {
		w.Apply(t, fmt.Sprintf(crossing, ns, other))
		served(t, ns)
		revoked(t, func() (func() error, func()) {
			client := newClient(true)
			return func() error { _, err := ask(context.Background(), client, ns); return err }, client.CloseIdleConnections
		}, func() { w.Delete(t, fmt.Sprintf(crossing, ns, other)) })
	}
}
