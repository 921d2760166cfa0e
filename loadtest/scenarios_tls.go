package main

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"rauta.io/rauta/loadtest/generator"
	"rauta.io/rauta/loadtest/peers"
)

func runTLS(ctx context.Context, l *lab) ([]Row, error) {
	command := l.pairedCommand()
	command.Secure = true
	all, err := l.measure(ctx, &plan{entrants: l.among(peers.Speech{Secure: true}), restarts: l.options.restarts, command: command})
	return rows("tls", all), err
}

func runTLSBackend(ctx context.Context, l *lab) ([]Row, error) {
	entrants := l.among(peers.Speech{BackendTLS: true})
	all, err := l.measure(ctx, &plan{entrants: entrants, restarts: l.options.restarts, command: l.pairedCommand()})
	return rows("tls-backend", all), err
}

// runTCP has clients send the field that the back end asks for, since nobody else adds it.
func runTCP(ctx context.Context, l *lab) ([]Row, error) {
	command := l.forwardedCommand()
	all, err := l.measure(ctx, &plan{entrants: l.among(peers.Speech{TCP: true}), restarts: l.options.restarts, command: command})
	return rows("tcp", all), err
}

// runPassthrough has handshakes with the back end before slices begin, so that what is measured is forwarding.
func runPassthrough(ctx context.Context, l *lab) ([]Row, error) {
	command := l.forwardedCommand()
	command.Secure, command.EndToEnd = true, true
	all, err := l.measure(ctx, &plan{entrants: l.among(peers.Speech{Passthrough: true}), restarts: l.options.restarts, command: command})
	return rows("passthrough", all), err
}

// forwardedCommand is the load of HTTP/1.1 with the field that the back end asks for.
func (l *lab) forwardedCommand() generator.Command {
	command := l.pairedCommand()
	for i, head := range command.Requests {
		command.Requests[i] = strings.TrimSuffix(head, "\r\n") + "X-Forwarded-For: 127.0.0.1\r\n\r\n"
	}
	return command
}

func runUDP(ctx context.Context, l *lab) ([]Row, error) {
	command := l.pairedCommand()
	command.Protocol, command.BodyBytes = generator.UDP, max(1, min(command.BodyBytes, generator.DatagramBytesMax))
	command.UploadBytes = command.BodyBytes
	all, err := l.measure(ctx, &plan{entrants: l.among(peers.Speech{UDP: true}), restarts: l.options.restarts, command: command})
	return rows("udp", all), err
}

const (
	// handshakeSlice holds some hundred handshakes.
	handshakeSlice = 120 * time.Millisecond
	// perSecondNanos turns CPU time of one into how many there are in a CPU second.
	perSecondNanos = 1e9
)

// runHandshakes: every client offers the same group and version, and every contender has the same ECDSA certificate. The
// client's half costs about as much as the proxy's, so see the column core busy.
func runHandshakes(ctx context.Context, l *lab) ([]Row, error) {
	var lines []Row
	for _, resume := range []bool{false, true} {
		command := l.pairedCommand()
		command.Kind, command.Secure, command.Resume, command.SliceNanos = generator.Shakes, true, resume, int64(handshakeSlice)
		command.Rounds = min(command.Rounds, 6)
		all, err := l.measure(ctx, &plan{entrants: l.among(peers.Speech{Secure: true}), restarts: l.options.restarts, command: command})
		if err != nil {
			return lines, err
		}
		name := "handshakes, full"
		if resume {
			name = "handshakes, resumed"
		}
		for _, line := range rows(name, all) {
			if line.CPUNanos > 0 {
				line.Remark = fmt.Sprintf("%.0f in a CPU second", perSecondNanos/line.CPUNanos)
			}
			lines = append(lines, line)
		}
	}
	return lines, nil
}

// runWebSocket sends messages of the bodies' size, as far as a short frame holds it, each way.
func runWebSocket(ctx context.Context, l *lab) ([]Row, error) {
	command := l.pairedCommand()
	command.Protocol = generator.WebSocket
	command.BodyBytes = min(command.BodyBytes, generator.MessageBytesMax)
	command.UploadBytes = command.BodyBytes
	command.Requests = requestHeads(keepaliveRoutes, 0, l.options.browser)
	all, err := l.measure(ctx, &plan{entrants: l.among(peers.Speech{Upgrades: true}), restarts: l.options.restarts, command: command})
	return rows("websocket", all), err
}

// runTunnels sends the messages of runWebSocket in streams of HTTP/2 (RFC 8441), the middle number of them.
func runTunnels(ctx context.Context, l *lab) ([]Row, error) {
	speech := peers.Speech{HTTP2: true, Upgrades: true}
	command := l.h2Command(speech, streamCounts[1].streams, streamCounts[1].connections)
	command.Protocol, command.BodyBytes = generator.Tunnels, min(command.BodyBytes, generator.MessageBytesMax)
	command.UploadBytes = command.BodyBytes
	all, err := l.measure(ctx, &plan{entrants: l.among(speech), restarts: l.options.restarts, command: command})
	return rows("websocket-h2", all), err
}

// runFixed takes the middle number of streams, and leaves out the reference engine, which would set a rate at which
// everybody else does little but fall asleep and wake up.
func runFixed(ctx context.Context, l *lab) ([]Row, error) {
	var lines []Row
	for _, way := range []struct {
		name   string
		speech peers.Speech
	}{
		{"h2c-h1", peers.Speech{HTTP2: true}},
		{"h2c-h2c", peers.Speech{HTTP2: true, BackendHTTP2: true}},
		{"grpc", peers.Speech{HTTP2: true, BackendHTTP2: true, GRPC: true}},
	} {
		count := streamCounts[1]
		entrants := slices.DeleteFunc(l.among(way.speech), func(e entrant) bool { return e.label == referenceName })
		more, err := l.atHalfRate(ctx, "fixed rate, "+way.name, entrants, l.h2Command(way.speech, count.streams, count.connections))
		if err != nil {
			return lines, err
		}
		lines = append(lines, more...)
	}
	return lines, nil
}
