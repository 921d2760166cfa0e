package translate

import (
	"strings"
	"testing"
)

// TestWhoRefersToWhatIsNotReadIsToldWhy takes cases that refer to Secrets and ConfigMaps, without these.
func TestWhoRefersToWhatIsNotReadIsToldWhy(t *testing.T) {
	const reason = "has too many bytes for a test"
	for dir, kinds := range map[string]string{
		"testdata/ingress/tls": "Ingress", "testdata/ingress/client-certificates": "Ingress", "testdata/backendtls/policies-in-effect": "BackendTLSPolicy", "testdata/backendtls/certificates-of-gateways": "Gateway",
		"testdata/clienttls/session-ticket-keys-of-listeners": "Gateway",
	} {
		objects, opt := loadCase(t, dir)
		objects.Secrets, objects.ConfigMaps = nil, nil
		memo := &Memo{}
		opt.Memo = memo
		before := Translate(objects, opt)
		unread := *objects
		for _, ref := range before.References {
			unread.Unread = append(unread.Unread, Unread{ref, reason})
		}
		after := Translate(&unread, opt)
		told := map[string]bool{}
		for _, p := range after.Problems {
			if strings.Contains(p.Message, "does not exist") && !strings.Contains(p.Message, "Service") {
				t.Errorf("%s: %s %s says %q", dir, p.Object.Kind, p.Object.Name, p.Message)
			}
			if strings.Contains(p.Message, reason) {
				told[p.Object.Kind] = true
			}
		}
		for kind := range strings.FieldsSeq(kinds) {
			if !told[kind] {
				t.Errorf("%s: no %s is told, only %v", dir, kind, told)
			}
		}
	}
}

func TestABundleOfAuthoritiesIsReadOnceForAllWhoNameIt(t *testing.T) {
	objects, opt := loadCase(t, "testdata/ingress/client-certificates")
	opt.Memo = &Memo{}
	Translate(objects, opt)
	if len(opt.Memo.bundles) == 0 {
		t.Fatal("nothing is known")
	}
	const known = "what is known of it"
	for object := range opt.Memo.bundles {
		opt.Memo.bundles[object] = bundle{pem: known}
	}
	asked := 0
	for _, l := range Translate(objects, opt).Config.Listeners {
		if l.TLS == nil {
			continue
		}
		for _, h := range l.TLS.Hosts {
			if h.ClientAuth == nil || h.ClientAuth.CA == "" {
				continue
			}
			if asked++; h.ClientAuth.CA != known {
				t.Errorf("the authorities of %s are read again", h.Hostname)
			}
		}
	}
	if asked < 2 {
		t.Errorf("only %d hosts ask clients for certificates", asked)
	}
	objects.ConfigMaps, objects.Secrets = nil, nil
	Translate(objects, opt)
	if n := len(opt.Memo.bundles); n != 0 {
		t.Errorf("%d objects that are gone are still known", n)
	}
}
