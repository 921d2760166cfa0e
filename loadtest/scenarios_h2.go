package main

import (
	"context"
	"fmt"
	"math/rand/v2"
	"strings"

	"rauta.io/rauta/loadtest/generator"
	"rauta.io/rauta/loadtest/peers"
)

// streamCounts are how many streams the clients have in flight on a connection, with the number of connections. Few
// connections with many streams are what browsers, meshes and gRPC clients have.
var streamCounts = []streamCount{{1, 64}, {10, 16}, {100, 4}}

type streamCount struct{ streams, connections int }

const (
	// pathsPerRoute vary the requests of a connection, so that no proxy sees a header block again at once.
	pathsPerRoute = 8
	// hostsAsked is the number of hosts that the connections of a target ask for, one each.
	hostsAsked = 16
)

// requestsByHost are heads of HTTP/1.1 for many paths of few hosts; the generator turns them into header blocks.
func requestsByHost(routes int, browser bool) []string {
	var heads []string
	for host := range hostsAsked {
		first := host * (routes / hostsAsked) / peers.RoutesPerHost * peers.RoutesPerHost
		for route := first; route < first+peers.RoutesPerHost; route++ {
			for range pathsPerRoute {
				item := fmt.Sprintf("/items/%08x ", rand.Uint32())
				heads = append(heads, strings.Replace(requestHead(route, 0, browser), "/items ", item, 1))
			}
		}
	}
	return heads
}

// among is each contender that can speak it, and haproxy or the other build a second time, to show how far two equal programs lie apart.
func (l *lab) among(s peers.Speech) []entrant {
	var entrants []entrant
	for _, e := range l.everyone() {
		if !e.contender.Speaks(s) {
			continue
		}
		e.speech = s
		entrants = append(entrants, e)
		if e.label == haproxyName || e.label == baseName {
			e.label += againSuffix
			entrants = append(entrants, e)
		}
	}
	return entrants
}

// h2Command is the saturating load with the given streams.
func (l *lab) h2Command(s peers.Speech, streams, connections int) generator.Command {
	command := l.pairedCommand()
	command.Protocol, command.Secure, command.GRPC = generator.HTTP2, s.Secure, s.GRPC
	command.Streams, command.Connections = streams, connections
	command.Requests = requestsByHost(keepaliveRoutes, l.options.browser)
	if s.GRPC {
		command.UploadBytes = command.BodyBytes
	}
	return command
}

// overStreams measures one way of speaking at every number of streams, saturated.
func overStreams(name string, s peers.Speech) func(context.Context, *lab) ([]Row, error) {
	return func(ctx context.Context, l *lab) ([]Row, error) {
		var lines []Row
		for _, count := range l.options.streams {
			all, err := l.measure(ctx, &plan{entrants: l.among(s), restarts: l.options.restarts, command: l.h2Command(s, count.streams, count.connections)})
			if err != nil {
				return lines, err
			}
			lines = append(lines, rows(fmt.Sprintf("%s, %d streams", name, count.streams), all)...)
		}
		return lines, nil
	}
}
