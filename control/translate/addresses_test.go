package translate

import (
	"fmt"
	"testing"
)

// TestAStatusHasNoMoreAddressesThanItsSchemaTakes: a DaemonSet on many nodes publishes one for each.
func TestAStatusHasNoMoreAddressesThanItsSchemaTakes(t *testing.T) {
	objects, opt := loadCase(t, "testdata/gateway/http-listener")
	opt.Addresses = nil
	for i := range 3 * statusAddressesMax {
		opt.Addresses = append(opt.Addresses, fmt.Sprintf("192.0.2.%d", i))
	}
	got := Translate(objects, opt).Statuses.Gateways[0].Status.Addresses
	if len(got) != statusAddressesMax || got[0].Value != "192.0.2.0" {
		t.Errorf("%d addresses, first %v", len(got), got)
	}
}
