package config

import (
	"encoding/pem"
	"errors"
	"math"
	"strings"
	"testing"
)

// valid is a configuration without problems that the cases below break in one place each.
func valid() *Config {
	return &Config{
		Listeners: []Listener{
			{
				Name: "l", Address: "127.0.0.1", Port: 80, Protocol: ProtocolHTTP, Hostname: "*.example.com",
				ProxyProtocol: &ProxyProtocol{From: []string{"10.0.0.0/8"}},
				Attached:      []Attachment{{Route: "r", Hostnames: []string{"", "a.example.com", "*.b.example.com"}}},
			},
			{Name: "m", Port: 80, Protocol: ProtocolHTTP},
			{Name: "n", Port: 80, Protocol: ProtocolHTTP},
			{Name: "s", Port: 443, Protocol: ProtocolHTTPS, TLS: &TLS{
				Certificates: []string{"t"}, MinVersion: TLS12, MaxVersion: TLS13, TicketKeys: "k", CipherSuites: CipherSuiteNames(),
				Hosts: []TLSHost{{Hostname: "a.example.com", Certificates: []string{"t"}}, {Hostname: "*.example.com"}},
			}},
		},
		Certificates:  []Certificate{{Name: "t", Chain: "chain", Key: Secret("key")}},
		TicketKeySets: []TicketKeySet{{Name: "k", Keys: []Secret{make(Secret, TicketKeyBytesMin)}}},
		Routes: []*Route{{Name: "r", Rules: []Rule{{
			Name: "0",
			Matches: []Match{{
				Path: PathMatch{Kind: PathPrefix, Value: "/a"}, Method: "GET",
				Headers: []ValueMatch{{Name: "x-a", Value: "1"}}, Query: []ValueMatch{{Name: "Q", Value: "1"}},
			}},
			Filters: []Filter{
				{Rewrite: &Rewrite{Hostname: "b.example.com", Path: &PathModifier{PathPrefix, ""}}},
				{RequestHeaders: &HeaderEdit{Set: []Header{{"Host", "x.example.com:80"}}, Add: []Header{{"a", ""}}, Remove: []string{"b"}}},
				{ResponseHeaders: &HeaderEdit{Set: []Header{{"Server", "x\tå"}}}},
			},
			Backends: []Backend{
				{Cluster: "c", Weight: 1, Filters: []Filter{{Redirect: &Redirect{Scheme: "https", Status: 301}}}},
				{Weight: math.MaxUint32 - 1, Invalid: "no such service"},
			},
			Timeouts: Timeouts{Request: -1},
		}}}},
		Clusters: []Cluster{{Name: "c", Policy: PolicyMaglev, HashOn: &HashOn{Kind: HashHeader, Name: "x-user"}}, {Name: "d"}, {
			Name: "e", Protocol: BackendH2, TLS: &BackendTLS{
				CA: pemOf("ca"), ServerName: "e.example.com", ClientCertificate: "t",
				SubjectAltNames: []SubjectAltName{{Hostname: "*.example.com"}, {URI: "spiffe://example.com/ns/a/sa/b"}},
			},
		}, {Name: "f", TLS: &BackendTLS{Unverified: true}}},
	}
}

// pemOf puts bytes into PEM that says they are a certificate.
func pemOf(content string) string {
	return string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: []byte(content)}))
}

func TestAValidConfigurationHasNoProblems(t *testing.T) {
	if errs := Validate(valid()); len(errs) > 0 {
		t.Fatal(errs)
	}
}

func TestEveryProblemIsLocatedAndExplained(t *testing.T) {
	rule := func(c *Config) *Rule { return &c.Routes[0].Rules[0] }
	backend := func(c *Config) *BackendTLS { return c.Clusters[2].TLS }
	edit := func(c *Config) *HeaderEdit { return rule(c).Filters[1].RequestHeaders }
	for _, c := range []struct {
		breakIt func(*Config)
		part    Part
		want    string
	}{
		{func(c *Config) { c.Listeners[0].Name = "" }, PartListener, `listeners[0].name: name is empty`},
		{func(c *Config) { c.Listeners[2].Name = "m" }, PartListener, `listeners[2].name: name "m" is used twice`},
		{func(c *Config) { c.Listeners[0].Address = "localhost" }, PartListener, `listeners["l"].address: "localhost" is not an IP`},
		{func(c *Config) { c.Listeners[0].Port = 0 }, PartListener, `listeners["l"].port: port 0`},
		{func(c *Config) { c.Listeners[0].Protocol = "SCTP" }, PartListener, `listeners["l"].protocol: protocol "SCTP"`},
		{func(c *Config) { c.Listeners[0].Hostname = "*" }, PartListener, `listeners["l"].hostname: hostname "*"`},
		{func(c *Config) { c.Listeners[0].Hostname = "A.com" }, PartListener, `listeners["l"].hostname: hostname "A.com"`},
		{func(c *Config) { c.Listeners[0].ProxyProtocol.From = nil }, PartListener, `listeners["l"].proxyProtocol.from: no CIDR`},
		{func(c *Config) { c.Listeners[0].ProxyProtocol.From[0] = "10.0.0.1" }, PartListener, `listeners["l"].proxyProtocol.from[0]: "10.0.0.1"`},
		{func(c *Config) { c.Listeners[2].ProxyProtocol = &ProxyProtocol{From: []string{"::/0"}} }, PartListener, `listeners["n"].proxyProtocol: listener "m"`},
		{func(c *Config) { c.Listeners[2].Protocol, c.Listeners[2].TLS = ProtocolHTTPS, new(TLS) }, PartListener, `listeners["n"].protocol: listener "m"`},
		{func(c *Config) { c.Listeners[3].TLS = nil }, PartListener, `listeners["s"].tls: protocol HTTPS needs tls`},
		{func(c *Config) { c.Listeners[1].TLS = new(TLS) }, PartListener, `listeners["m"].tls: only the protocols HTTPS and TLS have tls`},
		{func(c *Config) { c.Listeners[3].TLS.MinVersion = "1.1" }, PartListener, `listeners["s"].tls.minVersion: TLS version "1.1"`},
		{func(c *Config) { c.Listeners[3].TLS.MaxVersion = TLS12; c.Listeners[3].TLS.MinVersion = TLS13 }, PartListener, `the oldest TLS version, 1.3, is above`},
		{func(c *Config) { c.Listeners[3].TLS.CipherSuites[0] = "TLS_RSA_WITH_AES_128_CBC_SHA" }, PartListener, `listeners["s"].tls.cipherSuites[0]: cipher suite "TLS_RSA`},
		{func(c *Config) { c.Listeners[3].TLS.Hosts[0].Hostname = "" }, PartListener, `listeners["s"].tls.hosts[0].hostname: hostname ""`},
		{func(c *Config) { c.Listeners[3].TLS.Hosts[1].Hostname = "a.example.com" }, PartListener, `listeners["s"].tls.hosts[1].hostname: hostname "a.example.com" is there twice`},
		{func(c *Config) { c.Listeners[3].TLS.Certificates[0] = "x" }, PartTLSReference, `listeners["s"].tls.certificates[0]: certificate "x" does not exist`},
		{func(c *Config) { c.Listeners[3].TLS.Hosts[0].Certificates[0] = "x" }, PartTLSReference, `listeners["s"].tls.hosts[0].certificates[0]: certificate "x"`},
		{func(c *Config) { c.Listeners[3].TLS.TicketKeys = "x" }, PartTLSReference, `listeners["s"].tls.ticketKeys: ticketKeySet "x" does not exist`},
		{func(c *Config) { c.TicketKeySets = append(c.TicketKeySets, c.TicketKeySets[0]) }, PartTicketKeySet, `ticketKeySets[1].name: name "k" is used twice`},
		{func(c *Config) { c.TicketKeySets[0].Keys[0] = Secret("short") }, PartTicketKeySet, `ticketKeySets["k"].keys[0]: a key for session tickets has 32 to`},
		{func(c *Config) { c.Certificates = append(c.Certificates, c.Certificates[0]) }, PartCertificate, `certificates[1].name: name "t" is used twice`},
		{func(c *Config) { c.Certificates[0].Key = nil }, PartCertificate, `certificates["t"]: the chain or the key is empty`},
		{func(c *Config) { c.Listeners[0].Attached[0].Route = "x" }, PartAttachment, `listeners["l"].attached[0].route: route "x" does not exist`},
		{func(c *Config) { c.Listeners[0].Attached[0].Hostnames = nil }, PartAttachment, `listeners["l"].attached[0].hostnames: empty`},
		{func(c *Config) { c.Listeners[0].Attached[0].Hostnames[1] = "a..b" }, PartAttachment, `listeners["l"].attached[0].hostnames[1]: hostname "a..b"`},
		{func(c *Config) { c.Routes = append(c.Routes, &Route{Name: "r"}) }, PartRoute, `routes[1].name: name "r" is used twice`},
		{func(c *Config) { rule(c).Matches = nil }, PartRule, `routes["r"].rules[0].matches: no match`},
		{func(c *Config) { rule(c).Matches[0].Path.Kind = "" }, PartRule, `routes["r"].rules[0].matches[0].path.kind: kind ""`},
		{func(c *Config) { rule(c).Matches[0].Path.Value = "a" }, PartRule, `matches[0].path.value: path "a" does not begin`},
		{func(c *Config) { rule(c).Matches[0].Path.Value = "/a/../b" }, PartRule, `matches[0].path.value: path "/a/../b" has a dot segment`},
		{func(c *Config) { rule(c).Matches[0].Path.Value = "/a\r\nb" }, PartRule, `has the character 0x0d at byte 2`},
		{func(c *Config) { rule(c).Matches[0].Path = PathMatch{Kind: PathRegex, Value: ""} }, PartRule, `path.value: a regular expression`},
		{func(c *Config) { rule(c).Matches[0].Path.Rank = 1 }, PartRule, `matches[0].path.rank: only matches of kind GRPC`},
		{func(c *Config) { rule(c).Matches[0].Method = "GET " }, PartRule, `matches[0].method: method "GET "`},
		{func(c *Config) { rule(c).Matches[0].Headers[0].Name = "X-A" }, PartRule, `matches[0].headers[0].name: "X-A" is not in lower case`},
		{func(c *Config) { rule(c).Matches[0].Headers[0].Name = ":path" }, PartRule, `matches[0].headers[0].name: header name`},
		{func(c *Config) { rule(c).Matches[0].Query[0].Name = "" }, PartRule, `matches[0].query[0].name: name is empty`},
		{func(c *Config) { rule(c).BodyBytesMax = -1 }, PartRule, `bodyBytesMax: -1 is negative`},
		{func(c *Config) { rule(c).Retry = &Retry{Attempts: -1} }, PartRule, `retry.attempts: -1 is not between 0 and 100`},
		{func(c *Config) { rule(c).Retry = &Retry{Attempts: 101} }, PartRule, `retry.attempts: 101 is not between 0 and 100`},
		{func(c *Config) { rule(c).Retry = &Retry{Codes: []int{400, 399}} }, PartRule, `retry.codes[1]: 399 is not between 400 and 599`},
		{func(c *Config) { rule(c).Retry = &Retry{Codes: []int{600}} }, PartRule, `retry.codes[0]: 600 is not between 400 and 599`},
		{func(c *Config) { rule(c).Retry = &Retry{Backoff: -1} }, PartRule, `retry.backoff: a backoff is not negative`},
		{func(c *Config) { rule(c).Retry = &Retry{Backoff: RetryBackoffMax + 1} }, PartRule, `retry.backoff: 10m0.000000001s is longer than 10m0s`},
		{func(c *Config) { rule(c).Filters[0] = Filter{} }, PartRuleFilters, `filters[0]: a filter sets exactly one of its fields, this one sets 0`},
		{func(c *Config) { rule(c).Filters[0].Answer = &Answer{Status: 500, Reason: "x"} }, PartRuleFilters, `this one sets 2`},
		{func(c *Config) { rule(c).Filters[0].Rewrite.Hostname = "*.a" }, PartRuleFilters, `rewrite: hostname "*.a"`},
		{func(c *Config) { rule(c).Filters[0].Rewrite.Path.Kind = PathRegex }, PartRuleFilters, `rewrite: path: kind "Regex"`},
		{func(c *Config) { rule(c).Filters[0].Rewrite.Path.Value = "/a?b" }, PartRuleFilters, `rewrite: path: path "/a?b" has a query`},
		{func(c *Config) { edit(c).Set[0] = Header{"Host", "a b"} }, PartRuleFilters, `set[0]: hostname "a b"`},
		{func(c *Config) { edit(c).Set[0] = Header{"Host", "a:b"} }, PartRuleFilters, `set[0]: host "a:b" has a port`},
		{func(c *Config) { edit(c).Add[0].Name = "HOST" }, PartRuleFilters, `add[0]: host can only be set`},
		{func(c *Config) { edit(c).Add[0].Name = "Transfer-Encoding" }, PartRuleFilters, `add[0]: header "Transfer-Encoding" belongs to the connection`},
		{func(c *Config) { edit(c).Add[0].Value = "a\r\nb: c" }, PartRuleFilters, `add[0]: header value has the control character 0x0d`},
		{func(c *Config) { edit(c).Add[0].Value = " a" }, PartRuleFilters, `add[0]: header value begins or ends`},
		{func(c *Config) { edit(c).Remove[0] = "connection" }, PartRuleFilters, `remove[0]: header "connection" belongs`},
		{func(c *Config) { edit(c).Remove[0] = "a b" }, PartRuleFilters, `remove[0]: header name "a b"`},
		{func(c *Config) { edit(c).Remove = make([]string, editsMax) }, PartRuleFilters, `more than 64 header edits`},
		{func(c *Config) { rule(c).Filters[2].ResponseHeaders.Set[0].Name = "Host" }, PartRuleFilters, `responseHeaders: set[0]: host can only`},
		{func(c *Config) { rule(c).Filters[0] = Filter{Answer: &Answer{Status: 99, Reason: "x"}} }, PartRuleFilters, `answer: status 99`},
		{func(c *Config) { rule(c).Filters[0] = Filter{Answer: &Answer{Status: 500, Reason: "a b"}} }, PartRuleFilters, `answer: reason "a b"`},
		{func(c *Config) { rule(c).Backends[0].Filters[0].Redirect.Status = 300 }, PartBackend, `backends[0].filters[0]: redirect: status 300`},
		{func(c *Config) { rule(c).Backends[0].Filters[0].Redirect.Scheme = "ftp" }, PartBackend, `backends[0].filters[0]: redirect: scheme "ftp"`},
		{func(c *Config) { rule(c).Backends[0].Cluster = "x" }, PartBackend, `backends[0].cluster: cluster "x" does not exist`},
		{func(c *Config) { rule(c).Backends[0].Cluster = "" }, PartBackend, `backends[0].cluster: no cluster`},
		{func(c *Config) { rule(c).Backends[0].Weight = 2 }, PartBackend, `backends[1].weight: the sum of the weights is above 4294967295`},
		{func(c *Config) { c.Clusters[1].Name = "c" }, PartCluster, `clusters[1].name: name "c" is used twice`},
		{func(c *Config) { c.Clusters[0].HashOn = nil }, PartCluster, `clusters["c"].hashOn: the policy maglev needs`},
		{func(c *Config) { c.Clusters[0].HashOn.Name = "" }, PartCluster, `clusters["c"].hashOn: header name is empty`},
		{func(c *Config) { c.Clusters[0].HashOn.Kind = HashPath }, PartCluster, `clusters["c"].hashOn: kind path takes no name`},
		{func(c *Config) { c.Clusters[0].Policy = "" }, PartCluster, `clusters["c"].hashOn: a hash key needs`},
		{func(c *Config) { c.Clusters[1].Protocol = "HTTP3" }, PartCluster, `clusters["d"].protocol: protocol "HTTP3"`},
		{func(c *Config) { backend(c).SystemRoots = true }, PartCluster, `clusters["e"].tls: exactly one of`},
		{func(c *Config) { backend(c).CA = "" }, PartCluster, `clusters["e"].tls: exactly one of`},
		{func(c *Config) { backend(c).CA = "MIIB" }, PartCluster, `clusters["e"].tls.ca: no PEM data`},
		{func(c *Config) { backend(c).ServerName = "" }, PartCluster, `clusters["e"].tls.serverName: empty`},
		{func(c *Config) { backend(c).ServerName = "*.example.com" }, PartCluster, `clusters["e"].tls.serverName: hostname "*.example.com"`},
		{func(c *Config) { backend(c).SubjectAltNames[0] = SubjectAltName{} }, PartCluster, `clusters["e"].tls.subjectAltNames[0]: exactly one`},
		{func(c *Config) { backend(c).SubjectAltNames[0].Hostname = "A" }, PartCluster, `clusters["e"].tls.subjectAltNames[0]: hostname "A"`},
		{func(c *Config) { backend(c).SubjectAltNames[1].URI = "a/b" }, PartCluster, `clusters["e"].tls.subjectAltNames[1]: "a/b" is not a URI`},
		{func(c *Config) { backend(c).SubjectAltNames[1].URI = "x:" }, PartCluster, `clusters["e"].tls.subjectAltNames[1]: "x:" is not a URI`},
		{func(c *Config) { backend(c).ClientCertificate = "x" }, PartCluster, `clusters["e"].tls.clientCertificate: certificate "x"`},
		{func(c *Config) { c.Clusters[3].TLS.SubjectAltNames = backend(c).SubjectAltNames }, PartCluster, `clusters["f"].tls.subjectAltNames: names`},
		{func(c *Config) { c.Clusters[1].Policy = "best" }, PartCluster, `clusters["d"].policy: policy "best"`},
		{func(c *Config) { c.Clusters[1].ConnectTimeout = -1 }, PartCluster, `clusters["d"].connectTimeout: a connect timeout`},
		{func(c *Config) { c.Clusters[1].PendingMax = -1 }, PartCluster, `clusters["d"].pendingMax: -1`},
		{func(c *Config) { c.Clusters[1].ConnectionsMax = 1 << 30 }, PartCluster, `clusters["d"].connectionsMax: 1073741824`},
	} {
		cfg := valid()
		c.breakIt(cfg)
		errs := Validate(cfg)
		if len(errs) != 1 {
			t.Errorf("want one problem, %q; got %d: %v", c.want, len(errs), errs)
			continue
		}
		e, ok := errors.AsType[*Error](errs[0])
		if !ok || e.Part != c.part || !strings.Contains(e.Error(), c.want) {
			t.Errorf("got part %d: %v\nwant part %d: %s", e.Part, e, c.part, c.want)
		}
	}
}
