package main

import (
	"bufio"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"rauta.io/rauta/internal/testrig"
)

// l4Configuration forwards TCP on one port, TLS for names below pass.test on another, and UDP on the number of the first.
func l4Configuration(tcp, tls uint16, echoPort, udpPort, tlsPort string) string {
	return fmt.Sprintf(`
---
apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata: {name: l4}
spec:
  gatewayClassName: rauta
  listeners:
  - {name: tcp, port: %[1]d, protocol: TCP}
  - {name: udp, port: %[1]d, protocol: UDP}
  - {name: tls, port: %[2]d, protocol: TLS, hostname: "*.pass.test", tls: {mode: Passthrough}}
---
apiVersion: gateway.networking.k8s.io/v1
kind: TCPRoute
metadata: {name: echo}
spec:
  parentRefs: [{name: l4}]
  rules: [{backendRefs: [{name: echo, port: 1}]}]
---
apiVersion: gateway.networking.k8s.io/v1alpha2
kind: UDPRoute
metadata: {name: echo}
spec:
  parentRefs: [{name: l4}]
  rules: [{backendRefs: [{name: echo, port: 2}]}]
---
apiVersion: gateway.networking.k8s.io/v1
kind: TLSRoute
metadata: {name: secure}
spec:
  parentRefs: [{name: l4}]
  hostnames: [a.pass.test]
  rules: [{backendRefs: [{name: echo, port: 3}]}]
---
apiVersion: v1
kind: Service
metadata: {name: echo}
spec: {ports: [{name: tcp, port: 1}, {name: udp, port: 2, protocol: UDP}, {name: tls, port: 3}]}
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: echo-1, labels: {kubernetes.io/service-name: echo}}
addressType: IPv4
ports: [{name: tcp, port: %[3]s}, {name: udp, port: %[4]s, protocol: UDP}, {name: tls, port: %[5]s}]
endpoints: [{addresses: [127.0.0.1]}]
`, tcp, tls, echoPort, udpPort, tlsPort)
}

func portOf(a net.Addr) string {
	_, port, _ := net.SplitHostPort(a.String())
	return port
}

// echoL4 runs an echo over TCP, one over UDP, and a TLS server that says its own name; it returns their ports.
func echoL4(t *testing.T) (tcp, udp, secure string) {
	t.Helper()
	serve := func(say func(net.Conn)) string {
		_, port, _ := net.SplitHostPort(testrig.Listen(t, say))
		return port
	}
	u, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { u.Close() })
	go func() {
		buf := make([]byte, 1500)
		for {
			n, from, err := u.ReadFrom(buf)
			if err != nil {
				return
			}
			u.WriteTo(buf[:n], from)
		}
	}()
	return serve(func(c net.Conn) { io.Copy(c, c) }), portOf(u.LocalAddr()), serve(func(c net.Conn) {
		// Far enough to show whose hello arrived: the name in it.
		hello := make([]byte, 4096)
		n, _ := c.Read(hello)
		fmt.Fprintf(c, "%v\n", strings.Contains(string(hello[:n]), "a.pass.test"))
	})
}

func TestTheBinaryForwardsConnectionsAndDatagrams(t *testing.T) {
	backend := echoBackend(t)
	tcpPort, udpPort, tlsPort := echoL4(t)
	log := filepath.Join(t.TempDir(), "access.log")
	i := start(t, backend, "--access-log", log)
	tcp, secure := testrig.FreePort(t), testrig.FreePort(t)
	i.write(configuration(i.port, backend, "second") + l4Configuration(tcp, secure, tcpPort, udpPort, tlsPort))
	i.until("the new listeners", func() bool {
		return strings.Contains(i.get(i.admin, "/listeners"), `"network": "udp"`) && i.state() == "second"
	})

	c, err := net.Dial("tcp", fmt.Sprintf("127.0.0.1:%d", tcp))
	if err != nil {
		t.Fatal(err)
	}
	c.SetDeadline(time.Now().Add(waitMax))
	fmt.Fprint(c, "hello\n")
	if line, err := bufio.NewReader(c).ReadString('\n'); line != "hello\n" || err != nil {
		t.Errorf("TCP: %q, %v", line, err)
	}
	c.Close()

	u, err := net.Dial("udp", fmt.Sprintf("127.0.0.1:%d", tcp))
	if err != nil {
		t.Fatal(err)
	}
	u.SetDeadline(time.Now().Add(waitMax))
	fmt.Fprint(u, "hello")
	buf := make([]byte, 10)
	if n, err := u.Read(buf); string(buf[:n]) != "hello" || err != nil {
		t.Errorf("UDP: %q, %v", buf[:n], err)
	}
	u.Close()

	raw, err := net.Dial("tcp", fmt.Sprintf("127.0.0.1:%d", secure))
	if err != nil {
		t.Fatal(err)
	}
	raw.SetDeadline(time.Now().Add(waitMax))
	err = tls.Client(raw, &tls.Config{ServerName: "a.pass.test"}).Handshake()
	if e, ok := err.(tls.RecordHeaderError); !ok || string(e.RecordHeader[:]) != "true\n" {
		t.Errorf("TLS: the back end did not get the hello as it was sent: %v", err)
	}
	raw.Close()

	i.until("the log lines", func() bool {
		text, _ := os.ReadFile(log)
		return strings.Contains(string(text), `"protocol":"TCP","server_name":"","route":"tcproute/default/echo"`) &&
			strings.Contains(string(text), `"protocol":"TLS","server_name":"a.pass.test","route":"tlsroute/default/secure"`)
	})
	for _, q := range []struct{ url, want string }{
		{fmt.Sprintf("tcp://x:%d", tcp), "route tcproute/default/echo"},
		{fmt.Sprintf("udp://x:%d", tcp), "route udproute/default/echo"},
		{fmt.Sprintf("tls://A.pass.test:%d", secure), "outcome: forward without looking into it"},
		{fmt.Sprintf("https://a.pass.test:%d/", secure), "route tlsroute/default/secure"},
		{fmt.Sprintf("tls://b.pass.test:%d", secure), "outcome: refuse, no_route"},
	} {
		code, out, stderr := command("explain", "--admin", "http://"+i.admin, "CONNECT", q.url)
		if code != 0 || !strings.Contains(out, q.want) {
			t.Errorf("%s: exit code %d, want %q in:\n%s%s", q.url, code, q.want, out, stderr)
		}
	}
	if code, _, stderr := command("explain", "--admin", "http://"+i.admin, "CONNECT", "udp://x:1"); code == 0 || !strings.Contains(stderr, "nothing receives datagrams on port 1") {
		t.Errorf("a port that nobody has: %s", stderr)
	}
	metrics := i.get(i.metrics, "/metrics")
	if !strings.Contains(metrics, `rauta_l4_connections_total{route="tcproute/default/echo",reason="closed"} 1`) {
		t.Error("the connection is not counted")
	}
}

func TestTheReferenceEngineReportsWhatItDoesNotForward(t *testing.T) {
	backend := echoBackend(t)
	i := start(t, backend, "--engine", "reference")
	i.write(configuration(i.port, backend, "second") + l4Configuration(testrig.FreePort(t), testrig.FreePort(t), "1", "2", "3"))
	i.until("the new state", func() bool { return i.state() == "second" })
	i.until("the reports", func() bool {
		return strings.Count(i.log.String(), "are not supported by this engine; the port is not opened") == 3
	})
}
