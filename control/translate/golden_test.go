package translate

import (
	"bytes"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	gatewayv1 "sigs.k8s.io/gateway-api/apis/v1"
	"sigs.k8s.io/yaml"

	"rauta.io/rauta/proxy/config"
)

var update = flag.Bool("update", false, "rewrite the golden files and docs/annotations.md")

// TestTheGoldenCasesHold runs testdata/<area>/<case>: objects.yaml and the optional options.yaml go in, config.yaml,
// status.yaml and problems.yaml must come out.
func TestTheGoldenCasesHold(t *testing.T) {
	for _, dir := range caseDirs(t) {
		t.Run(strings.TrimPrefix(dir, "testdata/"), func(t *testing.T) {
			objects, opt := loadCase(t, dir)
			for name, got := range render(t, Translate(objects, opt)) {
				golden(t, filepath.Join(dir, name), got)
			}
		})
	}
}

func caseDirs(tb testing.TB) []string {
	files, err := filepath.Glob("testdata/*/*/objects.yaml")
	if err != nil || len(files) == 0 {
		tb.Fatalf("no cases: %v", err)
	}
	dirs := make([]string, len(files))
	for i, f := range files {
		dirs[i] = filepath.Dir(f)
	}
	return dirs
}

func golden(t *testing.T, path string, got []byte) {
	t.Helper()
	if *update {
		if err := os.WriteFile(path, got, 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, want) {
		t.Errorf("%s differs; look at it and run the test with -update if it is right. Got:\n%s", path, got)
	}
}

// configFile is config.yaml.
type configFile struct {
	config.Config
	Endpoints config.Endpoints `json:"endpoints,omitempty"`
}

func render(tb testing.TB, r *Result) map[string][]byte {
	out := map[string][]byte{}
	for name, v := range map[string]any{
		"config.yaml":   configFile{*r.Config, r.Endpoints},
		"status.yaml":   r.Statuses,
		"problems.yaml": r.Problems,
	} {
		var plain any
		if err := json.Unmarshal(encode(tb, v), &plain); err != nil {
			tb.Fatal(err)
		}
		text, err := yaml.Marshal(shorten(plain))
		if err != nil {
			tb.Fatal(err)
		}
		out[name] = text
	}
	return out
}

// shorten writes conditions and object references on one line each, so that a golden file can be read.
func shorten(v any) any {
	switch v := v.(type) {
	case map[string]any:
		delete(v, "supportedFeatures") // the same everywhere; TestAClassSaysWhichFeaturesAreSupported
		if v["reason"] != nil && v["type"] != nil {
			return fmt.Sprintf("%v=%v %v, generation %v: %v", v["type"], v["status"], v["reason"], v["observedGeneration"], v["message"])
		}
		if o, ok := v["object"].(map[string]any); ok {
			v["object"] = strings.Join([]string{fmt.Sprint(o["kind"]), fmt.Sprint(o["namespace"]), fmt.Sprint(o["name"])}, " ")
		}
		for k := range v {
			v[k] = shorten(v[k])
		}
	case []any:
		for i := range v {
			v[i] = shorten(v[i])
		}
	}
	return v
}

func loadCase(tb testing.TB, dir string) (*Objects, Options) {
	text, err := os.ReadFile(filepath.Join(dir, "objects.yaml"))
	if err != nil {
		tb.Fatal(err)
	}
	var opt Options
	if text, err := os.ReadFile(filepath.Join(dir, "options.yaml")); err == nil {
		if err := yaml.UnmarshalStrict(text, &opt); err != nil {
			tb.Fatal(err)
		}
	}
	return parse(tb, string(text)), opt
}

func parse(tb testing.TB, text string) *Objects {
	o := &Objects{}
	for document := range strings.SplitSeq(text, "\n---\n") {
		var head metav1.TypeMeta
		if err := yaml.Unmarshal([]byte(document), &head); err != nil {
			tb.Fatal(err)
		}
		switch head.Kind {
		case "GatewayClass":
			o.GatewayClasses = add[gatewayv1.GatewayClass](tb, o.GatewayClasses, document)
		case "Gateway":
			o.Gateways = add[gatewayv1.Gateway](tb, o.Gateways, document)
		case kindListenerSet:
			o.ListenerSets = add[gatewayv1.ListenerSet](tb, o.ListenerSets, document)
		case "HTTPRoute":
			o.HTTPRoutes = add[gatewayv1.HTTPRoute](tb, o.HTTPRoutes, document)
		case "GRPCRoute":
			o.GRPCRoutes = add[gatewayv1.GRPCRoute](tb, o.GRPCRoutes, document)
		case "TLSRoute":
			o.TLSRoutes = add[gatewayv1.TLSRoute](tb, o.TLSRoutes, document)
		case "TCPRoute":
			o.TCPRoutes = add[gatewayv1.TCPRoute](tb, o.TCPRoutes, document)
		case "UDPRoute":
			o.UDPRoutes = add[gatewayv1.UDPRoute](tb, o.UDPRoutes, document)
		case "ReferenceGrant":
			o.ReferenceGrants = add[gatewayv1.ReferenceGrant](tb, o.ReferenceGrants, document)
		case "Ingress":
			o.Ingresses = add[networkingv1.Ingress](tb, o.Ingresses, document)
		case "IngressClass":
			o.IngressClasses = add[networkingv1.IngressClass](tb, o.IngressClasses, document)
		case "Service":
			o.Services = add[corev1.Service](tb, o.Services, document)
		case "EndpointSlice":
			o.EndpointSlices = add[discoveryv1.EndpointSlice](tb, o.EndpointSlices, document)
		case "Namespace":
			o.Namespaces = add[corev1.Namespace](tb, o.Namespaces, document)
		case kindConfigMap:
			o.ConfigMaps = add[corev1.ConfigMap](tb, o.ConfigMaps, document)
		case kindBackendTLSPolicy:
			o.BackendTLSPolicies = add[gatewayv1.BackendTLSPolicy](tb, o.BackendTLSPolicies, document)
		case "Secret":
			o.Secrets = add[corev1.Secret](tb, o.Secrets, document)
		default:
			tb.Fatalf("a document of kind %q", head.Kind)
		}
	}
	return o
}

func add[T any](tb testing.TB, list []*T, document string) []*T {
	v := new(T)
	if err := yaml.UnmarshalStrict([]byte(document), v); err != nil {
		tb.Fatalf("%v in\n%s", err, document)
	}
	return append(list, v)
}
