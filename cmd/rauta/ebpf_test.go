package main

import (
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"rauta.io/rauta/bpf"
	"rauta.io/rauta/internal/testrig"
)

// tier is what the kernel tells, and why it is not all.
func (i *instance) tier() (name, reason string) {
	i.t.Helper()
	parts := regexp.MustCompile(`\nrauta_ebpf_tier\{tier="([a-z]+)",reason="([^"]*)"\} 1\n`).FindStringSubmatch(i.get(i.metrics, "/metrics"))
	if parts == nil {
		i.t.Fatal("no rauta_ebpf_tier")
	}
	return parts[1], parts[2]
}

func TestTheKernelsTierIsAMetricAndOffIsOff(t *testing.T) {
	i := start(t, echoBackend(t))
	i.keepAlive(1, nil) // on a connection that is made after the programs came
	text := i.get(i.metrics, "/metrics")
	if !strings.Contains(text, "\nrauta_ebpf_tier{") {
		t.Fatal("no rauta_ebpf_tier")
	}
	told := strings.Contains(text, "\nrauta_accept_queue_seconds_count 0\n") || !strings.Contains(text, "\nrauta_accept_queue_seconds_count")
	if none := strings.Contains(text, `rauta_ebpf_tier{tier="none"`); none != told {
		t.Fatalf("tier none: %t, but after a connection the metrics are\n%s", none, text)
	}

	off := start(t, echoBackend(t), "--ebpf", "off")
	text = off.get(off.metrics, "/metrics")
	if !strings.Contains(text, "\n"+`rauta_ebpf_tier{tier="none",reason="--ebpf off"} 1`+"\n") || strings.Contains(text, "_tcp_") {
		t.Fatalf("with --ebpf off the metrics are\n%s", text)
	}
}

func TestWithoutPermissionsRequireDoesNotStart(t *testing.T) {
	testrig.NeedsEBPF(t)
	setpriv := testrig.NeedsSetpriv(t)
	path, err := binary()
	if err != nil {
		t.Fatal(err)
	}
	run := func(args ...string) (string, error) {
		args = append([]string{"--no-new-privs", "--bounding-set=-all", "--inh-caps=-all", "--", path, "serve", "--metrics", "off", "--admin", "off"}, args...)
		out, err := exec.Command(setpriv, args...).CombinedOutput()
		return string(out), err
	}
	dir := t.TempDir()
	if out, err := run("--config", dir, "--ebpf", "require"); err == nil || !strings.Contains(out, "CAP_BPF") {
		t.Fatalf("require: %v\n%s", err, out)
	}
}

func TestWhateverKeepsTheKernelSilentRautaServesAndSaysItOnce(t *testing.T) {
	testrig.NeedsEBPF(t)
	if os.Geteuid() != 0 {
		t.Skip("needs root, to take things away")
	}
	cases := []struct {
		name, reason string
		by           []string
	}{
		{"no capabilities", "not permitted: it needs CAP_BPF and CAP_PERFMON",
			[]string{"setpriv", "--no-new-privs", "--bounding-set=-all", "--inh-caps=-all", "--"}},
		{"capabilities of no use", "not permitted although CAP_BPF and CAP_PERFMON are there: a user namespace, ",
			[]string{"unshare", "--user", "--map-root-user", "--"}},
		{"no BTF", "the kernel has no BTF (CONFIG_DEBUG_INFO_BTF)",
			[]string{"unshare", "--mount", "sh", "-c", `mount -t tmpfs none /sys/kernel/btf && exec "$@"`, "sh"}},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			if out, err := exec.Command(c.by[0], append(c.by[1:], "true")...).CombinedOutput(); err != nil {
				t.Skipf("needs what %s does, as root outside a container that forbids it: %v %s", strings.Join(c.by, " "), err, out)
			}
			i := startAs(t, c.by, echoBackend(t))
			if text := i.get(i.metrics, "/metrics"); !strings.Contains(text, `rauta_ebpf_tier{tier="none",reason="`+c.reason) {
				t.Errorf("the metrics are\n%s", text)
			}
			var lines []string
			for line := range strings.Lines(i.log.String()) {
				if strings.Contains(line, "kernel") {
					lines = append(lines, line)
				}
			}
			if len(lines) != 1 || !strings.Contains(lines[0], "tier=none") || !strings.Contains(lines[0], c.reason) {
				t.Errorf("lines of the log: %q", lines)
			}
		})
	}
}

func TestTwoCapabilitiesAndThatForLowPortsAreEnoughForEveryUser(t *testing.T) {
	setpriv := testrig.NeedsSetpriv(t)
	path, err := binary()
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	want, why := start(t, echoBackend(t)).tier()
	if want == bpf.TierNone {
		t.Skipf("the kernel tells nothing here: %s", why)
	}
	const caps = "-all,+bpf,+perfmon,+net_bind_service"
	for name, args := range map[string][]string{
		"uid 0 without new privileges": {"--no-new-privs", "--bounding-set=" + caps, "--inh-caps=" + caps},
		"another uid":                  {"--reuid=65534", "--clear-groups", "--no-new-privs", "--inh-caps=" + caps, "--ambient-caps=" + caps},
	} {
		t.Run(name, func(t *testing.T) {
			i := startAs(t, append(append([]string{setpriv}, args...), "--"), echoBackend(t))
			i.keepAlive(1, nil)
			text := i.get(i.metrics, "/metrics")
			if got, why := i.tier(); got != want {
				t.Errorf("tier %q (%s), not %q", got, why, want)
			}
			if strings.Contains(text, "\nrauta_accept_queue_seconds_count 0\n") && want != "states" {
				t.Error("no connection has been seen")
			}
		})
	}
}

func TestTheFirstRequestOfAConnectionHasItsWaitToBeAccepted(t *testing.T) {
	i := startLoaded(t)
	const requests = 5
	client := http.Client{Timeout: waitMax}
	for range requests {
		resp, err := client.Get(i.url("/"))
		if err != nil {
			t.Fatal(err)
		}
		_, _ = io.Copy(io.Discard, resp.Body)
		resp.Body.Close()
	}
	value := func(series string) string {
		_, rest, _ := strings.Cut(i.get(i.metrics, "/metrics"), "\n"+series+" ")
		n, _, _ := strings.Cut(rest, "\n")
		return n
	}
	i.until("a wait for each connection, and not for each request", func() bool {
		conns := value("rauta_accept_queue_seconds_count")
		return conns != "" && conns == value(`rauta_request_stage_seconds_count{route="httproute/default/all",stage="accept_queue"}`)
	})
	if first, all := value("rauta_accept_queue_seconds_count"), value("rauta_connections_total"); first != all {
		t.Errorf("%s of %s connections have a wait", first, all)
	}
}
