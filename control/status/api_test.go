package status

import (
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/client-go/rest"
)

func TestStatusesAreReadAndWrittenInTheVersionThatIsServed(t *testing.T) {
	const failure = `{"apiVersion":"v1","kind":"Status","status":"Failure","reason":%q,"code":%d}`
	answers := map[string]string{
		"GET /apis/gateway.networking.k8s.io": `{"preferredVersion":{"version":"v1","groupVersion":"gateway.networking.k8s.io/v1"},
			"versions":[{"version":"v1","groupVersion":"gateway.networking.k8s.io/v1"},{"version":"v1alpha2","groupVersion":"gateway.networking.k8s.io/v1alpha2"}]}`,
		"GET /apis/gateway.networking.k8s.io/v1": `{"resources":[{"name":"gateways","kind":"Gateway","namespaced":true},
			{"name":"gateways/status","kind":"Gateway","namespaced":true},{"name":"gatewayclasses","kind":"GatewayClass"}]}`,
		"GET /apis/gateway.networking.k8s.io/v1alpha2": `{"resources":[{"name":"tcproutes","kind":"TCPRoute","namespaced":true}]}`,
		"GET /apis/gateway.networking.k8s.io/v1/namespaces/a/gateways/gw": `{"metadata":{"uid":"u","resourceVersion":"7","generation":3},
			"spec":{"x":1},"status":{"unknownToUs":[1]}}`,
		"GET /apis/gateway.networking.k8s.io/v1/gatewayclasses/rauta":                    `{"metadata":{"uid":"c","resourceVersion":"8"}}`,
		"PATCH /apis/gateway.networking.k8s.io/v1alpha2/namespaces/a/tcproutes/r/status": `{}`,
	}
	var asked []string
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		key := r.Method + " " + r.URL.Path
		asked = append(asked, strings.TrimSpace(key+" "+r.URL.RawQuery+" "+string(body)))
		w.Header().Set("Content-Type", "application/json")
		if answer, ok := answers[key]; ok {
			fmt.Fprint(w, answer)
			return
		}
		if r.Method == http.MethodPatch {
			w.WriteHeader(http.StatusConflict)
			fmt.Fprintf(w, failure, "Conflict", http.StatusConflict)
			return
		}
		w.WriteHeader(http.StatusNotFound)
		fmt.Fprintf(w, failure, "NotFound", http.StatusNotFound)
	}))
	defer s.Close()
	c, err := newCluster(&rest.Config{Host: s.URL})
	if err != nil {
		t.Fatal(err)
	}
	gateway := id{Kind: kindGateway, Namespace: "a", Name: "gw"}
	got, err := c.get(t.Context(), gateway)
	if err != nil || got.uid != "u" || got.version != "7" || got.generation != 3 || string(got.status) != `{"unknownToUs":[1]}` {
		t.Errorf("get: %+v %s, %v", got, got.status, err)
	}
	if got, err = c.get(t.Context(), id{Kind: "GatewayClass", Name: "rauta"}); err != nil || got.uid != "c" || got.status != nil {
		t.Errorf("get: %+v, %v", got, err)
	}
	asked = nil
	if err := c.patch(t.Context(), id{Kind: "TCPRoute", Namespace: "a", Name: "r"}, "9", map[string]any{"parents": nil}); err != nil {
		t.Error(err)
	}
	want := []string{`PATCH /apis/gateway.networking.k8s.io/v1alpha2/namespaces/a/tcproutes/r/status fieldManager=rauta ` +
		`{"metadata":{"resourceVersion":"9"},"status":{"parents":null}}`}
	if !slices.Equal(asked, want) {
		t.Errorf("requests:\n%s\nwant:\n%s", strings.Join(asked, "\n"), strings.Join(want, "\n"))
	}
	if err := c.patch(t.Context(), gateway, "1", nil); !apierrors.IsConflict(err) {
		t.Errorf("a conflict is %v", err)
	}
	route := id{Kind: "UDPRoute", Namespace: "a", Name: "r"}
	if _, err := c.get(t.Context(), route); !meta.IsNoMatchError(err) {
		t.Errorf("a kind that the server does not have: %v", err)
	}
	// Its definition is made, and found once what is known may be looked up again.
	answers["GET /apis/gateway.networking.k8s.io/v1alpha2"] = `{"resources":[{"name":"udproutes","kind":"UDPRoute","namespaced":true}]}`
	answers["GET /apis/gateway.networking.k8s.io/v1alpha2/namespaces/a/udproutes/r"] = `{"metadata":{"uid":"r"}}`
	c.reset = c.reset.Add(-kindsAfter)
	if got, err := c.get(t.Context(), route); err != nil || got.uid != "r" {
		t.Errorf("get: %+v, %v", got, err)
	}
}
