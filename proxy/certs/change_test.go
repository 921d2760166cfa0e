package certs

import (
	"crypto/tls"
	"encoding/base64"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"

	"rauta.io/rauta/proxy/config"
)

// oneSession is a cache that gives its session to whatever server the client asks.
type oneSession struct{ session *tls.ClientSessionState }

func (o *oneSession) Get(string) (*tls.ClientSessionState, bool)    { return o.session, o.session != nil }
func (o *oneSession) Put(_ string, session *tls.ClientSessionState) { o.session = session }

// resumes makes two connections and reports whether the second took up the session of the first.
func resumes(t *testing.T, version uint16, first *Table, firstName string, second *Table, secondName string) bool {
	t.Helper()
	cache := &oneSession{}
	client := func(name string) *tls.Config {
		return &tls.Config{ServerName: name, InsecureSkipVerify: true, MinVersion: version, MaxVersion: version, ClientSessionCache: cache}
	}
	if state, err := meet(first.Config(), client(firstName)); err != nil || state.DidResume || cache.session == nil {
		t.Fatalf("the first connection: resumed %v, ticket %v, %v", state.DidResume, cache.session != nil, err)
	}
	state, err := meet(second.Config(), client(secondName))
	if err != nil {
		t.Fatal(err)
	}
	return state.DidResume
}

func TestASessionIsTakenUpAgainByItsOwnListenerOnly(t *testing.T) {
	// One certificate for all: what keeps listeners apart must not be that a client would notice another certificate.
	s := store(t, issue(t, "c", "ecdsa", "a.example.com", "b.example.com", "*.w.example.com"))
	listeners := []Listener{serves("a.example.com", "c"), serves("b.example.com", "c"), serves("*.w.example.com", "c")}
	table, otherPort := NewTable(nil, s, listeners), NewTable(nil, s, listeners)
	for _, version := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
		for _, c := range []struct {
			to, name string
			table    *Table
			want     bool
		}{
			{"its own listener", "a.example.com", table, true},
			{"another listener", "b.example.com", table, false},
			{"a wildcard listener", "x.w.example.com", table, false},
			{"the same listener on another port", "a.example.com", otherPort, false},
		} {
			if got := resumes(t, version, table, "a.example.com", c.table, c.name); got != c.want {
				t.Errorf("version %x, a session taken to %s: resumed %v", version, c.to, got)
			}
		}
		if !resumes(t, version, table, "x.w.example.com", table, "y.w.example.com") {
			t.Errorf("version %x: two hosts of one listener don't share sessions", version)
		}
	}
}

func TestSessionsOutliveANewCertificateButNotANewPolicy(t *testing.T) {
	before := NewTable(nil, store(t, issue(t, "c", "ecdsa", "a.example.com")), []Listener{serves("a.example.com", "c"), serves("", "c")})
	renewed := store(t, issue(t, "c", "ecdsa", "a.example.com"))
	after := NewTable(before, renewed, []Listener{serves("a.example.com", "c"), serves("", "c")})
	if before == after {
		t.Fatal("a new certificate made no new table")
	}
	policy := Listener{Hostname: "a.example.com", TLS: &config.TLS{
		Certificates: []string{"c"}, CipherSuites: []string{"TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256"},
	}}
	stricter := NewTable(before, renewed, []Listener{policy, serves("", "c")})
	for _, version := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
		if !resumes(t, version, before, "a.example.com", after, "a.example.com") {
			t.Errorf("version %x: the session did not outlive the certificate", version)
		}
		if resumes(t, version, before, "a.example.com", stricter, "a.example.com") {
			t.Errorf("version %x: the session outlived the policy that it was made under", version)
		}
		if resumes(t, version, before, "", after, "a.example.com") {
			t.Errorf("version %x: a session of the default listener was taken up by another", version)
		}
	}
}

func TestWhatDidNotChangeIsTheSameObject(t *testing.T) {
	a, b := issue(t, "a", "ecdsa", "a"), issue(t, "b", "ecdsa", "b")
	listeners := func() []Listener {
		return []Listener{serves("", "a"), {Hostname: "h", TLS: &config.TLS{
			Hosts: []config.TLSHost{{Hostname: "x.h", Certificates: []string{"a"}}}, CipherSuites: config.CipherSuiteNames()[:1]}}}
	}
	first := store(t, a, b)
	table := NewTable(nil, first, listeners(), "h2")
	b.OCSPStaple = []byte{0x30, 0}
	second, _ := NewStore(first, []config.Certificate{b, a})
	if first.Lookup("a") != second.Lookup("a") || first.Lookup("b") == second.Lookup("b") {
		t.Error("a certificate that did not change was parsed anew, or one that did was not")
	}
	if NewTable(table, second, listeners(), "h2") != table {
		t.Error("another certificate changed, and the table is a new one")
	}
	if NewTable(table, second, listeners(), "http/1.1") == table {
		t.Error("other protocols gave the same table")
	}
	for i, change := range []func(l []Listener){
		func(l []Listener) { l[0].TLS.Certificates = []string{"b"} },
		func(l []Listener) { l[0].Hostname = "n" },
		func(l []Listener) { l[1].TLS.MinVersion = config.TLS13 },
		func(l []Listener) { l[1].TLS.MaxVersion = config.TLS12 },
		func(l []Listener) { l[1].TLS.CipherSuites = config.CipherSuiteNames()[1:] },
		func(l []Listener) { l[1].TLS.Hosts[0].Hostname = "y.h" },
		func(l []Listener) { l[1].TLS.Hosts[0].Certificates = nil },
	} {
		l := listeners()
		change(l)
		if NewTable(table, second, l, "h2") == table {
			t.Errorf("change %d gave the same table", i)
		}
	}
}

func TestABrokenCertificateIsReportedWithoutItsKey(t *testing.T) {
	good, other := issue(t, "good", "ecdsa", "a"), issue(t, "other", "ecdsa", "b")
	mismatch, garbage, noChain := good, good, good
	mismatch.Name, mismatch.Key = "mismatch", other.Key
	garbage.Name, garbage.Key = "garbage", config.Secret("-----BEGIN PRIVATE KEY-----\n"+base64.StdEncoding.EncodeToString([]byte("confidential"))+"\n-----END PRIVATE KEY-----\n")
	noChain.Name, noChain.Chain = "no-chain", "nothing"
	s, errs := NewStore(new(Store), []config.Certificate{mismatch, garbage, noChain, good, good})
	for i, want := range []string{"does not match", "failed to parse private key", "failed to find any PEM data"} {
		if errs[i] == nil || !strings.Contains(errs[i].Error(), want) {
			t.Errorf("certificate %d: %v, want %s", i, errs[i], want)
		}
		if text := fmt.Sprint(errs[i]); strings.Contains(text, "confidential") || strings.Contains(text, "Y29uZmlk") {
			t.Errorf("the key shows in %q", text)
		}
	}
	if errs[3] != nil || errs[4] != nil || s.Lookup("good") == nil || s.Lookup("mismatch") != nil {
		t.Errorf("the good certificate: %v %v", errs[3], errs[4])
	}
	if c := s.Lookup("good"); c.NotAfter.IsZero() || c.Name != "good" {
		t.Errorf("%v %v", c.Name, c.NotAfter)
	}
}

func TestLookupsAgreeWithAPlainReadingOfTheRules(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	name := func(labels int) string {
		parts := make([]string, labels)
		for i := range parts {
			parts[i] = string([]byte{'a' + byte(random.IntN(2))})
		}
		return strings.Join(parts, ".")
	}
	for range 500 {
		n := newNames()
		patterns := map[string]int{}
		for i := range random.IntN(8) {
			pattern := name(1 + random.IntN(3))
			switch random.IntN(6) {
			case 0:
				pattern = ""
			case 1, 2, 3:
				pattern = "*." + pattern
			}
			n.add(pattern, i)
			patterns[pattern] = i
		}
		for range 20 {
			host := name(1 + random.IntN(4))
			want, length := none, -1
			for pattern, i := range patterns {
				suffix, wild := strings.CutPrefix(pattern, "*")
				specific := len(pattern)
				if pattern == host {
					specific = 1000
				}
				if (pattern == "" || pattern == host || wild && strings.HasSuffix(host, suffix)) && specific > length {
					want, length = i, specific
				}
			}
			if got := n.lookup(host); got != want {
				t.Fatalf("%q in %v: %d, want %d", host, patterns, got, want)
			}
		}
	}
}
