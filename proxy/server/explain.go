package server

import (
	"errors"
	"fmt"
	"net/netip"
	"strconv"
	"strings"

	"rauta.io/rauta/fastpath/wire"
	"rauta.io/rauta/proxy/exchange"
	"rauta.io/rauta/proxy/message"
	"rauta.io/rauta/proxy/snapshot"
)

// Explain says what becomes of a request under the current configuration, and why; see the function Explain.
func (s *Server) Explain(method, url string, headers []string) (*snapshot.Explanation, error) {
	return Explain(s.live.Current(), method, url, headers)
}

// Explain says what becomes of a request under s, and why. It writes the request's head as a client would, and parses
// and matches it with the code that serves requests. url is absolute; its port chooses the listener. headers are
// "name: value"; a Host among them replaces the URL's. An error means that the question can't be asked; a request that
// RAUTA would refuse is an answer.
func Explain(s *snapshot.Snapshot, method, url string, headers []string) (*snapshot.Explanation, error) {
	q, err := newQuestion(method, url, headers)
	if err != nil {
		return nil, err
	}
	if q.scheme == "udp" {
		return q.explainDatagrams(s)
	}
	port, err := q.choosePort(s)
	if err != nil {
		return nil, err
	}
	if q.isConnection(port) {
		if !port.TCP && port.TLS == nil {
			return nil, fmt.Errorf("port %s speaks plain HTTP: ask about http://%s", port.Addr, q.authority)
		}
		e := port.ExplainConnection(strings.ToLower(q.host()))
		return &e, nil
	}
	var parser wire.RequestParser
	var req message.Request
	limits := wire.DefaultRequestLimits()
	head := q.head()
	n, reason := parser.Parse(head, &req, &limits)
	switch {
	case reason != wire.OK:
		return &snapshot.Explanation{
			Port: port.Addr.String(), Method: method, Host: q.authority, Path: q.target,
			Outcome: snapshot.Outcome{Kind: snapshot.OutcomeAnswer, Status: reason.Status(), Reason: reason.String()},
		}, nil
	case n != len(head):
		return nil, errors.New("parse the request: a header is empty: write -H 'name: value'")
	}
	e := port.Explain(exchange.HostOf(req.Bytes(req.Authority)), &req)
	return &e, nil
}

// question is a request that is asked about.
type question struct {
	method, target, authority string
	scheme                    string // in lower case
	port                      uint16
	headers                   []string
	hostGiven                 bool // by a header
}

// ports that a URL without one means (RFC 9110 sections 4.2.1 and 4.2.2).
const (
	portHTTP  = 80
	portHTTPS = 443
)

func newQuestion(method, url string, headers []string) (*question, error) {
	q := &question{method: method, port: portHTTP, headers: headers}
	for _, text := range append([]string{method, url}, headers...) {
		if strings.ContainsAny(text, "\r\n") {
			return nil, fmt.Errorf("%q: a line break can't be part of a request's method, URL or header", text)
		}
	}
	scheme, rest, ok := strings.Cut(url, "://")
	switch {
	case !ok:
		return nil, fmt.Errorf("parse the URL %q: write http://host/path", url)
	case strings.EqualFold(scheme, "https"), strings.EqualFold(scheme, "tls"):
		q.port = portHTTPS
	case strings.EqualFold(scheme, "tcp"), strings.EqualFold(scheme, "udp"):
		q.port = 0 // there is no usual one
	case !strings.EqualFold(scheme, "http"):
		return nil, fmt.Errorf("parse the URL %q: the scheme must be http, https, tls, tcp or udp", url)
	}
	q.scheme = strings.ToLower(scheme)
	rest, _, _ = strings.Cut(rest, "#") // a client keeps the fragment to itself
	end := strings.IndexAny(rest, "/?")
	if end < 0 {
		end = len(rest)
	}
	q.authority, q.target = rest[:end], rest[end:]
	if !strings.HasPrefix(q.target, "/") {
		q.target = "/" + q.target
	}
	if err := q.cutPort(url); err != nil {
		return nil, err
	}
	for _, h := range headers {
		if name, _, ok := strings.Cut(h, ":"); !ok {
			return nil, fmt.Errorf("parse the header %q: write it as 'name: value'", h)
		} else if strings.EqualFold(name, "Host") {
			q.hostGiven = true
		}
	}
	return q, nil
}

func (q *question) cutPort(url string) error {
	if q.authority == "" {
		return fmt.Errorf("parse the URL %q: it has no host", url)
	}
	i := strings.LastIndexByte(q.authority, ':')
	if i < 0 || i < strings.LastIndexByte(q.authority, ']') {
		return nil
	}
	n, err := strconv.ParseUint(q.authority[i+1:], 10, 16)
	if err != nil || n == 0 {
		return fmt.Errorf("parse the URL %q: its port must be a number from 1 to 65535", url)
	}
	q.port = uint16(n)
	return nil
}

// head is the request's head on the wire (RFC 9112 section 2.1).
func (q *question) head() []byte {
	var b strings.Builder
	fmt.Fprintf(&b, "%s %s HTTP/1.1\r\n", q.method, q.target)
	if !q.hostGiven {
		fmt.Fprintf(&b, "Host: %s\r\n", q.authority)
	}
	for _, h := range q.headers {
		b.WriteString(h + "\r\n")
	}
	return []byte(b.String() + "\r\n")
}

// choosePort finds the socket that the request would arrive at: of several with the port's number, the one bound to
// the URL's address, else the first.
func (q *question) choosePort(s *snapshot.Snapshot) (*snapshot.Port, error) {
	host, _, _ := strings.Cut(strings.TrimPrefix(q.authority, "["), "]")
	if !strings.HasPrefix(q.authority, "[") {
		host, _, _ = strings.Cut(q.authority, ":")
	}
	addr, _ := netip.ParseAddr(host)
	var found *snapshot.Port
	have := []string{}
	for _, p := range s.Ports {
		have = append(have, p.Addr.String())
		if p.Addr.Port() == q.port && (found == nil || p.Addr.Addr() == addr) {
			found = p
		}
	}
	switch {
	case found != nil:
		return found, nil
	case len(have) == 0:
		return nil, fmt.Errorf("nothing listens on port %d: the configuration has no listener that can be served", q.port)
	}
	return nil, fmt.Errorf("nothing listens on port %d: the listeners are on %s", q.port, strings.Join(have, ", "))
}

// isConnection reports whether the question is about a connection rather than a request: it asks for one, or the port
// forwards connections without looking into them.
func (q *question) isConnection(port *snapshot.Port) bool {
	if port.TCP || q.scheme == "tls" || q.scheme == "tcp" {
		return true
	}
	if !port.ByServerName {
		return false
	}
	handling, route := port.Hello([]byte(strings.ToLower(q.host())))
	return handling == snapshot.PassThrough || route != nil
}

// host is the authority without its port.
func (q *question) host() string {
	if i := strings.LastIndexByte(q.authority, ':'); i > strings.LastIndexByte(q.authority, ']') {
		return q.authority[:i]
	}
	return q.authority
}

func (q *question) explainDatagrams(s *snapshot.Snapshot) (*snapshot.Explanation, error) {
	for _, p := range s.UDPPorts {
		if p.Addr.Port() == q.port {
			e := p.Explain()
			return &e, nil
		}
	}
	return nil, fmt.Errorf("nothing receives datagrams on port %d", q.port)
}
