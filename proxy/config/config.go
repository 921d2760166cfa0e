// Package config is the compiled-down configuration of the data plane: plain data, no behaviour beyond validation,
// hashing and redaction, no Kubernetes types and nothing but the standard library.
//
// It owns the vocabulary in which the control side tells the data plane what to do. It does not own how that is
// executed: proxy/snapshot compiles a Config into lookup tables. control/translate writes it, proxy/snapshot reads it.
//
// References between parts are names, so that a Config can be read, diffed and golden-tested as YAML or JSON.
package config

import (
	"time"
)

// Config is one complete configuration. It is immutable once it has been handed to the data plane.
type Config struct {
	// Listeners in order of Name.
	Listeners []Listener `json:"listeners,omitempty"`
	// Routes in order of precedence between equal matches: older first, then by Name. Listeners refer to them by Name. None is
	// nil. Nobody changes a route, so that configurations which have it in common share it.
	Routes []*Route `json:"routes,omitempty"`
	// L4Routes in the same order. Listeners with ProtocolTLS, ProtocolTCP and ProtocolUDP refer to them by Name.
	L4Routes []L4Route `json:"l4Routes,omitempty"`
	// Clusters in order of Name. Rules refer to them by Name.
	Clusters []Cluster `json:"clusters,omitempty"`
	// Certificates in order of Name. Listeners refer to them by Name.
	Certificates []Certificate `json:"certificates,omitempty"`
	// TicketKeys are what the keys of session tickets are derived from, at least TicketKeyBytesMin bytes each: the first
	// one encrypts, the others decrypt only. Replicas with the same ones take up each other's sessions. Without any, every
	// process has keys of its own, which it renews daily.
	TicketKeys []Secret `json:"ticketKeys,omitempty"`
	// TicketKeySets are the same for single listeners, in order of Name. Listeners refer to them by Name.
	TicketKeySets []TicketKeySet `json:"ticketKeySets,omitempty"`
}

// Protocol of a listener.
type Protocol string

// Protocols.
const (
	ProtocolHTTP  Protocol = "HTTP"
	ProtocolHTTPS Protocol = "HTTPS"
	// ProtocolTLS forwards by server name: as received with Listener.Passthrough, else what is inside.
	ProtocolTLS Protocol = "TLS"
	ProtocolTCP Protocol = "TCP"
	ProtocolUDP Protocol = "UDP"
)

// Listener is one logical listener. Several of them may share an address and port; a request on that port goes to the
// listener whose Hostname is the most specific one that matches (Gateway API listener isolation), and only the routes
// attached to that listener are candidates.
type Listener struct {
	// Name is unique: "namespace/gateway/listener" for a Gateway, "ingress" for the listener that Ingress objects share.
	Name string `json:"name"`
	// Address is the IP to bind; empty means the address given by --bind.
	Address string `json:"address,omitempty"`
	// Port is 1 to 65535.
	Port uint16 `json:"port"`
	// Turn is how many ports come before this one of those that belong together, such as those of a namespace. Where more are
	// asked for than may be open, those with fewer before them are opened: nobody's many take the places of others' few.
	Turn int `json:"turn,omitempty"`
	// Protocol is what clients speak.
	Protocol Protocol `json:"protocol"`
	// Hostname restricts the listener: "" any, "a.example.com" exact, "*.example.com" any number of labels below.
	Hostname string `json:"hostname,omitempty"`
	// ProxyProtocol, if set, makes a PROXY protocol header (v1 or v2) mandatory on connections from these CIDRs and
	// refuses connections from anywhere else. Every listener on one address and port must agree.
	ProxyProtocol *ProxyProtocol `json:"proxyProtocol,omitempty"`
	// TLS is set with ProtocolHTTPS, and with ProtocolTLS unless Passthrough is.
	TLS *TLS `json:"tls,omitempty"`
	// Passthrough of ProtocolTLS forwards what the client sends without decrypting it.
	Passthrough bool `json:"passthrough,omitempty"`
	// Attached routes, in no significant order: Routes with ProtocolHTTP and ProtocolHTTPS, L4Routes with the others. Of
	// those that a client meets equally well, the first in the order of the configuration gets all of it.
	Attached []Attachment `json:"attached,omitempty"`
}

// ProxyProtocol says who may speak the PROXY protocol on a listener.
type ProxyProtocol struct {
	// From are the CIDRs of the load balancers in front.
	From []string `json:"from"`
}

// Attachment makes the rules of one route reachable on a listener.
type Attachment struct {
	// Route is a Route.Name.
	Route string `json:"route"`
	// Hostnames under which the rules are reachable, as far as they are the listener's; the more specific come first.
	// Lower case, "" any, "*.suffix" wildcard. Never empty.
	Hostnames []string `json:"hostnames"`
	// OneLabel has wildcards among Hostnames cover exactly one label, as those of an Ingress do.
	OneLabel bool `json:"oneLabel,omitempty"`
}

// Source names the object that a part of the configuration came from, for explain, logs and /config.
type Source struct {
	Kind      string `json:"kind"`
	Namespace string `json:"namespace,omitempty"`
	Name      string `json:"name"`
}

// Route is one HTTPRoute or GRPCRoute, or the part of one Ingress for one host.
type Route struct {
	// Name is the identity and the metrics label: "httproute/namespace/name", "grpcroute/namespace/name",
	// "ingress/namespace/name", and
	// "ingress/namespace/name/host" for the part of an Ingress that is for one host.
	Name   string `json:"name"`
	Source Source `json:"source"`
	// Created is the creation time of the object in Unix seconds; the older route wins a tie (Gateway API).
	Created int64  `json:"created,omitempty"`
	Rules   []Rule `json:"rules,omitempty"`
}

// Rule is one set of matches with what happens to a request that meets one of them.
type Rule struct {
	// Name is the rule's name in its object, or its index there in decimal.
	Name string `json:"name"`
	// Matches: the rule applies when any of them does. Never empty: a rule that takes everything has the match "/" prefix.
	Matches []Match `json:"matches"`
	// Filters run in order before a back end is picked.
	Filters []Filter `json:"filters,omitempty"`
	// Backends are picked by weight. An empty list, or one whose weights sum to 0, answers 500 (Gateway API).
	Backends []Backend `json:"backends,omitempty"`
	Timeouts Timeouts  `json:"timeouts,omitzero"`
	// BodyBytesMax bounds the request body; 0 means no limit of this rule. Crossing it answers 413.
	BodyBytesMax int64 `json:"bodyBytesMax,omitempty"`
	// Retry is nil for the default.
	Retry *Retry `json:"retry,omitempty"`
	// TraceSampling is the percentage of the traces beginning here that are marked as sampled, nil for the default of the
	// process.
	TraceSampling *float64 `json:"traceSampling,omitempty"`
}

// NoTimeout in place of a timeout switches it off (0s in a Gateway API timeout). Any negative Duration means the same.
const NoTimeout Duration = -1

// Timeouts of a rule; 0 means the default of the data plane, a negative value none at all.
type Timeouts struct {
	// Request: from the end of the request head to the end of the response (GEP-1742). Crossing it answers 504.
	Request Duration `json:"request,omitempty"`
	// BackendRequest: the same for one attempt at a back end.
	BackendRequest Duration `json:"backendRequest,omitempty"`
	// Response: from the end of the request sent upstream to the response head. Default 60 s.
	Response Duration `json:"response,omitempty"`
	// TunnelIdle: the longest silence of both ends of a tunnel. No default.
	TunnelIdle Duration `json:"tunnelIdle,omitempty"`
}

// PathKind says how PathMatch.Value is compared.
type PathKind string

// Path kinds.
const (
	// PathPrefix matches element-wise: "/a" matches "/a", "/a/" and "/a/b", not "/ab".
	PathPrefix PathKind = "Prefix"
	// PathExact matches byte for byte.
	PathExact PathKind = "Exact"
	// PathRegex is RE2 and must match the whole path.
	PathRegex PathKind = "Regex"
	// PathGRPC is RE2 for the whole path of a gRPC request, "/service/method", where not both parts are known literally.
	// It comes after prefixes, but for "/": who asks for a service by its name has precedence.
	PathGRPC PathKind = "GRPC"
)

// PathMatch compares the path of the request target after dot segments have been resolved, without the query.
type PathMatch struct {
	Kind  PathKind `json:"kind"`
	Value string   `json:"value"`
	// Rank orders matches of PathGRPC, the larger first; 0 with other kinds, whose Value says it.
	Rank uint32 `json:"rank,omitempty"`
}

// ValueMatch compares one header field or query parameter.
type ValueMatch struct {
	// Name is lower case for header fields, as written for query parameters.
	Name  string `json:"name"`
	Value string `json:"value"`
	// Regex: Value is RE2 and must match the whole value.
	Regex bool `json:"regex,omitempty"`
}

// Match holds when all of its parts hold.
type Match struct {
	Path PathMatch `json:"path"`
	// Method is compared byte for byte; empty means any.
	Method  string       `json:"method,omitempty"`
	Headers []ValueMatch `json:"headers,omitempty"`
	Query   []ValueMatch `json:"query,omitempty"`
}

// Backend is one weighted choice of a rule.
type Backend struct {
	// Cluster is a Cluster.Name; empty when the reference is invalid.
	Cluster string `json:"cluster,omitempty"`
	// Weight is relative to the sum over the rule; 0 means never.
	Weight uint32 `json:"weight"`
	// Filters run in order for requests that go to this back end, after the rule's.
	Filters []Filter `json:"filters,omitempty"`
	// Invalid says why the reference can't be used; its share of requests is answered 500 (Gateway API).
	Invalid string `json:"invalid,omitempty"`
}

// Filter is a tagged union: exactly one field is set.
type Filter struct {
	RequestHeaders  *HeaderEdit `json:"requestHeaders,omitempty"`
	ResponseHeaders *HeaderEdit `json:"responseHeaders,omitempty"`
	Redirect        *Redirect   `json:"redirect,omitempty"`
	Rewrite         *Rewrite    `json:"rewrite,omitempty"`
	Answer          *Answer     `json:"answer,omitempty"`
	// GRPCWeb translates requests that are gRPC-Web to gRPC, and their responses back; others are left alone.
	GRPCWeb *GRPCWeb `json:"grpcWeb,omitempty"`
	// RequireHTTPS redirects requests that did not come over HTTPS.
	RequireHTTPS *RequireHTTPS `json:"requireHTTPS,omitempty"`
	// HSTS adds Strict-Transport-Security to responses over HTTPS, RAUTA's own answers included.
	HSTS *HSTS `json:"hsts,omitempty"`
	// CORS answers preflights and marks responses, RAUTA's own answers included.
	CORS *CORS `json:"cors,omitempty"`
	// Mirror sends a copy of requests elsewhere. A list of filters may have several.
	Mirror *Mirror `json:"mirror,omitempty"`
}

// Mirror sends copies of requests to a cluster; what comes back is thrown away.
type Mirror struct {
	// Cluster is a Cluster.Name.
	Cluster string `json:"cluster"`
	// Numerator of Denominator requests are mirrored; 0 of 0 means all.
	Numerator   uint32 `json:"numerator,omitempty"`
	Denominator uint32 `json:"denominator,omitempty"`
}

// RequireHTTPS says where to.
type RequireHTTPS struct {
	// Port of the target; 0 means 443.
	Port uint16 `json:"port,omitempty"`
	// Status as in Redirect.
	Status int `json:"status"`
}

// HSTS is a policy of RFC 6797.
type HSTS struct {
	// Value of the field: "max-age=31536000; includeSubDomains".
	Value string `json:"value"`
}

// GRPCWeb has no settings.
type GRPCWeb struct{}

// Header is a field to set or add.
type Header struct {
	Name  string `json:"name"`
	Value string `json:"value"`
}

// HeaderEdit changes header fields: first Remove, then Set, then Add.
type HeaderEdit struct {
	Set    []Header `json:"set,omitempty"`
	Add    []Header `json:"add,omitempty"`
	Remove []string `json:"remove,omitempty"`
}

// PathModifier replaces the whole path, or the prefix that the rule matched. The query is kept.
type PathModifier struct {
	// Kind is PathExact to replace all of it, PathPrefix to replace the matched prefix.
	Kind  PathKind `json:"kind"`
	Value string   `json:"value"`
}

// Redirect answers with a Location (RFC 9110 section 15.4).
type Redirect struct {
	Scheme   string        `json:"scheme,omitempty"`
	Hostname string        `json:"hostname,omitempty"`
	Port     uint16        `json:"port,omitempty"`
	Path     *PathModifier `json:"path,omitempty"`
	// Status is 301, 302, 303, 307 or 308.
	Status int `json:"status"`
}

// Rewrite changes what is forwarded.
type Rewrite struct {
	Hostname string        `json:"hostname,omitempty"`
	Path     *PathModifier `json:"path,omitempty"`
}

// Answer replies without a back end; control uses it where a rule must fail closed.
type Answer struct {
	Status int `json:"status"`
	// Reason is a token for logs and metrics, such as "unsupported_filter".
	Reason string `json:"reason"`
}

// Policy picks an endpoint of a cluster.
type Policy string

// Policies.
const (
	PolicyP2C        Policy = "p2c"
	PolicyRoundRobin Policy = "round-robin"
	PolicyRandom     Policy = "random"
	PolicyMaglev     Policy = "maglev"
)

// HashKind says what PolicyMaglev hashes.
type HashKind string

// Hash kinds.
const (
	HashSourceIP HashKind = "source-ip"
	HashHeader   HashKind = "header"
	HashCookie   HashKind = "cookie"
	HashPath     HashKind = "path"
)

// HashOn is the key of PolicyMaglev. A request without the key is spread at random.
type HashOn struct {
	Kind HashKind `json:"kind"`
	// Name of the header field (lower case) or cookie.
	Name string `json:"name,omitempty"`
}

// BackendProtocol is what is spoken to the endpoints of a cluster.
type BackendProtocol string

// Back end protocols. Empty is HTTP/1.1 in plain text; over TLS it leaves the choice to the handshake (ALPN, RFC 7301).
const (
	BackendHTTP1 BackendProtocol = "HTTP1"
	BackendH2    BackendProtocol = "H2"
)

// Cluster is one Service port: a set of endpoints that are interchangeable, and how to use them. The endpoints
// themselves are not part of the Config; they change far more often and are published per cluster.
type Cluster struct {
	// Name is "namespace/service:port", and with "/h2" behind it where Protocol is BackendH2.
	Name string `json:"name"`
	// Protocol: with BackendH2 in plain text by prior knowledge (RFC 9113 section 3.3); over TLS an endpoint that does not
	// agree to it is not used.
	Protocol BackendProtocol `json:"protocol,omitempty"`
	// TLS is nil for plain text.
	TLS    *BackendTLS `json:"tls,omitempty"`
	Policy Policy      `json:"policy,omitempty"`
	// HashOn is set with PolicyMaglev only.
	HashOn *HashOn `json:"hashOn,omitempty"`
	// ConnectTimeout: default 5 s.
	ConnectTimeout Duration `json:"connectTimeout,omitempty"`
	// ConnectionsMax bounds the connections to one endpoint over all workers; 0 means no limit.
	ConnectionsMax int `json:"connectionsMax,omitempty"`
	// PendingMax bounds the requests of one worker that wait for a connection to one endpoint. Default 1024.
	PendingMax int `json:"pendingMax,omitempty"`
}

// Endpoint is one address of a cluster.
type Endpoint struct {
	// Address is "ip:port", IPv6 in brackets.
	Address string `json:"address"`
	// Terminating and still serving: used only when nothing else is ready.
	Terminating bool `json:"terminating,omitempty"`
	// Distant: ready, but used only when nothing nearer is, or what is nearer fails. Topology says so.
	Distant bool `json:"distant,omitempty"`
	// Pod, Node and Zone describe the target where it is known; labels only.
	Pod  string `json:"pod,omitempty"`
	Node string `json:"node,omitempty"`
	Zone string `json:"zone,omitempty"`
}

// Endpoints is the set of usable endpoints of each cluster by Cluster.Name. A cluster without an entry has none.
type Endpoints map[string][]Endpoint

// Duration is a time.Duration that marshals as text ("1.5s").
type Duration time.Duration

// MarshalText implements encoding.TextMarshaler.
func (d Duration) MarshalText() ([]byte, error) { return []byte(time.Duration(d).String()), nil }

// UnmarshalText implements encoding.TextUnmarshaler.
func (d *Duration) UnmarshalText(text []byte) error {
	v, err := time.ParseDuration(string(text))
	*d = Duration(v)
	return err
}
