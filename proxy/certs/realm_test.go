package certs

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"encoding/pem"
	"net/url"
	"strings"
	"testing"
	"time"

	"rauta.io/rauta/proxy/config"
)

// asks is a listener with a certificate c that asks clients for one.
func asks(hostname string, auth *config.ClientAuth) Listener {
	return Listener{Hostname: hostname, Socket: ":443", TLS: &config.TLS{Certificates: []string{"c"}, ClientAuth: auth}}
}

// holder is a certificate for a client.
func (a *authority) holder(change func(*x509.Certificate)) tls.Certificate {
	template := &x509.Certificate{
		Subject:     pkix.Name{CommonName: "holder"},
		KeyUsage:    x509.KeyUsageDigitalSignature,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
	}
	if change != nil {
		change(template)
	}
	return a.sign(template)
}

// shown makes a handshake with client certificates and returns what the server learns, nil if it is refused.
func shown(table *Table, version uint16, certificates ...tls.Certificate) (*Identity, error) {
	var id *Identity
	server := table.Config().Clone()
	inner := server.GetConfigForClient
	server.GetConfigForClient = func(hello *tls.ClientHelloInfo) (*tls.Config, error) {
		c, err := inner(hello)
		c = c.Clone()
		verify := c.VerifyConnection
		c.VerifyConnection = func(state tls.ConnectionState) error {
			if verify != nil {
				if err := verify(state); err != nil {
					return err
				}
			}
			id = table.Examine(state).(*Identity)
			return nil
		}
		return c, err
	}
	client := &tls.Config{ServerName: "a.example.com", InsecureSkipVerify: true, MaxVersion: version}
	// Whatever authorities the server names, this is what it gets.
	client.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
		if len(certificates) == 0 {
			return &tls.Certificate{}, nil
		}
		return &certificates[0], nil
	}
	if _, err := meet(server, client); err != nil {
		return nil, err
	}
	return id, nil
}

func TestClientsAreAdmittedByTheirCertificates(t *testing.T) {
	ours, other := newAuthority(t), newAuthority(t)
	middle := &authority{t: t, pair: ours.sign(&x509.Certificate{
		Subject: pkix.Name{CommonName: "middle"}, IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	})}
	middle.cert = middle.pair.Leaf
	below := middle.holder(nil)
	below.Certificate = append(below.Certificate, middle.cert.Raw)
	clients := map[string][]tls.Certificate{
		"none":    nil,
		"ours":    {ours.holder(nil)},
		"other":   {other.holder(nil)},
		"expired": {ours.holder(func(c *x509.Certificate) { c.NotAfter = time.Now().Add(-time.Minute) })},
		"server": {ours.holder(func(c *x509.Certificate) {
			c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}
		})},
		"below": {below},
	}
	s := store(t, issue(t, "c", "ecdsa", "a.example.com"))
	for _, c := range []struct {
		what string
		auth config.ClientAuth
		want map[string]string // by client; those not in it are refused
	}{
		{"require", config.ClientAuth{Mode: config.ClientAuthRequire, CA: ours.pem}, map[string]string{"ours": "SUCCESS", "below": "SUCCESS"}},
		{"depth", config.ClientAuth{Mode: config.ClientAuthRequire, CA: ours.pem, DepthMax: 1}, map[string]string{"ours": "SUCCESS"}},
		{"optional", config.ClientAuth{Mode: config.ClientAuthOptional, CA: ours.pem},
			map[string]string{"none": "NONE", "ours": "SUCCESS", "below": "SUCCESS"}},
		{"two authorities", config.ClientAuth{Mode: config.ClientAuthRequire, CA: ours.pem + other.pem},
			map[string]string{"ours": "SUCCESS", "below": "SUCCESS", "other": "SUCCESS"}},
		{"unverified", config.ClientAuth{Mode: config.ClientAuthUnverified, CA: ours.pem, DepthMax: 1}, map[string]string{
			"none": "NONE", "ours": "SUCCESS", "other": "FAILED:unknown authority",
			"expired": "FAILED:certificate is expired or not valid yet", "server": "FAILED:certificate is not for clients",
			"below": "FAILED:certificate chain too long",
		}},
		{"no authority", config.ClientAuth{Mode: config.ClientAuthRequire}, nil},
		{"no authority, unverified", config.ClientAuth{Mode: config.ClientAuthUnverified}, nil},
	} {
		table := NewTable(nil, s, []Listener{asks("a.example.com", &c.auth), asks("", nil)})
		for name, certificates := range clients {
			for _, version := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
				id, err := shown(table, version, certificates...)
				want, admitted := c.want[name]
				switch {
				case !admitted && err == nil:
					t.Errorf("%s, version %x: the client %q was admitted", c.what, version, name)
				case admitted && err != nil:
					t.Errorf("%s, version %x: the client %q was refused: %v", c.what, version, name, err)
				case admitted && id.Verify != want:
					t.Errorf("%s, version %x: the client %q is %q, want %q", c.what, version, name, id.Verify, want)
				}
			}
		}
	}
}

func TestBackEndsAreToldWhatTheyAskFor(t *testing.T) {
	ours := newAuthority(t)
	holder := ours.holder(func(c *x509.Certificate) {
		c.Subject = pkix.Name{CommonName: "a\r\nX-Admin: ü", Organization: []string{"o, p"}}
	})
	holder.Certificate = append(holder.Certificate, ours.cert.Raw)
	s := store(t, issue(t, "c", "ecdsa", "a.example.com"))
	told := func(mode config.ClientAuthMode, certificates []tls.Certificate, facts ...config.ClientFact) map[string]string {
		t.Helper()
		table := NewTable(nil, s, []Listener{asks("", &config.ClientAuth{Mode: mode, CA: ours.pem, Forward: facts})})
		id, err := shown(table, tls.VersionTLS13, certificates...)
		if err != nil {
			t.Fatal(err)
		}
		got := map[string]string{}
		for _, f := range id.Fields {
			if f.ID.Name() != strings.ToLower(f.Name) {
				t.Errorf("%s has the id of %s", f.Name, f.ID.Name())
			}
			for _, c := range []byte(f.Value) {
				if c < 0x20 || c > 0x7e {
					t.Errorf("%s: %q", f.Name, f.Value)
				}
			}
			got[f.Name] = f.Value
		}
		return got
	}
	certificates := []tls.Certificate{holder}
	all := told(config.ClientAuthRequire, certificates, config.ClientFacts()...)
	if len(all) != len(config.ClientFacts()) {
		t.Errorf("%d fields: %v", len(all), all)
	}
	for name, want := range map[string]string{
		"Client-Cert":           ":" + base64.StdEncoding.EncodeToString(holder.Leaf.Raw) + ":",
		"Client-Cert-Chain":     ":" + base64.StdEncoding.EncodeToString(ours.cert.Raw) + ":",
		"SSL-Client-Verify":     "SUCCESS",
		"SSL-Client-Subject-DN": `CN=a\0D\0AX-Admin: \C3\BC,O=o\, p`,
		"SSL-Client-Issuer-DN":  "CN=authority",
		"SSL-Client-Serial":     "1",
	} {
		if all[name] != want {
			t.Errorf("%s: %q, want %q", name, all[name], want)
		}
	}
	if len(all["SSL-Client-Fingerprint"]) != 64 {
		t.Errorf("the fingerprint is %q", all["SSL-Client-Fingerprint"])
	}
	text, err := url.PathUnescape(all["SSL-Client-Cert"])
	if block, _ := pem.Decode([]byte(text)); err != nil || block == nil || !bytes.Equal(block.Bytes, holder.Leaf.Raw) {
		t.Errorf("SSL-Client-Cert: %q, %v", text, err)
	}
	for _, c := range []struct {
		what string
		got  map[string]string
		want string
	}{
		{"nothing", told(config.ClientAuthRequire, certificates), ""},
		{"the chain comes with its certificate", told(config.ClientAuthRequire, certificates, config.FactChain), "Client-Cert Client-Cert-Chain"},
		{"an unverified one comes with the verdict", told(config.ClientAuthUnverified, certificates, config.FactSerial), "SSL-Client-Serial SSL-Client-Verify"},
		{"no certificate", told(config.ClientAuthOptional, nil, config.ClientFacts()...), "SSL-Client-Verify"},
	} {
		if len(c.got) != len(strings.Fields(c.want)) {
			t.Errorf("%s: %v, want %s", c.what, c.got, c.want)
		}
		for name := range strings.FieldsSeq(c.want) {
			if c.got[name] == "" {
				t.Errorf("%s: %v, want %s", c.what, c.got, name)
			}
		}
	}
	plain := NewTable(nil, s, []Listener{asks("", nil)})
	if id, err := shown(plain, tls.VersionTLS13, certificates...); err != nil || id.Verify != "" || id.Fields != nil || id.Realm == nil {
		t.Errorf("a listener that asks for nothing: %+v, %v", id, err)
	}
}

// keys is material for session ticket keys.
func keys(fill ...byte) (out []config.Secret) {
	for _, b := range fill {
		out = append(out, bytes.Repeat([]byte{b}, config.TicketKeyBytesMin))
	}
	return out
}

func TestATicketIsWorthNothingWhereClientsAreAskedForSomethingElse(t *testing.T) {
	ours, other := newAuthority(t), newAuthority(t)
	require := &config.ClientAuth{Mode: config.ClientAuthRequire, CA: ours.pem}
	for _, shared := range [][]config.Secret{nil, keys(1, 2)} {
		s := store(t, issue(t, "c", "ecdsa", "a.example.com"))
		s.TicketKeys = shared
		table := func(prev *Table, auth *config.ClientAuth) *Table {
			return NewTable(prev, s, []Listener{asks("a.example.com", auth), asks("", nil)})
		}
		mine := ours.holder(nil)
		for _, version := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
			for _, c := range []struct {
				what          string
				before, after *config.ClientAuth
				first, second string
				want          bool // resumed
				refused       bool
			}{
				{"nothing changed", require, require, "a.example.com", "a.example.com", true, false},
				{"from an open listener to one that asks", require, require, "b.example.com", "a.example.com", false, false},
				{"clients are asked now", nil, require, "a.example.com", "a.example.com", false, false},
				{"other authorities", require, &config.ClientAuth{Mode: config.ClientAuthRequire, CA: other.pem}, "a.example.com", "a.example.com", false, true},
				{"one authority more", require, &config.ClientAuth{Mode: config.ClientAuthRequire, CA: ours.pem + other.pem}, "a.example.com", "a.example.com", false, false},
				{"not only valid ones before", &config.ClientAuth{Mode: config.ClientAuthUnverified, CA: ours.pem}, require, "a.example.com", "a.example.com", false, false},
				{"optional before", &config.ClientAuth{Mode: config.ClientAuthOptional, CA: ours.pem}, require, "a.example.com", "a.example.com", false, false},
				{"other facts for the back end", require, &config.ClientAuth{Mode: config.ClientAuthRequire, CA: ours.pem, Forward: config.ClientFacts()}, "a.example.com", "a.example.com", shared != nil, false},
			} {
				first := table(nil, c.before)
				second := table(first, c.after)
				cache := &oneSession{}
				client := &tls.Config{InsecureSkipVerify: true, MinVersion: version, MaxVersion: version, ClientSessionCache: cache,
					GetClientCertificate: func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return &mine, nil }}
				client.ServerName = c.first
				if _, err := meet(first.Config(), client); err != nil || cache.session == nil {
					t.Fatalf("%s: %v, session %v", c.what, err, cache.session != nil)
				}
				client = client.Clone()
				client.ServerName = c.second
				state, err := meet(second.Config(), client)
				if (err != nil) != c.refused || err == nil && state.DidResume != c.want {
					t.Errorf("%s, version %x, shared keys %v: resumed %v, %v", c.what, version, shared != nil, state.DidResume, err)
				}
			}
		}
	}
}

func TestReplicasWithTheSameKeysTakeUpEachOthersSessions(t *testing.T) {
	ours := newAuthority(t)
	certificate := issue(t, "c", "ecdsa", "a.example.com")
	replica := func(listener Listener, shared ...config.Secret) *Table {
		s := store(t, certificate)
		s.TicketKeys = shared
		return NewTable(nil, s, []Listener{listener})
	}
	plain := asks("a.example.com", nil)
	elsewhere, wider := plain, plain
	elsewhere.Socket = ":8443"
	wider.Hostname = "*.example.com"
	newer := asks("a.example.com", nil)
	newer.TLS.MinVersion = config.TLS12
	newer.TLS.CipherSuites = config.CipherSuiteNames()[:1]
	for _, version := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
		for _, c := range []struct {
			what          string
			first, second *Table
			want          bool
		}{
			{"the same key", replica(plain, keys(1)...), replica(plain, keys(1)...), true},
			{"rotated, the old one is still known", replica(plain, keys(1)...), replica(plain, keys(2, 1)...), true},
			{"one that knows the next key already", replica(plain, keys(2, 1)...), replica(plain, keys(1, 2)...), true},
			{"rotated, the old one is gone", replica(plain, keys(1)...), replica(plain, keys(2)...), false},
			{"no shared key", replica(plain), replica(plain), false},
			{"another port", replica(plain, keys(1)...), replica(elsewhere, keys(1)...), false},
			{"another hostname", replica(plain, keys(1)...), replica(wider, keys(1)...), false},
			{"other cipher suites", replica(plain, keys(1)...), replica(newer, keys(1)...), false},
			{"clients are asked there", replica(plain, keys(1)...), replica(asks("a.example.com",
				&config.ClientAuth{Mode: config.ClientAuthUnverified, CA: ours.pem}), keys(1)...), false},
		} {
			if got := resumes(t, version, c.first, "a.example.com", c.second, "a.example.com"); got != c.want {
				t.Errorf("%s, version %x: resumed %v", c.what, version, got)
			}
		}
	}
	s := store(t, certificate)
	s.TicketKeys = keys(1)
	before := NewTable(nil, s, []Listener{plain})
	s2 := store(t, certificate)
	s2.TicketKeys = keys(1)
	s2.byName = s.byName
	if NewTable(before, s2, []Listener{plain}) != before {
		t.Error("equal keys made another table")
	}
	s2.TicketKeys = keys(2)
	if NewTable(before, s2, []Listener{plain}) == before {
		t.Error("other keys made the same table")
	}
}

// TestKeysOfAListenerCountForItAlone, whatever the others have.
func TestKeysOfAListenerCountForItAlone(t *testing.T) {
	ours := newAuthority(t)
	certificate := issue(t, "c", "ecdsa", "a.example.com")
	replica := func(shared []config.Secret, own map[string][]config.Secret, listeners ...Listener) *Table {
		s := store(t, certificate)
		s.TicketKeys, s.TicketKeySets = shared, own
		return NewTable(nil, s, listeners)
	}
	named := func(hostname, set string, auth *config.ClientAuth) Listener {
		l := asks(hostname, auth)
		l.TLS.TicketKeys = set
		return l
	}
	first, other := named("a.example.com", "one", nil), named("b.example.com", "one", nil)
	asking := named("a.example.com", "one", &config.ClientAuth{Mode: config.ClientAuthUnverified, CA: ours.pem})
	elsewhere := first
	elsewhere.Socket = ":8443"
	one := map[string][]config.Secret{"one": keys(1)}
	for _, version := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
		for _, c := range []struct {
			what          string
			first, second *Table
			to            string
			want          bool
		}{
			{"the same set", replica(nil, one, first), replica(keys(9), one, first), "a.example.com", true},
			{"rotated", replica(nil, one, first), replica(nil, map[string][]config.Secret{"one": keys(2, 1)}, first), "a.example.com", true},
			{"other keys", replica(keys(9), one, first), replica(keys(9), map[string][]config.Secret{"one": keys(2)}, first), "a.example.com", false},
			{"a set without keys", replica(keys(9), map[string][]config.Secret{"one": nil}, first),
				replica(keys(9), map[string][]config.Secret{"one": nil}, first), "a.example.com", false},
			{"a set that does not exist", replica(keys(9), nil, first), replica(keys(9), nil, first), "a.example.com", false},
			{"those of all listeners", replica(keys(9), one, first), replica(keys(9), one, asks("a.example.com", nil)), "a.example.com", false},
			{"another listener with the same set", replica(nil, one, first, other), replica(nil, one, first, other), "b.example.com", false},
			{"another port with the same set", replica(nil, one, first), replica(nil, one, elsewhere), "a.example.com", false},
			{"clients are asked there", replica(nil, one, first), replica(nil, one, asking), "a.example.com", false},
		} {
			if got := resumes(t, version, c.first, "a.example.com", c.second, c.to); got != c.want {
				t.Errorf("%s, version %x: resumed %v", c.what, version, got)
			}
		}
	}
	s := store(t, certificate)
	s.TicketKeySets = one
	before := NewTable(nil, s, []Listener{first, other})
	s.TicketKeySets = map[string][]config.Secret{"one": keys(1)}
	if NewTable(before, s, []Listener{first, other}) != before {
		t.Error("equal keys made another table")
	}
	s.TicketKeySets = map[string][]config.Secret{"one": keys(2)}
	if NewTable(before, s, []Listener{first, other}) == before {
		t.Error("other keys made the same table")
	}
}

func TestHostsThatAskForDifferentThingsAreDifferentRealms(t *testing.T) {
	ours, other := newAuthority(t), newAuthority(t)
	s := store(t, issue(t, "c", "ecdsa", "a.example.com"))
	host := func(name string, auth *config.ClientAuth) config.TLSHost {
		return config.TLSHost{Hostname: name, Certificates: []string{"c"}, ClientAuth: auth}
	}
	require := func(ca string) *config.ClientAuth { return &config.ClientAuth{Mode: config.ClientAuthRequire, CA: ca} }
	listener := Listener{Socket: ":443", TLS: &config.TLS{Certificates: []string{"c"}, Hosts: []config.TLSHost{
		host("a", require(ours.pem)), host("b", require(ours.pem)), host("c", require(other.pem)), host("d", nil),
	}}}
	table := NewTable(nil, s, []Listener{listener})
	a, b, c, d, any := realm(table, "a"), realm(table, "b"), realm(table, "c"), realm(table, "d"), realm(table, "e")
	if a == nil || !a.Admits(b) || a.Admits(c) || a.Admits(d) || c.Admits(a) || !d.Admits(any) || a.Admits(nil) {
		t.Errorf("realms %p %p %p %p %p", a, b, c, d, any)
	}
	if !d.Admits(a) {
		t.Error("a connection of a client that has proved something is not good enough where nothing is asked")
	}
	if NewTable(table, s, []Listener{listener}) != table {
		t.Error("nothing changed, and the table did")
	}
	listener.TLS = &config.TLS{Certificates: []string{"c"}, Hosts: []config.TLSHost{host("a", require(other.pem)), host("b", require(ours.pem))}}
	after := NewTable(table, s, []Listener{listener})
	if realm(after, "a").Admits(a) || realm(after, "b") != b {
		t.Error("a host that asks for something else admits what it did before, or one that did not change has another realm")
	}
}

func TestListenersOfOneHostnameAskForWhatAnyOfThemDoes(t *testing.T) {
	ours, other := newAuthority(t), newAuthority(t)
	s := store(t, issue(t, "c", "ecdsa", "a.example.com"))
	require := func(ca string) *config.ClientAuth { return &config.ClientAuth{Mode: config.ClientAuthRequire, CA: ca} }
	try := func(listeners ...Listener) (none, mine error) {
		table := NewTable(nil, s, listeners)
		_, none = shown(table, tls.VersionTLS13)
		_, mine = shown(table, tls.VersionTLS13, ours.holder(nil))
		return none, mine
	}
	if none, mine := try(asks("", nil), asks("", require(ours.pem))); none == nil || mine != nil {
		t.Errorf("one asks: %v, %v", none, mine)
	}
	if none, mine := try(asks("", require(ours.pem)), asks("", nil), asks("", require(ours.pem))); none == nil || mine != nil {
		t.Errorf("two ask the same: %v, %v", none, mine)
	}
	if none, mine := try(asks("", require(ours.pem)), asks("", require(other.pem))); none == nil || mine == nil {
		t.Error("two ask for different things, and somebody is admitted")
	}
}
