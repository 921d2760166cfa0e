package main

import (
	"context"
	"fmt"
	"time"

	"rauta.io/rauta/loadtest/generator"
	"rauta.io/rauta/loadtest/peers"
	"rauta.io/rauta/loadtest/stats"
)

// scenario is one question with its own rows in the table.
type scenario struct {
	name  string
	about string
	run   func(context.Context, *lab) ([]Row, error)
}

var scenarios = []scenario{
	{"keepalive", "small answers on keep-alive connections, saturating", runKeepalive},
	{"wrk", "the same, driven by wrk", runWrk},
	{"large", "1 MiB response bodies: CPU per request is CPU per MiB", runLarge},
	{"upload", "64 KiB request bodies", runUpload},
	{"halfload", "latency at half the rate of the slowest, counted from the intended send time", runHalfload},
	{"reload", "a configuration change every 100 ms under load", runReload},
	{"routes", "1,000, 10,000 and 100,000 routes", runRoutes},
	{"idle", "10,000 idle keep-alive connections", runIdle},
	{"h2c-h1", "HTTP/2 without TLS from clients, HTTP/1.1 to the back end, saturating", overStreams("h2c-h1", peers.Speech{HTTP2: true})},
	{"h2c-h2c", "HTTP/2 without TLS on both sides, saturating", overStreams("h2c-h2c", peers.Speech{HTTP2: true, BackendHTTP2: true})},
	{"h2-h1", "HTTP/2 over TLS from clients, HTTP/1.1 to the back end, saturating", overStreams("h2-h1", peers.Speech{Secure: true, HTTP2: true})},
	{"h2c-h2", "HTTP/2 without TLS from clients, with TLS to the back end, saturating", overStreams("h2c-h2", peers.Speech{HTTP2: true, BackendHTTP2: true, BackendTLS: true})},
	{"grpc", "unary gRPC calls over HTTP/2 without TLS on both sides, saturating", overStreams("grpc", peers.Speech{HTTP2: true, BackendHTTP2: true, GRPC: true})},
	{"h2load", "HTTP/2, driven by h2load", runH2load},
	{"ghz", "unary gRPC calls, driven by ghz", runGhz},
	{"tls", "HTTP/1.1 over TLS on keep-alive connections, saturating", runTLS},
	{"tls-backend", "HTTP/1.1 from clients, HTTP/1.1 over TLS to the back end, saturating", runTLSBackend},
	{"tcp", "HTTP/1.1 in connections that are forwarded without a look at it, saturating", runTCP},
	{"passthrough", "HTTP/1.1 over TLS in connections that are forwarded by their server name, saturating", runPassthrough},
	{"udp", "datagrams that are answered with one, in known flows, saturating", runUDP},
	{"handshakes", "TLS 1.3 handshakes, full and resumed", runHandshakes},
	{"websocket", "WebSockets that send one message and wait for the answer, saturating", runWebSocket},
	{"websocket-h2", "the same in streams of HTTP/2, saturating", runTunnels},
	{"fixed", "HTTP/2 and gRPC at a rate that all hold, half of the slowest's most", runFixed},
	{"tracing", "the first again, with each way of tracing, and collectors of spans that work and that do not", runTracing},
	{"idle-tls", "10,000 idle keep-alive connections with TLS", runIdleTLS},
}

func scenarioNames() []string {
	var names []string
	for _, s := range scenarios {
		names = append(names, s.name)
	}
	return names
}

// everyone is each contender once.
func (l *lab) everyone() []entrant {
	var entrants []entrant
	for _, c := range l.contenders {
		e := entrant{label: c.Name, contender: c}
		if c.Routes {
			e.routes = keepaliveRoutes
		}
		entrants = append(entrants, e)
	}
	return entrants
}

// pairedCommand is the saturating load that most scenarios vary.
func (l *lab) pairedCommand() generator.Command {
	o := l.options
	return generator.Command{
		Kind: generator.Paired, Connections: o.connections, BodyBytes: o.bodyBytes, Rounds: o.rounds, WarmUp: true,
		SliceNanos: int64(o.slice), Requests: requestHeads(keepaliveRoutes, 0, o.browser),
	}
}

// runKeepalive has the bare loop, or the other build, take part twice.
func runKeepalive(ctx context.Context, l *lab) ([]Row, error) {
	entrants := l.everyone()
	again := entrants[0]
	again.label += againSuffix
	entrants = append([]entrant{entrants[0], again}, entrants[1:]...)
	all, err := l.measure(ctx, &plan{entrants: entrants, restarts: l.options.restarts, command: l.pairedCommand()})
	return rows("keepalive", all), err
}

const (
	largeBodyBytes = 1 << 20
	// largeConnections keeps the bytes in flight below what the sockets' buffers hold.
	largeConnections = 16
	// largeSlice holds enough large answers for a stable figure.
	largeSlice = 100 * time.Millisecond
)

func runLarge(ctx context.Context, l *lab) ([]Row, error) {
	command := l.pairedCommand()
	command.BodyBytes, command.Connections, command.SliceNanos = largeBodyBytes, largeConnections, int64(largeSlice)
	command.Rounds = min(command.Rounds, 4)
	all, err := l.measure(ctx, &plan{entrants: l.everyone(), restarts: l.options.restarts, command: command})
	return rows("large", all), err
}

const uploadBytes = 64 << 10

func runUpload(ctx context.Context, l *lab) ([]Row, error) {
	command := l.pairedCommand()
	command.UploadBytes, command.Requests = uploadBytes, requestHeads(keepaliveRoutes, uploadBytes, l.options.browser)
	command.Rounds = min(command.Rounds, 6)
	all, err := l.measure(ctx, &plan{entrants: l.everyone(), restarts: l.options.restarts, command: command})
	return rows("upload", all), err
}

const (
	// halfloadSlice is long, because a tail of one in a thousand needs requests to be a tail of.
	halfloadSlice  = time.Second
	halfloadRounds = 2
	halfloadShare  = 0.5
	// halfloadRestarts bound the scenario's time: each restart measures for some ten seconds.
	halfloadRestarts = repetitionsMin
	// rateHeldMin is the share of the requests offered that a contender must answer in time for its cost to count.
	rateHeldMin = 0.95
)

// runHalfload first finds the slowest contender's rate.
func runHalfload(ctx context.Context, l *lab) ([]Row, error) {
	return l.atHalfRate(ctx, "halfload", l.everyone(), l.pairedCommand())
}

// atHalfRate offers everyone half of what the slowest can do.
func (l *lab) atHalfRate(ctx context.Context, name string, entrants []entrant, command generator.Command) ([]Row, error) {
	if l.options.perSecond > 0 {
		return l.atRate(ctx, name, entrants, command, l.options.perSecond, "offered")
	}
	quick, err := l.measure(ctx, &plan{entrants: entrants, restarts: 1, command: command})
	if err != nil {
		return nil, err
	}
	slowest, rate := "", 0.0
	for _, m := range quick {
		if own := stats.Median(m.rates); len(m.rates) > 0 && (slowest == "" || own < rate) {
			slowest, rate = m.label, own
		}
	}
	if slowest == "" {
		return rows(name, quick), nil
	}
	return l.atRate(ctx, name, entrants, command, rate*halfloadShare, "offered, half of "+slowest+"'s most")
}

func (l *lab) atRate(ctx context.Context, name string, entrants []entrant, command generator.Command, perSecond float64, why string) ([]Row, error) {
	command.Kind, command.PerSecond = generator.Rate, perSecond
	command.Rounds, command.SliceNanos = halfloadRounds, int64(halfloadSlice)
	all, err := l.measure(ctx, &plan{entrants: entrants, restarts: min(halfloadRestarts, l.options.restarts), command: command})
	lines := rows(name, all)
	remarkRate(lines, perSecond, why)
	return lines, err
}

// remarkRate says what was offered, and leaves out the ratios of and to those that did not hold the rate: with a backlog,
// requests come many at a time, which costs less and is not what is measured.
func remarkRate(lines []Row, perSecond float64, why string) {
	behind := make(map[string]bool)
	for i := range lines {
		r := &lines[i]
		r.Remark = fmt.Sprintf("%.0f requests/s %s", perSecond, why)
		if r.Error == "" && r.PerSecond < rateHeldMin*perSecond {
			behind[r.Contender] = true
			r.Remark += ", not held"
		}
	}
	for _, r := range lines {
		for base := range r.Ratios {
			if behind[r.Contender] || behind[base] {
				delete(r.Ratios, base)
			}
		}
	}
}
