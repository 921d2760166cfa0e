package certs

import (
	"crypto/tls"
	"strings"
	"sync"
	"testing"
	"time"

	"rauta.io/rauta/proxy/config"
)

const refused = "remote error: tls: unrecognized name"

func TestTheServerNameDecidesWhichListenerAnswers(t *testing.T) {
	s := store(t,
		issue(t, "exact", "ecdsa", "exact"), issue(t, "wild", "ecdsa", "wild"), issue(t, "narrow", "ecdsa", "narrow"), issue(t, "any", "ecdsa", "any"))
	listeners := []Listener{
		serves("a.example.com", "exact"), serves("*.example.com", "wild"), serves("*.b.example.com", "narrow"), serves("", "any"),
		serves("closed.example.com"),
	}
	withDefault := NewTable(nil, s, listeners)
	withoutDefault := NewTable(nil, s, append(listeners[:3:3], listeners[4]))
	for _, c := range []struct{ name, with, without string }{
		{"a.example.com", "exact", "exact"},
		{"A.Example.COM", "exact", "exact"},
		{"b.example.com", "wild", "wild"},
		{"x.y.example.com", "wild", "wild"},
		{"x.b.example.com", "narrow", "narrow"},
		{"x.y.b.example.com", "narrow", "narrow"},
		{"x.a.example.com", "wild", "wild"},
		{"example.com", "any", refused},
		{"example.org", "any", refused},
		{"", "any", refused},
		{"closed.example.com", refused, refused},
		{"x.closed.example.com", "wild", "wild"},
	} {
		if got := who(withDefault, c.name); got != c.with {
			t.Errorf("%q: %s, want %s", c.name, got, c.with)
		}
		if got := who(withoutDefault, c.name); got != c.without {
			t.Errorf("%q without a default listener: %s, want %s", c.name, got, c.without)
		}
	}
}

func TestANameWithoutListenerIsRefusedInEveryVersion(t *testing.T) {
	table := NewTable(nil, store(t, issue(t, "a", "ecdsa", "a.example.com")), []Listener{serves("a.example.com", "a")}, "h2", "http/1.1")
	for _, version := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
		_, err := meet(table.Config(), &tls.Config{
			ServerName: "b.example.com", InsecureSkipVerify: true, MinVersion: version, MaxVersion: version, NextProtos: []string{"h2"},
		})
		if err == nil || err.Error() != refused {
			t.Errorf("version %x: %v", version, err)
		}
	}
}

func TestEachClientGetsACertificateThatItSupports(t *testing.T) {
	s := store(t, issue(t, "rsa", "rsa", "a.example.com"), issue(t, "ed25519", "ed25519", "a.example.com"),
		issue(t, "ecdsa", "ecdsa", "a.example.com"), issue(t, "other", "ecdsa", "other.example.com"))
	table := NewTable(nil, s, []Listener{serves("", "rsa", "ed25519", "ecdsa", "other")})
	for _, c := range []struct {
		what   string
		client *tls.Config
		want   string
	}{
		{"a modern one", &tls.Config{ServerName: "a.example.com"}, "ECDSA a.example.com"},
		{"one without ECDSA", &tls.Config{ServerName: "a.example.com", MaxVersion: tls.VersionTLS12,
			CipherSuites: []uint16{tls.TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256}}, "RSA a.example.com"},
		{"one for another name", &tls.Config{ServerName: "other.example.com"}, "ECDSA other.example.com"},
		{"one for a name that none has", &tls.Config{ServerName: "x.example.com"}, "ECDSA a.example.com"},
	} {
		c.client.InsecureSkipVerify = true
		state, err := meet(table.Config(), c.client)
		if err != nil {
			t.Errorf("%s: %v", c.what, err)
			continue
		}
		leaf := state.PeerCertificates[0]
		if got := leaf.PublicKeyAlgorithm.String() + " " + leaf.DNSNames[0]; got != c.want {
			t.Errorf("%s gets %s, want %s", c.what, got, c.want)
		}
	}
	only := NewTable(nil, s, []Listener{serves("", "ed25519")})
	if got := who(only, "a.example.com"); got != "a.example.com" {
		t.Errorf("Ed25519 alone: %s", got)
	}
}

func TestHostsOfAListenerHaveCertificatesOfTheirOwn(t *testing.T) {
	s := store(t, issue(t, "a", "ecdsa", "a"), issue(t, "wild", "ecdsa", "wild"), issue(t, "any", "ecdsa", "any"))
	hosts := []config.TLSHost{
		{Hostname: "a.example.com", Certificates: []string{"a"}}, {Hostname: "*.example.com", Certificates: []string{"wild"}},
		{Hostname: "closed.example.com", Certificates: []string{"does-not-exist"}},
	}
	strict := NewTable(nil, s, []Listener{{TLS: &config.TLS{Hosts: hosts}}})
	lenient := NewTable(nil, s, []Listener{{TLS: &config.TLS{Hosts: hosts, Certificates: []string{"any"}}}})
	for name, want := range map[string]string{
		"a.example.com": "a", "b.example.com": "wild", "closed.example.com": refused, "example.org": refused,
	} {
		if got := who(strict, name); got != want {
			t.Errorf("%q: %s, want %s", name, got, want)
		}
		if want == refused && name == "example.org" {
			want = "any"
		}
		if got := who(lenient, name); got != want {
			t.Errorf("%q with a default certificate: %s, want %s", name, got, want)
		}
	}
	if realm(strict, "a.example.com") != realm(strict, "b.example.com") {
		t.Error("two hosts of one listener have different policies")
	}
	if realm(strict, "closed.example.com") != nil || realm(strict, "example.org") != nil {
		t.Error("a name that is refused is open")
	}
}

// realm is that of a name, nil if its handshake is refused.
func realm(table *Table, name string) *Realm {
	if r, open := table.Realm(name); open {
		return r
	}
	return nil
}

func TestRealmsTellPoliciesApart(t *testing.T) {
	s := store(t, issue(t, "c", "ecdsa", "c"))
	table := NewTable(nil, s, []Listener{serves("a.example.com", "c"), serves("*.example.com", "c"), serves("", "c"), serves("d.example.com")})
	a, wild, any := realm(table, "a.example.com"), realm(table, "b.example.com"), realm(table, "")
	if a == nil || wild == nil || any == nil || a.Admits(wild) || wild.Admits(any) || any.Admits(a) || !a.Admits(a) {
		t.Errorf("realms %p, %p, %p", a, wild, any)
	}
	if realm(table, "x.y.example.com") != wild || realm(table, "example.org") != any || realm(table, "d.example.com") != nil {
		t.Error("a name has the wrong realm")
	}
	if realm(table, strings.Repeat("a.", 200)+"example.com") != nil {
		t.Error("a name that can't exist has a realm")
	}
}

func TestVersionsAndCipherSuitesAreEnforced(t *testing.T) {
	s := store(t, issue(t, "c", "ecdsa", "c"))
	table := NewTable(nil, s, []Listener{
		{Hostname: "new", TLS: &config.TLS{Certificates: []string{"c"}, MinVersion: config.TLS13}},
		{Hostname: "old", TLS: &config.TLS{Certificates: []string{"c"}, MaxVersion: config.TLS12,
			CipherSuites: []string{"TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384"}}},
		serves("default", "c"),
	})
	try := func(name string, version uint16, suites ...uint16) (tls.ConnectionState, error) {
		return meet(table.Config(), &tls.Config{
			ServerName: name, InsecureSkipVerify: true, MinVersion: tls.VersionTLS10, MaxVersion: version, CipherSuites: suites,
		})
	}
	if _, err := try("new", tls.VersionTLS12); err == nil || !strings.Contains(err.Error(), "protocol version") {
		t.Errorf("TLS 1.2 where 1.3 is the oldest: %v", err)
	}
	if state, err := try("old", tls.VersionTLS13); err != nil || state.Version != tls.VersionTLS12 ||
		state.CipherSuite != tls.TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384 {
		t.Errorf("TLS 1.2 with one suite: %x %x %v", state.Version, state.CipherSuite, err)
	}
	if _, err := try("old", tls.VersionTLS12, tls.TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256); err == nil {
		t.Error("a suite that is not in the list was agreed on")
	}
	if _, err := try("default", tls.VersionTLS12, tls.TLS_ECDHE_ECDSA_WITH_AES_128_CBC_SHA); err == nil {
		t.Error("a suite without authenticated encryption was agreed on")
	}
	if _, err := try("default", tls.VersionTLS11); err == nil || !strings.Contains(err.Error(), "protocol version") {
		t.Errorf("TLS 1.1: %v", err)
	}
	if state, err := try("default", tls.VersionTLS13); err != nil || state.Version != tls.VersionTLS13 || state.CurveID != tls.X25519MLKEM768 {
		t.Errorf("by default: %x %v %v", state.Version, state.CurveID, err)
	}
}

func TestProtocolsAndStapleReachTheClient(t *testing.T) {
	c := issue(t, "c", "ecdsa", "c")
	c.OCSPStaple = []byte{0x30, 0x03, 0x0a, 0x01, 0x00}
	table := NewTable(nil, store(t, c), []Listener{serves("", "c")})
	table.SetNextProtos("h2", "http/1.1")
	for _, offer := range []string{"h2", "http/1.1"} {
		state, err := meet(table.Config(), &tls.Config{InsecureSkipVerify: true, NextProtos: []string{offer}})
		if err != nil || state.NegotiatedProtocol != offer || string(state.OCSPResponse) != string(c.OCSPStaple) {
			t.Errorf("%s: %q, staple %x, %v", offer, state.NegotiatedProtocol, state.OCSPResponse, err)
		}
	}
}

func TestAnExpiredStapleIsNotSent(t *testing.T) {
	for what, c := range map[string]struct {
		until int64
		sent  bool
	}{
		"valid": {time.Now().Add(time.Hour).Unix(), true}, "expired": {time.Now().Add(-time.Second).Unix(), false}, "for ever": {0, true},
	} {
		one, other := issue(t, "c", "ecdsa", "c"), issue(t, "d", "rsa", "d")
		one.OCSPStaple, one.StapleUntil = []byte{0x30, 0x03, 0x0a, 0x01, 0x00}, c.until
		table := NewTable(nil, store(t, one, other), []Listener{serves("", "c", "d")}, "h2")
		for _, version := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
			state, err := meet(table.Config(), &tls.Config{InsecureSkipVerify: true, NextProtos: []string{"h2"}, MaxVersion: version})
			if err != nil || state.NegotiatedProtocol != "h2" || (len(state.OCSPResponse) > 0) != c.sent {
				t.Errorf("%s, version %x: %q, staple %x, %v", what, version, state.NegotiatedProtocol, state.OCSPResponse, err)
			}
		}
	}
}

func TestAnOpaqueListenerAgreesOnNoProtocol(t *testing.T) {
	s := store(t, issue(t, "c", "ecdsa", "c"))
	opaque := serves("opaque", "c")
	opaque.Opaque = true
	table := NewTable(nil, s, []Listener{opaque, serves("http", "c")}, "h2", "http/1.1")
	for name, want := range map[string]string{"opaque": "", "http": "h2"} {
		state, err := meet(table.Config(), &tls.Config{ServerName: name, InsecureSkipVerify: true, NextProtos: []string{"h2", "smtp"}})
		if err != nil || state.NegotiatedProtocol != want {
			t.Errorf("%s: %q, %v", name, state.NegotiatedProtocol, err)
		}
	}
	if again := NewTable(table, s, []Listener{serves("opaque", "c"), serves("http", "c")}, "h2", "http/1.1"); again == table {
		t.Error("a listener that is no longer opaque makes no difference")
	}
}

func TestListenersOfOneHostnameShareCertificatesAndTheStricterVersion(t *testing.T) {
	s := store(t, issue(t, "a", "ecdsa", "a.example.com"), issue(t, "b", "rsa", "b.example.com"))
	table := NewTable(nil, s, []Listener{
		serves("", "a"),
		{TLS: &config.TLS{Certificates: []string{"b", "a"}, MinVersion: config.TLS13}},
	})
	for _, name := range []string{"a.example.com", "b.example.com"} {
		if got := who(table, name); got != name {
			t.Errorf("%q gets %s", name, got)
		}
	}
	if _, err := meet(table.Config(), &tls.Config{ServerName: "a.example.com", InsecureSkipVerify: true, MaxVersion: tls.VersionTLS12}); err == nil {
		t.Error("the first listener's version counts for both")
	}
}

func TestOneTableServesManyConnectionsAtOnce(t *testing.T) {
	table := NewTable(nil, store(t, issue(t, "c", "ecdsa", "c")), []Listener{serves("", "c"), serves("a.example.com", "c")}, "h2")
	var wait sync.WaitGroup
	for range 8 {
		wait.Go(func() {
			for _, name := range []string{"a.example.com", "b.example.com", "a.example.com"} {
				if got := who(table, name); got != "c" {
					t.Errorf("%q: %s", name, got)
				}
			}
		})
	}
	wait.Wait()
}

func TestOnlyAChoiceOfCertificatesKeepsWhatIsInThem(t *testing.T) {
	s := store(t, issue(t, "rsa", "rsa", "a.example.com"), issue(t, "ecdsa", "ecdsa", "a.example.com"))
	for want, names := range map[bool][]string{false: {"ecdsa"}, true: {"rsa", "ecdsa"}} {
		table := NewTable(nil, s, []Listener{serves("", names...)})
		for _, c := range table.groups[0].configs[0].Certificates {
			if got := c.Leaf != nil; got != want {
				t.Errorf("of %d certificates one has its parsed form: %t", len(names), got)
			}
		}
	}
}
