package watch

import (
	"bytes"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"regexp"
	"strings"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	gatewayv1 "sigs.k8s.io/gateway-api/apis/v1"
	kjson "sigs.k8s.io/json"
	"sigs.k8s.io/yaml"

	"rauta.io/rauta/control/translate"
)

// kind says how objects of one kind are decoded and where they go.
type kind struct {
	groups     []string // group/version that are accepted
	namespaced bool
	add        func(l *Loaded, data []byte) (metav1.Object, []error, error)
}

// kinds of objects that RAUTA uses.
var kinds = map[string]kind{
	"GatewayClass": {gatewayGroups, false, into(func(o *translate.Objects) *[]*gatewayv1.GatewayClass { return &o.GatewayClasses })},
	"Gateway":      {gatewayGroups, true, into(func(o *translate.Objects) *[]*gatewayv1.Gateway { return &o.Gateways })},
	"ListenerSet":  {gatewayGroups[:1], true, into(func(o *translate.Objects) *[]*gatewayv1.ListenerSet { return &o.ListenerSets })},
	"HTTPRoute":    {gatewayGroups, true, into(func(o *translate.Objects) *[]*gatewayv1.HTTPRoute { return &o.HTTPRoutes })},
	"GRPCRoute":    {gatewayGroups[:1], true, into(func(o *translate.Objects) *[]*gatewayv1.GRPCRoute { return &o.GRPCRoutes })},
	"TLSRoute":     {l4Groups, true, into(func(o *translate.Objects) *[]*gatewayv1.TLSRoute { return &o.TLSRoutes })},
	"TCPRoute":     {l4Groups, true, into(func(o *translate.Objects) *[]*gatewayv1.TCPRoute { return &o.TCPRoutes })},
	"UDPRoute":     {l4Groups, true, into(func(o *translate.Objects) *[]*gatewayv1.UDPRoute { return &o.UDPRoutes })},
	"ReferenceGrant": {gatewayGroups, true, into(func(o *translate.Objects) *[]*gatewayv1.ReferenceGrant {
		return &o.ReferenceGrants
	})},
	"Ingress": {[]string{"networking.k8s.io/v1"}, true, into(func(o *translate.Objects) *[]*networkingv1.Ingress {
		return &o.Ingresses
	})},
	"IngressClass": {[]string{"networking.k8s.io/v1"}, false, into(func(o *translate.Objects) *[]*networkingv1.IngressClass {
		return &o.IngressClasses
	})},
	"Service": {[]string{"v1"}, true, into(func(o *translate.Objects) *[]*corev1.Service { return &o.Services })},
	"EndpointSlice": {[]string{"discovery.k8s.io/v1"}, true, into(func(o *translate.Objects) *[]*discoveryv1.EndpointSlice {
		return &o.EndpointSlices
	})},
	"Namespace": {[]string{"v1"}, false, into(func(o *translate.Objects) *[]*corev1.Namespace { return &o.Namespaces })},
	"ConfigMap": {[]string{"v1"}, true, into(func(o *translate.Objects) *[]*corev1.ConfigMap { return &o.ConfigMaps })},
	"BackendTLSPolicy": {backendTLSGroups, true, into(func(o *translate.Objects) *[]*gatewayv1.BackendTLSPolicy {
		return &o.BackendTLSPolicies
	})},
	"Secret": {[]string{"v1"}, true, into(func(o *translate.Objects) *[]*corev1.Secret { return &o.Secrets })},
}

var (
	backendTLSGroups = []string{"gateway.networking.k8s.io/v1", "gateway.networking.k8s.io/v1alpha3"}
	gatewayGroups    = []string{"gateway.networking.k8s.io/v1", "gateway.networking.k8s.io/v1beta1"}
	// l4Groups are the versions of the routes that came to v1 last; the fields are the same in all of them.
	l4Groups = []string{"gateway.networking.k8s.io/v1", "gateway.networking.k8s.io/v1alpha3", "gateway.networking.k8s.io/v1alpha2"}
)

// into returns the decoder of one kind.
func into[T any, P interface {
	*T
	metav1.Object
}](list func(*translate.Objects) *[]*T) func(*Loaded, []byte) (metav1.Object, []error, error) {
	return func(l *Loaded, data []byte) (metav1.Object, []error, error) {
		v := new(T)
		strict, err := kjson.UnmarshalStrict(data, v)
		if err != nil {
			return nil, nil, err
		}
		// Also with unknown fields: nothing is published then, but check goes on, and a misspelt field must not make
		// every reference to the object look dangling.
		to := list(l.Objects)
		*to = append(*to, v)
		return P(v), strict, nil
	}
}

// readDocument decodes one YAML document: an object, a List of objects, or nothing.
func (l *Loaded) readDocument(at Position, doc []byte) {
	if line := secondDocument(doc); line > 0 {
		at.Line += line
		l.fail(at, translate.ObjectRef{}, "", "another document follows after ...", "separate documents by lines with ---")
		return
	}
	data, err := yaml.YAMLToJSONStrict(doc)
	if err != nil {
		reason, line := yamlReason(err)
		at.Line += line
		l.fail(at, translate.ObjectRef{}, "", reason, "the document is not valid YAML")
		return
	}
	if trimmed := bytes.TrimSpace(data); len(trimmed) == 0 || bytes.Equal(trimmed, []byte("null")) {
		return
	}
	var list struct {
		Kind  string            `json:"kind"`
		Items []json.RawMessage `json:"items"`
	}
	if err := json.Unmarshal(data, &list); err == nil && list.Kind == "List" {
		for _, item := range list.Items {
			l.readObject(at, item)
		}
		return
	}
	l.readObject(at, data)
}

// secondDocument returns the number of lines, from the first with content, after which a document ends with "..." and
// more follows; the YAML decoder would pass over that silently. 0: there is nothing.
func secondDocument(doc []byte) int {
	first, n, ended := -1, 0, false
	for line := range bytes.Lines(doc) {
		text := bytes.TrimSpace(line)
		switch {
		case bytes.HasPrefix(line, []byte("...")):
			ended = first >= 0
		case len(text) == 0 || text[0] == '#' || bytes.Equal(text, []byte("---")):
		case ended:
			return n - first
		case first < 0:
			first = n
		}
		n++
	}
	return 0
}

var yamlLine = regexp.MustCompile(`line (\d+): `)

// yamlReason takes the line out of a YAML error; it is relative to the document.
func yamlReason(err error) (string, int) {
	text := strings.TrimPrefix(strings.TrimPrefix(err.Error(), "yaml: "), "unmarshal errors:\n  ")
	line := 0
	if m := yamlLine.FindStringSubmatch(text); m != nil {
		fmt.Sscan(m[1], &line)
		text = strings.Replace(text, m[0], "", 1)
	}
	return text, max(line-1, 0)
}

func (l *Loaded) readObject(at Position, data []byte) {
	var meta metav1.PartialObjectMetadata
	if err := json.Unmarshal(data, &meta); err != nil {
		field, reason := decodeReason(err)
		l.fail(at, translate.ObjectRef{}, field, reason, "every document must be a Kubernetes object")
		return
	}
	ref := translate.ObjectRef{Kind: meta.Kind, Namespace: meta.Namespace, Name: meta.Name}
	if meta.Kind == "" || meta.APIVersion == "" {
		l.fail(at, ref, "", "apiVersion and kind are missing", "every document must be a Kubernetes object")
		return
	}
	k, known := kinds[meta.Kind]
	if !known || !containsString(k.groups, meta.APIVersion) {
		l.unknownKind(at, ref, meta.APIVersion, k)
		return
	}
	if meta.Name == "" {
		l.fail(at, ref, "metadata.name", "is missing", "give the object a name")
		return
	}
	switch {
	case !k.namespaced:
		ref.Namespace = ""
	case ref.Namespace == "":
		ref.Namespace = metav1.NamespaceDefault
	}
	digest := sha256.Sum256(data) // fields are in order: the text comes from a decoded document
	if first, twice := l.Positions[ref]; twice {
		if l.digests[ref] != digest {
			l.fail(at, ref, "", fmt.Sprintf("is defined a second time, and differently; the first is at %s", first), "remove one of the two")
		}
		return
	}
	l.Positions[ref], l.digests[ref] = at, digest
	object, strict, err := k.add(l, data)
	if err != nil {
		field, reason := decodeReason(err)
		l.fail(at, ref, field, reason, "compare with the API reference of "+meta.APIVersion+" "+meta.Kind)
		return
	}
	object.SetNamespace(ref.Namespace)
	for _, err := range strict {
		field, reason := strictReason(err)
		l.fail(at, ref, field, reason, "remove it or correct its spelling")
	}
}

// unknownKind: objects of other APIs belong to somebody else and are passed over; kinds of our own APIs that RAUTA
// doesn't handle are worth a warning.
func (l *Loaded) unknownKind(at Position, ref translate.ObjectRef, version string, k kind) {
	group, _, _ := strings.Cut(version, "/")
	switch {
	case len(k.groups) > 0 && group == strings.Split(k.groups[0], "/")[0]:
		l.fail(at, ref, "apiVersion", fmt.Sprintf("%s is not supported for %s", version, ref.Kind), "use "+k.groups[0])
	case group == "gateway.networking.k8s.io" || group == "gateway.networking.x-k8s.io":
		l.warn(at, ref, fmt.Sprintf("%s %s is not supported yet and has no effect", version, ref.Kind), "")
	}
}

func containsString(list []string, s string) bool {
	for _, v := range list {
		if v == s {
			return true
		}
	}
	return false
}

var strictError = regexp.MustCompile(`^(unknown|duplicate) field "(.*)"$`)

// strictReason splits `unknown field "spec.foo"`.
func strictReason(err error) (field, reason string) {
	if m := strictError.FindStringSubmatch(err.Error()); m != nil {
		return m[2], m[1] + " field"
	}
	return "", err.Error()
}

// decodeReason makes the JSON decoder's messages readable for people who wrote YAML.
func decodeReason(err error) (field, reason string) {
	text := strings.TrimPrefix(err.Error(), "json: ")
	m := goField.FindStringSubmatch(text)
	if m == nil {
		return "", text
	}
	_, field, _ = strings.Cut(m[2], ".")
	return field, fmt.Sprintf("a %s is not allowed here", m[1])
}

var goField = regexp.MustCompile(`^cannot unmarshal (\S+) into Go struct field (\S+) of type .*$`)
