package archtest

// The import rule. It says for each package which of ours it may import; a package that is missing here must be added.
// Engines say how bytes look on the wire and exchange says what happens, so exchange never sees an engine. Control
// never imports anything below config, and the data plane never imports anything of control.

// allowed are the edges of the design, by package. A trailing /... stands for the package and all below it.
func allowed() map[string][]string {
	return map[string][]string{
		"proxy/config":  {},
		"proxy/message": {},
		"proxy/observe": {},

		"fastpath/wire":  {"proxy/message"},
		"proxy/loop":     {"proxy/observe"},
		"proxy/route":    {"proxy/config", "proxy/message"},
		"proxy/filter":   {"proxy/config", "proxy/message"},
		"proxy/certs":    {"proxy/config", "proxy/message"},
		"proxy/upstream": {"proxy/config", "proxy/message", "proxy/observe"},
		"proxy/snapshot": {"proxy/config", "proxy/route", "proxy/filter", "proxy/certs", "proxy/upstream", "proxy/observe"},
		"proxy/exchange": {"proxy/message", "proxy/route", "proxy/filter", "proxy/upstream", "proxy/snapshot", "proxy/observe"},
		"proxy/lane":     {"proxy/message", "proxy/filter", "proxy/observe"},
		"fastpath": {
			"fastpath/wire", "proxy/message", "proxy/loop", "proxy/upstream", "proxy/exchange", "proxy/snapshot", "proxy/observe",
		},
		"h2":           {"proxy/message", "proxy/loop", "proxy/upstream", "proxy/exchange", "proxy/snapshot", "proxy/observe"},
		"proxy/l4":     {"proxy/message", "proxy/loop", "proxy/upstream", "proxy/exchange", "proxy/snapshot", "proxy/observe"},
		"proxy/admin":  {"proxy/snapshot", "proxy/exchange", "proxy/upstream", "proxy/observe"},
		"proxy/server": {"proxy/...", "fastpath/...", "h2/..."},
		"bpf":          {"proxy/observe"},

		"control/translate": {"control/share", "proxy/config"},
		"control/watch":     {"control/fair", "control/kube", "control/pause", "control/share", "control/translate"},
		"control/status":    {"control/fair", "control/kube", "control/pause", "control/share", "control/translate"},
		"control/share":     {},
		"control/fair":      {},
		"control/pause":     {},
		"control/kube":      {},
		"control/pack":      {},
		"control/lead":      {"control/kube", "control/pause"},
		"control/store":     {"proxy/config"},
		"control":           {"proxy/config", "control/..."},

		"cmd/rauta": {"bpf/...", "control/...", "fastpath/...", "h2/...", "internal/...", "proxy/..."},
	}
}

// edge is one import that the design's table does not have.
type edge struct{ from, to, why string }

func additions() []edge {
	const order = "one list whose nodes are part of what they hold"
	const wheel = "timers and the turn's clock are injected, so that tests run on simulated time"
	return []edge{
		{"proxy/loop", "proxy/clock", wheel},
		{"proxy/upstream", "proxy/clock", wheel},
		{"proxy/exchange", "proxy/clock", wheel},
		{"fastpath", "proxy/clock", wheel},
		{"fastpath/reference", "proxy/clock", wheel},
		{"h2", "proxy/clock", wheel},
		{"h2", "h2/hpack", "header compression is a codec without connections, as fastpath/wire is"},
		{"h2/hpack", "proxy/message", "fields have the ids and views of heads"},
		{"proxy/l4", "proxy/clock", wheel},

		{"proxy/exchange", "proxy/certs", "a peer is who its handshake has shown, and may have been made under a policy of the past"},
		{"fastpath", "proxy/list", order},
		{"h2", "proxy/list", order},
		{"proxy/exchange", "proxy/list", order},
		{"proxy/l4", "proxy/list", order},
		{"proxy/loop", "proxy/list", order},
		{"proxy/upstream", "proxy/list", order},

		{"proxy/exchange", "proxy/config", "the limits and timeouts of a rule carry config's types"},
		{"proxy/l4", "proxy/certs", "why a handshake with a back end failed, as a token"},
		{"proxy/l4", "proxy/config", "what a cluster hashes is one of config's kinds"},
		{"proxy/snapshot", "proxy/message", "Match and Explain take a request's head"},
		{"proxy/upstream", "proxy/certs", "the connections to an endpoint are all made under one TLS policy"},
		{"proxy/dial", "proxy/certs", "how an endpoint is to be secured, and what is wrong with a handshake"},
		{"proxy/dial", "proxy/clock", wheel},
		{"proxy/dial", "proxy/config", "what is spoken to an endpoint"},
		{"proxy/dial", "proxy/loop", "it connects for the engines, which take connections over when they are open"},
		{"proxy/dial", "proxy/upstream", "pools ask it for connections"},
		{"fastpath", "proxy/proxyproto", "a PROXY header comes before the first head"},
		{"proxy/exchange", "proxy/trace", "a request becomes part of a trace, in which each attempt has a name of its own"},
		{"proxy/otlp", "proxy/observe", "it exports the spans that observe keeps"},
		{"proxy/trace", "proxy/message", "a trace context is read from views of a head and written into it"},
		{"proxy/exchange", "proxy/websocket", "a tunnel closes where no frame is under way"},
		{"fastpath", "proxy/websocket", "it opens WebSockets for clients that asked in HTTP/2"},
		{"h2", "proxy/websocket", "extended CONNECT stands for the upgrade that HTTP/1 has"},

		{"fastpath/reference", "fastpath", "both engines have the same limits"},
		{"fastpath/reference", "fastpath/wire", "both engines classify bad heads by the same reasons"},
		{"fastpath/reference", "proxy/certs", "what a handshake with a back end has failed for"},
		{"fastpath/reference", "proxy/config", "which protocol it offers to back ends"},
		{"fastpath/reference", "proxy/exchange", "the settings of the pipeline, and its forwarding fields"},
		{"fastpath/reference", "proxy/filter", "the same edits"},
		{"fastpath/reference", "proxy/message", "the same heads"},
		{"fastpath/reference", "proxy/observe", "the same records"},
		{"fastpath/reference", "proxy/proxyproto", "the same PROXY headers"},
		{"fastpath/reference", "proxy/snapshot", "the same rules"},
		{"fastpath/reference", "proxy/upstream", "the same pickers"},

		{"internal/top", "proxy/observe", "it shows the stages and metrics by the names that they are counted under"},
		{"internal/monitoring", "proxy/observe", "the dashboard is made from the table of metrics"},
		{"test/clients", "internal/demo", "it runs what make run runs, on other ports"},
		{"loadtest", "loadtest/...", "it measures from outside and imports nothing of the product"},
		{"loadtest", "internal/testrig", "its free ports, and certificates"},
		{"loadtest/bareloop", "loadtest/rawio", "raw sockets"},
		{"loadtest/generator", "loadtest/procfs", "CPU time of the proxy under test"},
		{"loadtest/generator", "loadtest/rawio", "raw sockets"},
		{"loadtest/generator", "loadtest/stats", "latency histograms"},
		{"loadtest/changes", "internal/testrig", "certificates"},
		{"loadtest/generator", "internal/testrig", "the certificate of the back end"},
		{"loadtest/memory", "loadtest/procfs", "CPU time until it is ready"},
		{"loadtest/memory", "internal/testrig", "its free ports, and certificates"},
		{"loadtest/changes", "loadtest/stats", "histograms of how long changes take"},
		{"loadtest/peers", "loadtest/generator", "what the back end answers"},
	}
}

// standalone packages import nothing of ours.
func standalone() []string {
	return []string{
		"bench", "internal/archtest", "internal/demo", "internal/testrig", "loadtest/process", "loadtest/procfs", "loadtest/rawio", "loadtest/stats",
		"internal/testrig/collector", "proxy/clock", "proxy/list", "proxy/proxyproto", "proxy/websocket", "test/blackbox", "test/grpc",
		"test/cluster", "test/cluster/plane", "test/conformance", "test/conformance/standin",
	}
}

// owner says that of all our packages only some may import a package, or those below it.
type owner struct {
	imported string
	by       []string
	why      string
}

func owners() []owner {
	return []owner{
		{"k8s.io/client-go", []string{"control", "control/kube", "control/lead", "control/watch", "control/status", "test/cluster/..."},
			"translate is pure, and the data plane knows no cluster"},
		{"sigs.k8s.io/gateway-api/pkg/client", []string{"control", "control/watch", "control/status"}, "the same"},
		{"k8s.io", []string{"control/...", "test/cluster/..."}, "Kubernetes objects never reach the data plane"},
		{"sigs.k8s.io", []string{"control/...", "cmd/rauta", "internal/monitoring", "test/cluster/..."}, "Kubernetes objects never reach the data plane; cmd prints YAML"},
		{"github.com/cilium/ebpf", []string{"bpf/..."}, "one place loads programs"},
		{"golang.org/x/net/http2", []string{"h2/...", "fastpath/reference", "loadtest/generator"},
			"one codec per engine; the load test's is outside the product"},
		{"crypto/tls", []string{"proxy/certs", "proxy/loop", "proxy/otlp", "fastpath/reference", "loadtest/...", "test/cluster"},
			"certificates and transports; engines see bytes, but the plain one, which has no transport; the exporter and the load test are clients"},
		{"unsafe", []string{"proxy/loop", "fastpath/wire", "proxy/message", "bpf/...", "loadtest/rawio"},
			"system calls and views; loadtest/rawio makes the same system calls outside the product"},
		{"github.com/valyala/fasthttp", []string{"proxy/lane", "proxy/admin", "fastpath/reference"}, "the extension contract, off the loop"},
		{"github.com/VictoriaMetrics/metrics", []string{"proxy/observe"}, "one place knows the exposition"},
		{"github.com/klauspost/cpuid", []string{"fastpath/wire"}, "one place chooses instructions"},
		{"github.com/fsnotify/fsnotify", []string{"control/watch"}, "one place follows files"},
		{"go.opentelemetry.io", []string{"proxy/otlp", "internal/testrig/collector"}, "one place exports spans, off the loop; tests have a collector for it"},
		{"github.com/spf13", []string{"cmd/rauta", "test/cluster/plane"}, "one command line"},
		{"charm.land", []string{"internal/top"}, "one live screen"},
		{"github.com/prometheus", []string{"internal/top"}, "observe writes metrics, and only top reads them"},
		{"github.com/coder/websocket", []string{"internal/demo"}, "tunnels need no WebSocket library"},
		{"net/http", []string{"cmd/rauta", "control/kube", "internal/demo", "internal/testrig/collector", "internal/top", "loadtest/...", "fastpath/reference", "proxy/admin", "proxy/exchange", "test/cluster/..."},
			"the data plane has its own HTTP; admin adapts the standard profiles, exchange takes the texts of status codes only; client-go has its connections in it"},
	}
}

// loopOwned packages run on the loop's thread: they start no goroutine, take no lock and read no clock of their own.
func loopOwned() []string {
	return []string{
		"fastpath", "fastpath/wire", "h2", "proxy/clock", "proxy/exchange", "proxy/filter", "proxy/list", "proxy/message", "proxy/proxyproto",
		"proxy/websocket", "h2/hpack", "proxy/dial", "proxy/l4", "proxy/trace",
	}
}

// goroutineFree packages start no goroutine, but may be called from several.
func goroutineFree() []string {
	return append(loopOwned(), "proxy/certs", "proxy/config", "proxy/route", "proxy/snapshot", "proxy/upstream", "control/translate")
}
