// Package generator is the load generator and the back end of the load test, in one process on one thread.
//
// It owns every connection to the proxies under test and from them to the back end, and checks every answer. Because
// one thread plays both sides and always has the next request ready, the proxy's core is the one that saturates. It
// reads each proxy's CPU clock around short slices, in random order, so that whatever else the machine does hits all
// of them alike. It does not own the proxies: the load test starts them and sends commands, one JSON object per line.
// On the request path of HTTP/1.1 and HTTP/2 it neither allocates nor collects garbage; TLS does as crypto/tls does.
package generator

import (
	"errors"
	"fmt"

	"rauta.io/rauta/loadtest/stats"
)

// Kind is what a command asks for.
type Kind string

// The kinds of commands.
const (
	Serve   Kind = "serve"   // only answer as the back end, for other generators
	Paired  Kind = "paired"  // closed loop, saturating, in slices
	Rate    Kind = "rate"    // open loop at a fixed rate, in slices
	Idle    Kind = "idle"    // open connections, one request on each, keep them open
	Shakes  Kind = "shakes"  // TLS connections that end when they are complete, in slices
	Release Kind = "release" // close the connections of Idle
)

// Protocol is what clients speak to the targets.
type Protocol string

// The protocols.
const (
	HTTP1     Protocol = ""
	HTTP2     Protocol = "h2"
	WebSocket Protocol = "websocket" // a request is a message of UploadBytes, its answer one of BodyBytes
	Tunnels   Protocol = "tunnels"   // the same, in streams of HTTP/2
	UDP       Protocol = "udp"       // a request is a datagram of UploadBytes, its answer one of BodyBytes
)

// Command is one measurement.
type Command struct {
	Kind        Kind     `json:"kind"`
	Targets     []Target `json:"targets,omitempty"`
	Connections int      `json:"connections,omitempty"` // per target
	Requests    []string `json:"requests,omitempty"`    // whole heads, sent in turn; an upload's body is added to each
	BodyBytes   int      `json:"bodyBytes"`             // of each response
	UploadBytes int      `json:"uploadBytes,omitempty"` // of each request; the heads must say the same
	Rounds      int      `json:"rounds,omitempty"`
	SliceNanos  int64    `json:"sliceNanos,omitempty"`
	WarmUp      bool     `json:"warmUp,omitempty"` // run one round more, and forget it
	PerSecond   float64  `json:"perSecond,omitempty"`
	Seed        uint64   `json:"seed,omitempty"`
	Protocol    Protocol `json:"protocol,omitempty"`
	Streams     int      `json:"streams,omitempty"`  // of each connection that speaks HTTP/2
	Secure      bool     `json:"secure,omitempty"`   // TLS to the targets
	EndToEnd    bool     `json:"endToEnd,omitempty"` // the TLS is with the back end, in connections of HTTP/1.1 that are open before the first slice
	Resume      bool     `json:"resume,omitempty"`   // handshakes resume a session
	GRPC        bool     `json:"grpc,omitempty"`     // both bodies are gRPC messages, the answer ends with trailers
	// WholeMachine has slices of Paired measured for the whole machine, too. The generator then sleeps where it would poll,
	// because polling would count as work.
	WholeMachine bool `json:"wholeMachine,omitempty"`
	// Progress names a file of 8 bytes in which the number of correct answers so far stands, for whoever maps it, too. The
	// generator then sleeps as for WholeMachine.
	Progress string `json:"progress,omitempty"`
}

// Target is a proxy under test.
type Target struct {
	Name string `json:"name"`
	Port int    `json:"port"`
	PIDs []int  `json:"pids"` // of the proxy and its children, for its CPU clock; may be empty
}

// Sample is one slice of one target.
type Sample struct {
	Round     int    `json:"round"`
	CPUNanos  uint64 `json:"cpuNanos"`
	WaitNanos uint64 `json:"waitNanos"` // ready to run, while other programs had the core
	WallNanos int64  `json:"wallNanos"` // from the first request to the last answer
	Requests  uint64 `json:"requests"`
	Failed    uint64 `json:"failed,omitempty"`
	// MachineNanos is for how long processors worked, whatever they did, where WholeMachine is set.
	MachineNanos int64 `json:"machineNanos,omitempty"`
	// OwnNanos is the CPU time of the generator, which is clients and back end, where WholeMachine is set.
	OwnNanos uint64 `json:"ownNanos,omitempty"`
}

// Result is what a target did during a command.
type Result struct {
	Samples     []Sample          `json:"samples"`
	Latency     stats.Histogram   `json:"latency"` // nanoseconds
	UserTicks   uint64            `json:"userTicks"`
	SystemTicks uint64            `json:"systemTicks"`
	Requests    uint64            `json:"requests"` // answered correctly
	Reconnects  uint64            `json:"reconnects"`
	Failures    map[string]uint64 `json:"failures"`    // by reason
	Generations int               `json:"generations"` // distinct values seen in the generation field
	Generation  int64             `json:"generation"`  // the largest of them
}

// Failed is the number of requests without a correct answer.
func (r *Result) Failed() uint64 {
	var sum uint64
	for _, count := range r.Failures {
		sum += count
	}
	return sum
}

// Reply ends a command. Results are in the order of the targets.
type Reply struct {
	BackendPort   int       `json:"backendPort,omitempty"`      // in the first reply only: HTTP/1.1
	BackendH2Port int       `json:"backendH2Port,omitempty"`    // HTTP/2 without TLS, by prior knowledge
	BackendTLS    int       `json:"backendTLSPort,omitempty"`   // HTTP/1.1 over TLS
	BackendH2TLS  int       `json:"backendH2TLSPort,omitempty"` // HTTP/2 over TLS
	BackendUDP    int       `json:"backendUDPPort,omitempty"`   // answers each datagram with one
	Results       []*Result `json:"results,omitempty"`
	Error         string    `json:"error,omitempty"`
}

// GenerationField is the response field by which a changed configuration shows; its value is a decimal number.
const GenerationField = "X-Generation"

func (c *Command) validate() error {
	switch c.Kind {
	case Serve, Release:
		return nil
	case Paired, Rate, Idle, Shakes:
	default:
		return fmt.Errorf("unknown command %q", c.Kind)
	}
	var problems []error
	need := func(ok bool, what string) {
		if !ok {
			problems = append(problems, errors.New(what))
		}
	}
	need(len(c.Targets) > 0, "no targets")
	need(c.Connections > 0, "connections must be positive")
	need(len(c.Requests) > 0, "no requests")
	need(c.BodyBytes >= 0 && c.UploadBytes >= 0, "body sizes must not be negative")
	need(c.Kind == Idle || c.Rounds > 0 && c.SliceNanos > 0, "rounds and slice must be positive")
	need(c.Protocol != HTTP2 || c.Streams > 0 && c.BodyBytes <= bodyBytesMaxH2 && c.UploadBytes <= bodyBytesMaxH2,
		"HTTP/2 needs streams, and bodies that fit into a frame")
	need(c.Protocol != Tunnels || c.Streams > 0 && !c.Secure, "WebSockets over HTTP/2 need streams, and no TLS")
	need(c.Protocol != WebSocket && c.Protocol != Tunnels || c.BodyBytes <= MessageBytesMax && c.UploadBytes <= MessageBytesMax, "messages must have less than 126 bytes")
	need(c.Protocol != UDP || c.UploadBytes > 0 && max(c.BodyBytes, c.UploadBytes) <= DatagramBytesMax && c.BodyBytes > 0, "datagrams must have from 1 to 1400 bytes")
	need(c.Kind != Shakes || c.Secure && c.Protocol == HTTP1, "handshakes need TLS, and requests of HTTP/1.1")
	need(!c.EndToEnd || c.Secure && c.Protocol == HTTP1, "TLS with the back end needs TLS, and requests of HTTP/1.1")
	need(c.Kind != Rate || c.PerSecond > 0, "the rate must be positive")
	need(!c.WholeMachine || c.Kind == Paired, "the whole machine can be measured with saturating load only")
	if len(problems) > 0 {
		return fmt.Errorf("command %s: %w", c.Kind, errors.Join(problems...))
	}
	return nil
}
