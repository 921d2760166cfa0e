package cluster

import (
	"context"
	"crypto/tls"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
)

// probe looks at the containers until the pod ends and reports what changes, readiness above all.
func (p *pod) probe() {
	failures := 0
	for wait := firstProbeDelay; ; {
		select {
		case <-p.ctx.Done():
			return
		case <-p.restarted:
		case <-time.After(wait):
		}
		well := p.allReady()
		if well {
			failures = 0
		} else {
			failures++
		}
		p.mu.Lock()
		switch {
		case well:
			p.ready = true
		case failures >= p.failuresMax():
			p.ready = false
		}
		ready := p.ready
		p.mu.Unlock()
		p.report(corev1.PodRunning)
		if wait = firstProbeDelay; ready {
			wait = p.period()
		}
	}
}

func (p *pod) failuresMax() int {
	most := defaultFailureMax
	for i := range p.object.Spec.Containers {
		if r := p.object.Spec.Containers[i].ReadinessProbe; r != nil && r.FailureThreshold > 0 {
			most = min(most, int(r.FailureThreshold))
		}
	}
	return most
}

func (p *pod) period() time.Duration {
	period := probePeriod
	for i := range p.object.Spec.Containers {
		if r := p.object.Spec.Containers[i].ReadinessProbe; r != nil && r.PeriodSeconds > 0 {
			period = time.Duration(r.PeriodSeconds) * time.Second
		}
	}
	return period
}

func (p *pod) allReady() bool {
	for _, c := range p.all() {
		if c.running() == nil || !c.ready() {
			return false
		}
	}
	return true
}

func (c *container) ready() bool {
	probe := c.spec.ReadinessProbe
	timeout := time.Second
	if probe != nil && probe.TimeoutSeconds > 0 {
		timeout = time.Duration(probe.TimeoutSeconds) * time.Second
	}
	ctx, cancel := context.WithTimeout(c.pod.ctx, timeout)
	defer cancel()
	switch {
	case probe != nil && probe.HTTPGet != nil:
		return c.answers(ctx, probe.HTTPGet)
	case probe != nil && probe.TCPSocket != nil:
		return c.listens(ctx, c.portNumber(probe.TCPSocket.Port))
	case probe != nil && probe.Exec != nil:
		return c.succeeds(ctx, probe.Exec.Command)
	case probe != nil && probe.GRPC != nil:
		return c.listens(ctx, probe.GRPC.Port)
	}
	if probe == nil && c.runsUnprobed() {
		return true
	}
	ports := 0
	for _, port := range c.spec.Ports {
		if port.Protocol != corev1.ProtocolUDP {
			ports++
			if !c.listens(ctx, port.ContainerPort) {
				return false
			}
		}
	}
	return ports > 0 || c.pod.object.Spec.HostNetwork || hasSocket(c.pod.address)
}

// unprobedTime is how long a container without a probe may take until it listens; then it counts as ready, as it does for a
// real kubelet from the start.
const unprobedTime = 10 * time.Second

func (c *container) runsUnprobed() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.process != nil && c.restarts == 0 && time.Since(c.pod.started.Time) >= unprobedTime
}

func (c *container) portNumber(port intstr.IntOrString) int32 {
	for _, p := range c.spec.Ports {
		if port.Type == intstr.String && p.Name == port.StrVal {
			return p.ContainerPort
		}
	}
	return int32(port.IntValue())
}

func (c *container) listens(ctx context.Context, port int32) bool {
	conn, err := new(net.Dialer).DialContext(ctx, "tcp", fmt.Sprintf("%s:%d", c.pod.address, port))
	if err != nil {
		return false
	}
	conn.Close()
	return true
}

// succeeds reports whether a command ends with success. Its program is one of Main's, or one of this machine.
func (c *container) succeeds(ctx context.Context, command []string) bool {
	environment, err := c.environment()
	if err != nil {
		return false
	}
	var arguments []string
	for _, a := range command[1:] {
		arguments = append(arguments, c.local(expand(a, environment)))
	}
	program := Path(filepath.Base(command[0]))
	if _, err := os.Stat(program); err != nil {
		program = command[0]
	}
	probe := exec.CommandContext(ctx, program, arguments...)
	probe.Env = environment
	return probe.Run() == nil
}

// answers reports whether a GET is answered with 2xx or 3xx, as a kubelet asks.
func (c *container) answers(ctx context.Context, get *corev1.HTTPGetAction) bool {
	scheme := strings.ToLower(or(string(get.Scheme), "http"))
	url := fmt.Sprintf("%s://%s:%d/%s", scheme, or(get.Host, c.pod.address), c.portNumber(get.Port), strings.TrimPrefix(get.Path, "/"))
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return false
	}
	transport := &http.Transport{DisableKeepAlives: true, TLSClientConfig: &tls.Config{InsecureSkipVerify: true}}
	answer, err := transport.RoundTrip(request)
	if err != nil {
		return false
	}
	answer.Body.Close()
	return answer.StatusCode >= 200 && answer.StatusCode < 400
}

// localColumn is where the local address of a line in /proc/net/tcp has begun by; the remote one begins later.
const localColumn = 12

// hasSocket reports whether something listens at an address, or has a UDP socket there.
func hasSocket(address string) bool {
	a := netip.MustParseAddr(address).As4()
	wanted := fmt.Sprintf(" %02X%02X%02X%02X:", a[3], a[2], a[1], a[0]) // in the byte order of the machine
	for _, table := range []struct{ file, state string }{{"/proc/net/tcp", " 0A "}, {"/proc/net/udp", " 07 "}} {
		text, err := os.ReadFile(table.file)
		if err != nil {
			continue
		}
		for line := range strings.Lines(string(text)) {
			if at := strings.Index(line, wanted); at >= 0 && at < localColumn && strings.Contains(line, table.state) {
				return true
			}
		}
	}
	return false
}
