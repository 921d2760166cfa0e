package translate

import (
	"bytes"
	"fmt"
	"slices"
	"testing"
	"time"
)

func TestARunThatRemembersGivesTheSame(t *testing.T) {
	memo := &Memo{}
	for _, dir := range caseDirs(t) { // each also changes what the one before has left
		objects, opt := loadCase(t, dir)
		want := encode(t, Translate(objects, opt))
		opt.Memo = memo
		for range 2 {
			if got := encode(t, Translate(objects, opt)); !bytes.Equal(got, want) {
				t.Errorf("%s: with a memory\n%s\nwithout\n%s", dir, got, want)
			}
		}
	}
}

func TestSecretsAreReadAgainOnlyWhenTheyChange(t *testing.T) {
	objects, opt := loadCase(t, "testdata/gateway/https-listeners")
	memo := &Memo{}
	opt.Memo = memo
	Translate(objects, opt)
	first := memo.present
	if len(first) != 4 { // of five Secrets one is not used
		t.Fatalf("%d Secrets are remembered", len(first))
	}
	defects := map[*certificate]int{}
	for _, c := range first {
		defects[c] = len(c.defects)
	}
	opt.Now = time.Unix(10_000_000_000, 0) // all have expired
	expired := Translate(objects, opt)
	for k, c := range memo.present {
		if first[k] != c || len(c.defects) != defects[c] || c.used {
			t.Error("a Secret was read again, or what is remembered was changed")
		}
	}
	if len(expired.Problems) < 5 {
		t.Errorf("expired certificates are not reported: %v", expired.Problems)
	}
	for _, s := range objects.Secrets {
		s.StringData["tls.key"] = "x"
	}
	Translate(objects, opt)
	for k := range memo.present {
		if first[k] != nil {
			t.Error("a Secret that changed was not read again")
		}
	}
	objects.Gateways = nil
	Translate(objects, opt)
	if len(memo.present) != 0 {
		t.Error("what is not used any more is still remembered")
	}
}

// TestASecretIsAskedForAsLongAsAnyRouteNeedsIt: without the reference the Secret would not be read any more, and the back end
// could not be used.
func TestASecretIsAskedForAsLongAsAnyRouteNeedsIt(t *testing.T) {
	const route = `
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: %[1]s, namespace: default}
spec: {parentRefs: [{name: gw}], hostnames: [%[1]s.example.com], rules: [{backendRefs: [{name: app, port: 443}]}]}
---`
	const others = `
apiVersion: gateway.networking.k8s.io/v1
kind: GatewayClass
metadata: {name: rauta}
spec: {controllerName: rauta.io/gateway-controller}
---
apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata: {name: gw, namespace: default}
spec: {gatewayClassName: rauta, listeners: [{name: http, protocol: HTTP, port: 80}]}
---
apiVersion: v1
kind: Service
metadata:
  name: app
  namespace: default
  annotations: {rauta.io/backend-protocol: HTTPS, rauta.io/backend-tls-client-certificate: identity}
spec: {ports: [{port: 443}]}
`
	objects := parse(t, (fmt.Sprintf(route, "a") + fmt.Sprintf(route, "b"))[1:]+others)
	opt := Options{Memo: &Memo{}}
	opt.ControllerName = "rauta.io/gateway-controller"
	want := ObjectRef{Kind: kindSecret, Namespace: "default", Name: "identity"}
	for len(objects.HTTPRoutes) > 0 {
		if got := Translate(objects, opt).References; !slices.Contains(got, want) {
			t.Errorf("with %d routes the references are %v", len(objects.HTTPRoutes), got)
		}
		next := *objects
		next.HTTPRoutes = objects.HTTPRoutes[1:]
		objects = &next
	}
}
