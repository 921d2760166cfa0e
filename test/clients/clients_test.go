// Package clients has the programs that people have talk to RAUTA as `make run` serves it: curl, nghttp, h2load, openssl,
// testssl.sh, grpcurl and Chromium. A program that is missing skips its test with a line that says so.
package clients

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"rauta.io/rauta/internal/demo"
	"rauta.io/rauta/internal/testrig"
)

const (
	// waitMax is when a test gives up on something that must happen; nothing depends on how long it takes below that.
	waitMax = time.Minute
	// testsslMax is the same for testssl.sh, which takes a minute or two.
	testsslMax = 10 * time.Minute
	// chromiumAttempts: the time after which Chromium prints the page is its own, and does not wait for WebSockets.
	chromiumAttempts = 10
	// examples is what make run serves.
	examples = "../../examples"
)

// quickstart is what make run runs, on ports that nobody else has.
type quickstart struct {
	plain, secure string // addresses
	certificate   string // file
}

// serving is set once, before the first test.
var serving quickstart

func TestMain(m *testing.M) {
	os.Exit(runAll(m))
}

func runAll(m *testing.M) int {
	folder, err := os.MkdirTemp("", "rauta-clients-")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer os.RemoveAll(folder)
	q, stop, err := startQuickstart(folder)
	defer stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "starting the quick start:", err)
		return 1
	}
	serving = q
	return m.Run()
}

// startQuickstart starts the back ends and RAUTA. What it returns to stop them may be called after an error, too.
func startQuickstart(folder string) (q quickstart, stop func(), err error) {
	stop = func() {}
	ports, err := freePorts("8080", "8443", "18081", "18082", "18083", "18084", "admin", "metrics")
	if err != nil {
		return q, stop, err
	}
	if err := copyExamples(filepath.Join(folder, "examples"), ports); err != nil {
		return q, stop, err
	}
	backends := demo.Quickstart()
	for i := range backends {
		host, port, _ := net.SplitHostPort(backends[i].Addr)
		backends[i].Addr = net.JoinHostPort(host, ports[port])
	}
	servers, err := demo.Start(backends)
	if err != nil {
		return q, stop, err
	}
	stop = servers.Stop
	certificate, err := demo.WriteCertificate(folder, "quickstart")
	if err != nil {
		return q, stop, err
	}
	binary := filepath.Join(folder, "rauta")
	if out, err := exec.Command("go", "build", "-o", binary, "rauta.io/rauta/cmd/rauta").CombinedOutput(); err != nil {
		return q, stop, fmt.Errorf("building rauta: %w: %s", err, out)
	}
	command := exec.Command(binary, "serve", "--config", filepath.Join(folder, "examples"), "--config", certificate.Objects, "--bind", "127.0.0.1",
		"--http-port", ports["8080"], "--https-port", ports["8443"], "--admin", "127.0.0.1:"+ports["admin"], "--metrics", "127.0.0.1:"+ports["metrics"],
		"--drain-delay", "0s", "--workers", "2")
	command.Stderr = os.Stderr
	if err := command.Start(); err != nil {
		return q, stop, err
	}
	stop = func() {
		command.Process.Kill()
		command.Wait()
		servers.Stop()
	}
	q = quickstart{plain: "127.0.0.1:" + ports["8080"], secure: "127.0.0.1:" + ports["8443"], certificate: certificate.File}
	return q, stop, untilServed(q)
}

// freePorts gives each name a port that nobody uses now.
func freePorts(names ...string) (map[string]string, error) {
	ports := map[string]string{}
	for _, name := range names {
		port, err := testrig.Port()
		if err != nil {
			return nil, err
		}
		ports[name] = fmt.Sprint(port)
	}
	return ports, nil
}

// copyExamples writes the examples with other ports.
func copyExamples(folder string, ports map[string]string) error {
	files, err := filepath.Glob(examples + "/*/*.yaml")
	if err != nil || len(files) == 0 {
		return fmt.Errorf("no examples: %w", err)
	}
	if err := os.MkdirAll(folder, 0o755); err != nil {
		return err
	}
	number := regexp.MustCompile(`\b(` + strings.Join(slices.Sorted(maps.Keys(ports)), "|") + `)\b`)
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			return err
		}
		text = number.ReplaceAllFunc(text, func(port []byte) []byte { return []byte(ports[string(port)]) })
		name := filepath.Base(filepath.Dir(file)) + "-" + filepath.Base(file)
		if err := os.WriteFile(filepath.Join(folder, name), text, 0o644); err != nil {
			return err
		}
	}
	return nil
}

// untilServed waits for the first answers on both ports.
func untilServed(q quickstart) error {
	client := &http.Client{Timeout: waitMax, Transport: &http.Transport{DisableKeepAlives: true,
		TLSClientConfig: &tls.Config{InsecureSkipVerify: true, ServerName: "shop.localhost"}}}
	for deadline := time.Now().Add(waitMax); ; time.Sleep(20 * time.Millisecond) {
		err := answers(client, "http://"+q.plain)
		if err == nil {
			err = answers(client, "https://"+q.secure)
		}
		if err == nil || time.Now().After(deadline) {
			return err
		}
	}
}

func answers(client *http.Client, url string) error {
	request, err := http.NewRequest(http.MethodGet, url, nil)
	if err != nil {
		return err
	}
	request.Host = "shop.localhost"
	response, err := client.Do(request)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	if _, err := io.Copy(io.Discard, response.Body); err != nil || response.StatusCode != http.StatusOK {
		return fmt.Errorf("%s from %s, %w", response.Status, url, err)
	}
	return nil
}

// program finds a program, or skips the test. One that is built from a module is named by an environment variable.
func program(t *testing.T, name, variable, install string) string {
	t.Helper()
	if variable != "" && os.Getenv(variable) != "" {
		return os.Getenv(variable)
	}
	path, err := exec.LookPath(name)
	if err != nil {
		t.Skipf("%s is missing: %s", name, install)
	}
	return path
}

// run returns everything that a program wrote, with the error that it ended with, if any.
func run(t *testing.T, input, path string, args ...string) (string, error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), waitMax)
	defer cancel()
	command := exec.CommandContext(ctx, path, args...)
	command.Stdin = strings.NewReader(input)
	output, err := command.CombinedOutput()
	return string(output), err
}

func wants(t *testing.T, what, output string, err error, all ...string) {
	t.Helper()
	if err != nil {
		t.Errorf("%s: %v", what, err)
	}
	for _, want := range all {
		if !strings.Contains(output, want) {
			t.Errorf("%s: no %q", what, want)
		}
	}
	if t.Failed() {
		t.Logf("%s wrote:\n%s", what, output)
	}
}

func TestCurlIsServedInEveryVersion(t *testing.T) {
	curl := program(t, "curl", "", "apt-get install curl")
	q := serving
	_, plain, _ := net.SplitHostPort(q.plain)
	_, secure, _ := net.SplitHostPort(q.secure)
	if version, err := run(t, "", curl, "--version"); err != nil || !strings.Contains(version, "HTTP2") {
		t.Skipf("needs a curl with HTTP/2 (nghttp2), as Debian's: %s", version)
	}
	for _, c := range []struct{ version, url, want string }{
		{"--http1.0", "http://shop.localhost:" + plain + "/hello", "[1.1 200]"},
		{"--http1.1", "http://shop.localhost:" + plain + "/hello", "[1.1 200]"},
		{"--http2", "http://shop.localhost:" + plain + "/hello", "[1.1 200]"}, // the upgrade to h2c is not taken
		{"--http2-prior-knowledge", "http://shop.localhost:" + plain + "/hello", "[2 200]"},
		{"--http1.1", "https://shop.localhost:" + secure + "/hello", "[1.1 200]"},
		{"--http2", "https://shop.localhost:" + secure + "/hello", "[2 200]"},
	} {
		output, err := run(t, "", curl, "-sS", c.version, "--cacert", q.certificate, "--resolve", "*:"+plain+":127.0.0.1", "--resolve", "*:"+secure+":127.0.0.1",
			"-w", "[%{http_version} %{response_code}]", c.url)
		wants(t, c.version+" "+c.url, output, err, "back end: web", "GET /hello", c.want)
	}
	body := strings.Repeat("x", 300_000)
	for _, version := range []string{"--http1.1", "--http2"} {
		output, err := run(t, body, curl, "-sS", version, "--cacert", q.certificate, "--resolve", "*:"+secure+":127.0.0.1",
			"--data-binary", "@-", "https://shop.localhost:"+secure+"/orders")
		wants(t, "an upload with "+version, output, err, "body:     300000 bytes")
	}
}

func TestNghttpIsServedWithPriorKnowledgeAndOverTLS(t *testing.T) {
	nghttp := program(t, "nghttp", "", "apt-get install nghttp2-client")
	q := serving
	for _, url := range []string{"http://" + q.plain, "https://" + q.secure} {
		output, err := run(t, "", nghttp, "-v", "--no-verify-peer", "-H:authority: shop.localhost", url+"/hello", url+"/api/items")
		wants(t, url, output, err, ":status: 200", "back end: web", "SETTINGS_ENABLE_CONNECT_PROTOCOL(0x08):1")
	}
}

func TestH2loadGetsAnAnswerToEveryRequest(t *testing.T) {
	h2load := program(t, "h2load", "", "apt-get install nghttp2-client")
	q := serving
	_, plain, _ := net.SplitHostPort(q.plain)
	_, secure, _ := net.SplitHostPort(q.secure)
	for _, c := range []struct{ url, address string }{
		{"http://shop.localhost:" + plain, q.plain}, {"https://shop.localhost:" + secure, q.secure},
	} {
		output, err := run(t, "", h2load, "-n2000", "-c4", "-m20", "--connect-to="+c.address, c.url+"/hello", c.url+"/api/items")
		wants(t, c.url, output, err, "2000 succeeded, 0 failed, 0 errored, 0 timeout", "2000 2xx")
	}
}

func TestOpenSSLAgreesOnVersionsProtocolsAndResumesSessions(t *testing.T) {
	openssl := program(t, "openssl", "", "apt-get install openssl")
	q := serving
	connect := func(input string, args ...string) (string, error) {
		return run(t, input, openssl, append([]string{"s_client", "-connect", q.secure, "-servername", "shop.localhost", "-CAfile", q.certificate}, args...)...)
	}
	const request = "GET /hello HTTP/1.1\r\nHost: shop.localhost\r\nConnection: close\r\n\r\n"
	for _, version := range []string{"-tls1_2", "-tls1_3"} {
		session := filepath.Join(t.TempDir(), "session")
		output, err := connect(request, version, "-alpn", "http/1.1", "-ign_eof", "-sess_out", session)
		wants(t, version, output, err, "Verify return code: 0 (ok)", "ALPN protocol: http/1.1", "back end: web", "New, TLSv")
		output, err = connect(request, version, "-alpn", "http/1.1", "-ign_eof", "-sess_in", session)
		wants(t, version+" again", output, err, "back end: web", "Reused, TLSv")
	}
	output, err := connect("", "-alpn", "h2")
	wants(t, "-alpn h2", output, err, "ALPN protocol: h2", "Protocol  : TLSv1.3")
	for what, args := range map[string][]string{
		"TLS 1.1":          {"-tls1_1", "-cipher", "DEFAULT@SECLEVEL=0"},
		"another name":     {"-servername", "example.com"},
		"another protocol": {"-alpn", "spdy/3"},
	} {
		if output, err := connect("", args...); err == nil {
			t.Errorf("%s is served:\n%s", what, output)
		}
	}
}

// TestTestsslFindsNoWeakness: docs/operations.md says what else it remarks. It takes its time, since it tries every version
// and cipher suite in a connection of its own.
func TestTestsslFindsNoWeakness(t *testing.T) {
	path, err := exec.LookPath("testssl") // as Debian calls it
	if err != nil {
		path = program(t, "testssl.sh", "", "apt-get install testssl.sh")
	}
	_, port, _ := net.SplitHostPort(serving.secure)
	findings := filepath.Join(t.TempDir(), "findings.json")
	ctx, cancel := context.WithTimeout(t.Context(), testsslMax)
	defer cancel()
	command := exec.CommandContext(ctx, path, "--protocols", "--std", "--pfs", "--vulnerable", "--quiet", "--color", "0", "--warnings", "off",
		"--nodns", "none", "--ip", "127.0.0.1", "--jsonfile", findings, "shop.localhost:"+port)
	if output, err := command.CombinedOutput(); ctx.Err() != nil {
		t.Fatalf("%v:\n%s", err, output) // what it ends with otherwise is how much it has found
	}
	text, err := os.ReadFile(findings)
	if err != nil {
		t.Fatal(err)
	}
	var all []struct{ ID, Severity, Finding string }
	if err := json.Unmarshal(text, &all); err != nil {
		t.Fatalf("%v:\n%s", err, text)
	}
	seen := map[string]string{}
	for _, f := range all {
		seen[f.ID] = f.Finding
		switch f.Severity {
		case "LOW", "MEDIUM", "HIGH", "CRITICAL":
			t.Errorf("%s, %s: %s", f.ID, f.Severity, f.Finding)
		}
	}
	for id, want := range map[string]string{
		"SSLv3": "not offered", "TLS1": "not offered", "TLS1_1": "not offered", "TLS1_2": "offered", "TLS1_3": "offered", "ALPN_HTTP2": "h2",
		"heartbleed": "not vulnerable", "ROBOT": "not vulnerable",
	} {
		if !strings.HasPrefix(seen[id], want) {
			t.Errorf("%s: %q, want %q", id, seen[id], want)
		}
	}
}

func TestGrpcurlCallsByReflectionInClearTextAndOverTLS(t *testing.T) {
	grpcurl := program(t, "grpcurl", "GRPCURL", "make clients builds it")
	q := serving
	for _, how := range [][]string{{"-plaintext", q.plain}, {"-insecure", q.secure}} {
		first := []string{how[0], "-authority", "grpc.localhost"}
		output, err := run(t, "", grpcurl, append(first, how[1], "list")...)
		wants(t, how[0]+" list", output, err, "demo.Echo")
		output, err = run(t, "", grpcurl, append(first, "-d", `{"text": "hello"}`, how[1], "demo.Echo/Say")...)
		wants(t, how[0]+" Say", output, err, `"text": "hello"`, `"back_end": "echo"`)
		output, err = run(t, "", grpcurl, append(first, "-d", `{"text": "one"} {"text": "two"}`, how[1], "demo.Echo/Chat")...)
		wants(t, how[0]+" Chat", output, err, `"text": "one"`, `"text": "two"`)
	}
	output, err := run(t, "", grpcurl, "-plaintext", "-authority", "nobody.localhost", q.plain, "list")
	if err == nil || !strings.Contains(output, "Unimplemented") && !strings.Contains(output, "does not support the reflection API") {
		t.Errorf("a host without a route: %v\n%s", err, output)
	}
}

func TestChromiumLoadsAPageOverHTTP2WithAWebSocket(t *testing.T) {
	chromium := program(t, "chromium", "CHROMIUM", "apt-get install chromium")
	q := serving
	_, secure, _ := net.SplitHostPort(q.secure)
	var output string
	var err error
	for range chromiumAttempts {
		output, err = run(t, "", chromium, "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
			"--disable-component-update", "--disable-sync", "--ignore-certificate-errors", "--user-data-dir="+t.TempDir(),
			"--virtual-time-budget=20000", "--dump-dom", "https://shop.localhost:"+secure+"/browser")
		if strings.Contains(output, "<title>closed with") {
			break
		}
	}
	wants(t, "chromium", output, err, `<b id="protocol">h2</b>`, `<b id="echo">hello from a browser</b>`, "<title>closed with 1000</title>")
}
