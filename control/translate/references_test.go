package translate

import (
	"slices"
	"testing"
)

func TestSecretsAndConfigMapsThatAreAskedForAreNamedWhetherTheyExistOrNot(t *testing.T) {
	objects, opt := loadCase(t, "testdata/gateway/http-listener")
	opt.TicketKeys = "rauta-system/tickets"
	got := Translate(objects, opt).References
	if want := []ObjectRef{{Kind: "Secret", Namespace: "rauta-system", Name: "tickets"}}; !slices.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
}
