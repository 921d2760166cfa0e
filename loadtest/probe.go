package main

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/http"
	"strconv"
	"strings"
	"time"

	"rauta.io/rauta/loadtest/generator"
	"rauta.io/rauta/loadtest/peers"
)

const (
	// probeInterval is how often readiness is asked for; it bounds the error of the time to ready.
	probeInterval = 5 * time.Millisecond
	// readyTimeMax and readyTimePerRoute bound a start, in which a configuration may have to be read.
	readyTimeMax      = 20 * time.Second
	readyTimePerRoute = 3 * time.Millisecond
	// changeTimeMax is how long a changed configuration may take to show.
	changeTimeMax = 10 * time.Second
)

// requestHead is a whole request for a route.
func requestHead(route, uploadBytes int, browser bool) string {
	var b strings.Builder
	method := "GET"
	if uploadBytes > 0 {
		method = "POST"
	}
	fmt.Fprintf(&b, "%s %s/items HTTP/1.1\r\nHost: %s\r\n", method, peers.RoutePath(route), peers.RouteHost(route))
	for _, field := range requestFields(browser) {
		b.WriteString(field + "\r\n")
	}
	if uploadBytes > 0 {
		fmt.Fprintf(&b, "Content-Type: application/octet-stream\r\nContent-Length: %d\r\n", uploadBytes)
	}
	b.WriteString("\r\n")
	return b.String()
}

// requestFields are the fields besides Host: two as of a simple client, or those of a browser.
func requestFields(browser bool) []string {
	if !browser {
		return []string{"User-Agent: loadtest/1.0", "Accept: */*"}
	}
	return []string{
		"User-Agent: Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0",
		"Accept: text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8",
		"Accept-Language: en-GB,en;q=0.8,fi;q=0.6,de;q=0.4",
		"Accept-Encoding: gzip, deflate, br, zstd",
		"Referer: http://host-0.example.test/start",
		"Cookie: session=f3b1c9d27a6e4c0f9d1e2b3a4c5d6e7f; theme=dark; consent=necessary",
		"Cache-Control: max-age=0",
		"Sec-Fetch-Mode: navigate",
	}
}

// distinctRequests is how many different routes one measurement asks for: enough to leave no single one in the caches
// of a router by accident.
const distinctRequests = 64

// requestHeads spreads requests evenly over the routes.
func requestHeads(routes, uploadBytes int, browser bool) []string {
	var heads []string
	for i := range distinctRequests {
		heads = append(heads, requestHead(i*routes/distinctRequests, uploadBytes, browser))
	}
	return heads
}

// probeClient speaks what an entrant speaks, with a connection for each request.
func probeClient(s peers.Speech) *http.Client {
	config := &tls.Config{InsecureSkipVerify: true} // the certificate is the load test's own
	if s.Passthrough {
		config.ServerName = generator.ServerName
	}
	protocols := &http.Protocols{}
	protocols.SetHTTP1(!s.HTTP2)
	protocols.SetHTTP2(s.HTTP2 && s.Secure)
	protocols.SetUnencryptedHTTP2(s.HTTP2 && !s.Secure)
	return &http.Client{Transport: &http.Transport{
		Protocols: protocols, DisableKeepAlives: true,
		TLSClientConfig: config,
	}}
}

// probe asks for a route once, on a connection of its own, and returns the generation that the answer shows (-1: none).
func (e *entered) probe(ctx context.Context, route int) (int, error) {
	ctx, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	if e.speech.UDP {
		return -1, e.probeDatagram(ctx)
	}
	scheme := "http"
	if e.speech.Secure || e.speech.Passthrough {
		scheme = "https"
	}
	url := fmt.Sprintf("%s://127.0.0.1:%d%s/items", scheme, e.environment.Port, peers.RoutePath(route))
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return -1, err
	}
	request.Host = peers.RouteHost(route)
	if e.speech.TCP || e.speech.Passthrough {
		request.Header.Set("X-Forwarded-For", "127.0.0.1") // which the back end asks for
	}
	response, err := e.client.Do(request)
	if err != nil {
		return -1, err
	}
	response.Body.Close()
	if response.StatusCode != http.StatusOK {
		return -1, errors.New("status " + response.Status)
	}
	generation, err := strconv.Atoi(response.Header.Get(generator.GenerationField))
	if err != nil {
		generation = -1
	}
	return generation, nil
}

// probeDatagram sends a datagram that the back end answers at any time.
func (e *entered) probeDatagram(ctx context.Context) error {
	conn, err := (&net.Dialer{}).DialContext(ctx, "udp", fmt.Sprintf("127.0.0.1:%d", e.environment.Port))
	if err != nil {
		return err
	}
	defer conn.Close()
	if err := conn.SetDeadline(time.Now().Add(datagramTimeMax)); err != nil {
		return err
	}
	if _, err := conn.Write(generator.ProbeDatagram()); err != nil {
		return err
	}
	_, err = conn.Read(make([]byte, 1))
	return err
}

// datagramTimeMax is how long a datagram and its answer may take: nobody sends either of them again.
const datagramTimeMax = 100 * time.Millisecond

// waitReady polls until the last route answers, the process ends, or the time is up.
func (e *entered) waitReady(ctx context.Context) error {
	deadline := time.Now().Add(readyTimeMax + time.Duration(e.routes)*readyTimePerRoute)
	for {
		_, err := e.probe(ctx, max(e.routes-1, 0))
		if err == nil {
			return nil
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-e.process.Done():
			return errors.New("it has ended")
		case <-time.After(probeInterval):
		}
		if time.Now().After(deadline) {
			return err
		}
	}
}

// waitGeneration polls until route 0 shows the generation, and returns how long that took.
func (e *entered) waitGeneration(ctx context.Context, want int) (time.Duration, error) {
	begin := time.Now()
	for {
		generation, err := e.probe(ctx, 0)
		if err == nil && generation == want {
			return time.Since(begin), nil
		}
		if time.Since(begin) > changeTimeMax {
			return 0, errors.Join(fmt.Errorf("generation %d does not show after %v, the answer has %d", want, changeTimeMax, generation), err)
		}
		select {
		case <-ctx.Done():
			return 0, ctx.Err()
		case <-time.After(probeInterval):
		}
	}
}
