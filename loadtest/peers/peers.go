// Package peers knows how to configure and start each contender: RAUTA with either engine, nginx, haproxy and the
// bare loop.
//
// It owns their configurations, which give all of them the same features: one worker, keep-alive towards clients and
// back end, X-Forwarded-For, no access log, streamed request bodies, limits out of the way. It does not own processes
// or measuring. The scenarios call it.
package peers

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"
)

// Environment is what a contender is configured for.
type Environment struct {
	Folder      string // for its files; exists and belongs to it alone
	Port        int    // to listen on, 127.0.0.1
	AdminPort   int
	MetricsPort int
	BackendPort int    // on 127.0.0.1; of the back end that speaks what Speech says
	Routes      int    // number of routes, for contenders that route
	Descriptors uint64 // that a process may open
	Certificate string // file in PEM, for Speech.Secure
	Key         string
	Speech
}

// Speech is what a contender speaks on either side. The zero value is HTTP/1.1 on both.
type Speech struct {
	Secure       bool // TLS towards clients
	HTTP2        bool // towards clients; without TLS by prior knowledge
	BackendHTTP2 bool // towards the back end, by prior knowledge
	GRPC         bool // everything is gRPC, with BackendHTTP2
	Upgrades     bool // requests may ask for a WebSocket
	BackendTLS   bool // towards the back end, whose certificate nobody verifies
	TCP          bool // connections are forwarded without a look at what they carry
	Passthrough  bool // connections of TLS are forwarded by the server name; the back end has the certificate
	UDP          bool // datagrams are forwarded
}

// forwarded reports whether nobody but the back end looks at requests.
func (s Speech) forwarded() bool { return s.TCP || s.Passthrough || s.UDP }

// tunnels reports whether WebSockets come in streams of HTTP/2 (RFC 8441), which nginx does not know.
func (s Speech) tunnels() bool { return s.HTTP2 && s.Upgrades }

// Contender is one proxy that can take part.
type Contender struct {
	Name    string
	Version string
	Routes  bool // has Environment.Routes routes; others forward everything
	Counts  bool // turns of its loop and requests, on Environment.MetricsPort
	Speaks  func(Speech) bool
	prepare func(Environment) ([]string, error)
	reload  func(environment Environment, pid, generation int) error
}

// Command writes the contender's configuration and returns how to start it.
func (c *Contender) Command(environment Environment) (*exec.Cmd, error) {
	argv, err := c.prepare(environment)
	if err != nil {
		return nil, fmt.Errorf("configuring %s: %w", c.Name, err)
	}
	command := exec.Command(argv[0], argv[1:]...)
	command.Dir = environment.Folder
	return command, nil
}

// Reloads reports whether the contender can change its configuration while it runs.
func (c *Contender) Reloads() bool { return c.reload != nil }

// Reload changes the configuration so that answers carry the generation.
func (c *Contender) Reload(environment Environment, pid, generation int) error {
	if err := c.reload(environment, pid, generation); err != nil {
		return fmt.Errorf("changing the configuration of %s: %w", c.Name, err)
	}
	return nil
}

// BareLoop is this program itself, in its role as the yardstick.
func BareLoop(self string) *Contender {
	return &Contender{Name: "bare loop", Version: "", Speaks: func(s Speech) bool { return s == Speech{} }, prepare: func(e Environment) ([]string, error) {
		return []string{self, "bareloop", fmt.Sprint(e.Port), fmt.Sprint(e.BackendPort)}, nil
	}}
}

// RAUTA is the program at path with the given engine (loop or reference), and further flags of serve.
func RAUTA(path, engine string, flags ...string) (*Contender, error) {
	path, err := filepath.Abs(path)
	if err != nil {
		return nil, err
	}
	if _, err := os.Stat(path); err != nil {
		return nil, fmt.Errorf("rauta (%s): not found at %s, run make build or give -rauta", engine, path)
	}
	return &Contender{
		Name:    "rauta " + engine,
		Version: firstLine(path, "version"),
		Routes:  true,
		Counts:  engine == "loop",
		Speaks: func(s Speech) bool {
			return engine == "loop" || !s.Secure && !s.BackendHTTP2 && !s.BackendTLS && !s.forwarded() && !s.tunnels() // the reference engine has only what it is compared in
		},
		prepare: func(e Environment) ([]string, error) {
			config := filepath.Join(e.Folder, "config")
			if err := writeRAUTA(config, e); err != nil {
				return nil, err
			}
			return append([]string{path, "serve", "--config", config, "--bind", "127.0.0.1", "--http-port", fmt.Sprint(e.Port),
				"--admin", fmt.Sprintf("127.0.0.1:%d", e.AdminPort), "--metrics", fmt.Sprintf("127.0.0.1:%d", e.MetricsPort),
				"--workers", "1", "--engine", engine, "--access-log", "off", "--log-level", "warn"}, flags...), nil
		},
		reload: func(e Environment, _, generation int) error {
			return replaceFile(filepath.Join(e.Folder, "config", changingFile), []byte(routesYAML(0, 1, generation)))
		},
	}, nil
}

// NGINX is the program at path, or the nginx found in the search path for "".
func NGINX(path string) (*Contender, error) {
	path, err := locate("nginx", path)
	if err != nil {
		return nil, err
	}
	version, streams := firstLine(path, "-v"), nginxForwards(path)
	return &Contender{
		Name:    "nginx",
		Version: version,
		Speaks: func(s Speech) bool {
			return (!s.BackendHTTP2 || s.GRPC || nginxSpeaksHTTP2(version)) && (!s.forwarded() || streams) && !s.tunnels()
		},
		prepare: func(e Environment) ([]string, error) {
			file := filepath.Join(e.Folder, "nginx.conf")
			if err := os.WriteFile(file, []byte(nginxConfig(e, 0)), 0o644); err != nil {
				return nil, err
			}
			return []string{path, "-p", e.Folder, "-c", file, "-e", filepath.Join(e.Folder, "error.log")}, nil
		},
		reload: func(e Environment, pid, generation int) error {
			if err := replaceFile(filepath.Join(e.Folder, "nginx.conf"), []byte(nginxConfig(e, generation))); err != nil {
				return err
			}
			return syscall.Kill(pid, syscall.SIGHUP)
		},
	}, nil
}

// nginxSpeaksHTTP2 reports whether the version can speak HTTP/2 to back ends that are not gRPC: since 1.29.4.
func nginxSpeaksHTTP2(version string) bool {
	var major, minor, patch int
	_, number, _ := strings.Cut(version, "nginx/")
	if _, err := fmt.Sscanf(number, "%d.%d.%d", &major, &minor, &patch); err != nil {
		return false
	}
	return slices.Compare([]int{major, minor, patch}, []int{1, 29, 4}) >= 0
}

// nginxForwards reports whether the program can forward connections by itself. Distributions have a module for that,
// whose place only they know.
func nginxForwards(path string) bool {
	ctx, cancel := context.WithTimeout(context.Background(), versionTimeMax)
	defer cancel()
	output, _ := exec.CommandContext(ctx, path, "-V").CombinedOutput()
	return slices.Contains(strings.Fields(string(output)), "--with-stream")
}

// HAProxy is the program at path, or the haproxy found in the search path for "".
func HAProxy(path string) (*Contender, error) {
	path, err := locate("haproxy", path)
	if err != nil {
		return nil, err
	}
	return &Contender{
		Name:    "haproxy",
		Version: firstLine(path, "-v"),
		// Over TLS it opens connections of HTTP/1.1 to this back end again and again, for reasons that are not known: no fair
		// comparison. Forwarding UDP is nothing that it does.
		Speaks: func(s Speech) bool { return (!s.BackendTLS || s.BackendHTTP2) && !s.UDP },
		prepare: func(e Environment) ([]string, error) {
			file := filepath.Join(e.Folder, "haproxy.cfg")
			if err := os.WriteFile(file, []byte(haproxyConfig(e)), 0o644); err != nil {
				return nil, err
			}
			return []string{path, "-db", "-f", file}, nil
		},
	}, nil
}

// locate checks the path that was given, or finds the name.
func locate(name, path string) (string, error) {
	if path == "" {
		return find(name)
	}
	path, err := filepath.Abs(path)
	if err != nil {
		return "", err
	}
	if _, err := exec.LookPath(path); err != nil {
		return "", fmt.Errorf("%s: %w; run make loadtest-peers or give another -%s", name, err, name)
	}
	return path, nil
}

// find looks in the administrator's folders too, where Debian puts servers and a user's search path often does not.
func find(name string) (string, error) {
	if path, err := exec.LookPath(name); err == nil {
		return path, nil
	}
	for _, folder := range []string{"/usr/sbin", "/usr/local/sbin"} {
		if path, err := exec.LookPath(filepath.Join(folder, name)); err == nil {
			return path, nil
		}
	}
	return "", fmt.Errorf("%s: not found, apt-get install %s or make loadtest-deps", name, name)
}

// versionTimeMax is how long a program may take to tell its version.
const versionTimeMax = 5 * time.Second

// firstLine is what a program says about itself, wherever it says it.
func firstLine(path string, arguments ...string) string {
	ctx, cancel := context.WithTimeout(context.Background(), versionTimeMax)
	defer cancel()
	output, err := exec.CommandContext(ctx, path, arguments...).CombinedOutput()
	if err != nil && len(output) == 0 {
		return ""
	}
	line, _, _ := strings.Cut(strings.TrimSpace(string(output)), "\n")
	return line
}

// replaceFile changes a file in one step, so that a watcher never reads half of it.
func replaceFile(path string, content []byte) error {
	temporary := filepath.Join(filepath.Dir(path), "."+filepath.Base(path)+".new")
	if err := os.WriteFile(temporary, content, 0o644); err != nil {
		return err
	}
	return os.Rename(temporary, path)
}
