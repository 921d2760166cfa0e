package main

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"rauta.io/rauta/loadtest/generator"
	"rauta.io/rauta/loadtest/peers"
)

// runH2load repeats what the load test's own clients measure with clients of somebody else's.
func runH2load(ctx context.Context, l *lab) ([]Row, error) {
	h2load, found := l.findTool("h2load")
	if !found {
		return nil, nil
	}
	var lines []Row
	for _, way := range []struct {
		name   string
		speech peers.Speech
	}{
		{"h2c-h1", peers.Speech{HTTP2: true}},
		{"h2c-h2c", peers.Speech{HTTP2: true, BackendHTTP2: true}},
		{"h2-h1", peers.Speech{HTTP2: true, Secure: true}},
	} {
		for _, count := range l.options.streams {
			name := fmt.Sprintf("h2load, %s, %d streams", way.name, count.streams)
			more, err := l.runTool(ctx, name, l.among(way.speech), generator.Command{BodyBytes: l.options.bodyBytes}, tool{h2load, func(e *entered) []string {
				scheme := "http"
				if e.speech.Secure {
					scheme = "https"
				}
				return []string{"-t1", fmt.Sprintf("-D%d", toolSeconds), fmt.Sprintf("-c%d", count.connections), fmt.Sprintf("-m%d", count.streams),
					fmt.Sprintf("--connect-to=127.0.0.1:%d", e.environment.Port),
					fmt.Sprintf("%s://%s%s/items", scheme, peers.RouteHost(keepaliveRoutes/2), peers.RoutePath(keepaliveRoutes/2))}
			}, parseH2load})
			if err != nil {
				return lines, err
			}
			lines = append(lines, more...)
		}
	}
	return lines, nil
}

func parseH2load(output string) (r toolResult, err error) {
	_, line, found := strings.Cut(output, "\nrequests: ")
	if !found {
		return r, fmt.Errorf("h2load printed no result but %q", output)
	}
	var total, started, succeeded, failed, errored, timeout uint64
	if _, err = fmt.Sscanf(line, "%d total, %d started, %d done, %d succeeded, %d failed, %d errored, %d timeout",
		&total, &started, &r.requests, &succeeded, &failed, &errored, &timeout); err != nil {
		return r, fmt.Errorf("reading h2load's result: %w", err)
	}
	r.micros, r.socketErrors, r.statusErrors = toolSeconds*1e6, errored+timeout, failed
	return r, nil
}

const (
	// ghzConnections and ghzCalls are what ghz has in flight: as many calls on each connection as in the middle scenario.
	ghzConnections = 8
	ghzCalls       = 80
)

// runGhz measures empty messages. ghz needs several times the CPU time of what it measures, so no proxy is busy with it.
func runGhz(ctx context.Context, l *lab) ([]Row, error) {
	ghz, found := l.findTool("ghz")
	if !found {
		return nil, nil
	}
	definition := filepath.Join(l.folder, "echo.proto")
	const text = "syntax = \"proto3\";\npackage loadtest;\nmessage Nothing {}\nservice Echo { rpc Say(Nothing) returns (Nothing); }\n"
	if err := os.WriteFile(definition, []byte(text), 0o644); err != nil {
		return nil, fmt.Errorf("writing ghz's definition: %w", err)
	}
	speech := peers.Speech{HTTP2: true, BackendHTTP2: true, GRPC: true}
	return l.runTool(ctx, "ghz", l.among(speech), generator.Command{GRPC: true}, tool{ghz, func(e *entered) []string {
		return []string{"--insecure", "--proto", definition, "--call", "loadtest.Echo/Say", "-d", "{}", "-O", "json", "-z", fmt.Sprintf("%ds", toolSeconds), "--duration-stop", "wait",
			"--connections", fmt.Sprint(ghzConnections), "-c", fmt.Sprint(ghzCalls), "--authority", peers.GRPCHost,
			fmt.Sprintf("127.0.0.1:%d", e.environment.Port)}
	}, parseGhz})
}

// parseGhz leaves out calls that ghz itself cancels.
func parseGhz(output string) (r toolResult, err error) {
	var report struct {
		Total    uint64
		Statuses map[string]uint64 `json:"statusCodeDistribution"`
		Latency  []struct {
			Percentage int
			Latency    float64
		} `json:"latencyDistribution"`
	}
	if err := json.Unmarshal([]byte(output), &report); err != nil {
		return r, fmt.Errorf("reading ghz's result: %w", err)
	}
	for status, count := range report.Statuses {
		switch status {
		case "OK":
			r.requests += count
		case "Canceled":
		default:
			r.requests += count
			r.statusErrors += count
		}
	}
	const perMicro = 1000
	for _, at := range report.Latency {
		switch at.Percentage {
		case 50:
			r.p50 = at.Latency / perMicro
		case 99:
			r.p99 = at.Latency / perMicro
		}
	}
	r.micros = report.Total / perMicro
	return r, nil
}
