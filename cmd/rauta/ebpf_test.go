package main

import (
	"io"
	"net/http"
	"os"
	"os/exec"
	"strings"
	"testing"
)

func TestTheKernelsTierIsAMetricAndOffIsOff(t *testing.T) {
	i := start(t, echoBackend(t))
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

func TestWithoutPermissionsRautaServesAndRequireDoesNotStart(t *testing.T) {
	setpriv, err := exec.LookPath("setpriv")
	if err != nil || os.Geteuid() != 0 {
		t.Skip("permissions are taken away by setpriv, as root")
	}
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
	i := startAs(t, []string{setpriv, "--no-new-privs", "--bounding-set=-all", "--inh-caps=-all", "--"}, echoBackend(t))
	if text := i.get(i.metrics, "/metrics"); !strings.Contains(text, `rauta_ebpf_tier{tier="none",reason="not permitted`) {
		t.Fatalf("without permissions the metrics are\n%s", text)
	}
}

func TestTheFirstRequestOfAConnectionHasItsWaitToBeAccepted(t *testing.T) {
	i := start(t, echoBackend(t))
	text := i.get(i.metrics, "/metrics")
	if strings.Contains(text, `rauta_ebpf_tier{tier="none"`) {
		t.Skip("the kernel tells nothing here")
	}
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
