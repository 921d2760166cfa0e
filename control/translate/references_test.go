package translate

import (
	"slices"
	"testing"

	gatewayv1 "sigs.k8s.io/gateway-api/apis/v1"
)

func TestSecretsAndConfigMapsThatAreAskedForAreNamedWhetherTheyExistOrNot(t *testing.T) {
	objects, opt := loadCase(t, "testdata/gateway/http-listener")
	opt.TicketKeys = "rauta-system/tickets"
	got := Translate(objects, opt).References
	if want := []ObjectRef{{Kind: "Secret", Namespace: "rauta-system", Name: "tickets"}}; !slices.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
}

// TestWhatTwoReferToIsStillAskedForWhenOneIsGone: only the first of two routes reads a Secret, and both refer to it.
func TestWhatTwoReferToIsStillAskedForWhenOneIsGone(t *testing.T) {
	objects, opt := loadCase(t, "testdata/backendtls/annotations-that-cannot-be-used-fail-closed")
	var leads *gatewayv1.HTTPRoute
	for _, r := range objects.HTTPRoutes {
		if r.Name == "client" {
			leads = r
		}
	}
	second := leads.DeepCopy()
	second.Name = "z-second"
	objects.HTTPRoutes = append(objects.HTTPRoutes, second)
	opt.Memo = &Memo{}
	Translate(objects, opt)
	next := *objects
	next.HTTPRoutes = slices.DeleteFunc(slices.Clone(objects.HTTPRoutes), func(r *gatewayv1.HTTPRoute) bool { return r == leads })
	got := Translate(&next, opt).References
	opt.Memo = nil
	if want := Translate(&next, opt).References; !slices.Equal(got, want) {
		t.Errorf("asked for are %v, want %v", got, want)
	}
}
