package main

import (
	"bytes"
	"context"
	"encoding/json"
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

var update = flag.Bool("update", false, "write the golden files")

const quickstart = "../../examples/quickstart"

// command runs one command line in this process.
func command(args ...string) (code int, stdout, stderr string) {
	var out, err bytes.Buffer
	code = run(context.Background(), args, &out, &err)
	return code, out.String(), err.String()
}

// golden compares with a file below testdata.
func golden(t *testing.T, name, got string) {
	t.Helper()
	path := filepath.Join("testdata", name)
	if *update {
		if err := os.WriteFile(path, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if got != string(want) {
		t.Errorf("%s differs (-update writes it anew); got:\n%s", path, got)
	}
}

func TestCheckNamesEveryKindOfBrokenInput(t *testing.T) {
	code, out, _ := command("check", "testdata/broken")
	if code != exitFailed {
		t.Errorf("exit code %d, want %d", code, exitFailed)
	}
	golden(t, "broken.txt", out)
	for i := 1; i <= 13; i++ {
		found, _ := filepath.Glob(filepath.Join("testdata/broken", strings.Replace("0N-*", "0N", twoDigits(i), 1)))
		if len(found) != 1 || !strings.Contains(out, found[0]+":") {
			t.Errorf("nothing is said about broken input %d, %v", i, found)
		}
	}
}

func twoDigits(n int) string { return string([]byte{'0' + byte(n/10), '0' + byte(n%10)}) }

func TestCheckAsJSONSaysTheSame(t *testing.T) {
	code, out, _ := command("check", "-o", "json", "testdata/broken")
	var r checkReport
	if err := json.Unmarshal([]byte(out), &r); err != nil {
		t.Fatal(err)
	}
	if code != exitFailed || r.Errors != 13 || r.Warnings != 2 || len(r.Problems) != 15 || !r.Unreadable {
		t.Errorf("exit code %d, %d errors, %d warnings, %d problems", code, r.Errors, r.Warnings, len(r.Problems))
	}
	for _, p := range r.Problems {
		if p.File == "" || p.Line == 0 || p.Message == "" || p.Hint == "" && p.Severity == "Error" {
			t.Errorf("incomplete: %+v", p)
		}
	}
}

func TestCheckIsContentWithTheQuickstart(t *testing.T) {
	code, out, stderr := command("check", quickstart, "--status")
	if code != 0 || stderr != "" || !strings.HasSuffix(out, "\n0 errors, 0 warnings in 14 objects; 3 routes would be served\n") {
		t.Errorf("exit code %d: %s%s", code, out, stderr)
	}
	for _, want := range []string{"gatewayClasses:", "type: Programmed", "type: ResolvedRefs"} {
		if !strings.Contains(out, want) {
			t.Errorf("--status lacks %q", want)
		}
	}
}

func TestCheckExitsWithZeroOnWarnings(t *testing.T) {
	code, out, _ := command("check", "testdata/broken/13-later-kind.yaml")
	if code != 0 || !strings.Contains(out, "0 errors, 1 warning in ") {
		t.Errorf("exit code %d: %s", code, out)
	}
}

func TestExplainTellsTheOutcomeAndWhy(t *testing.T) {
	for name, args := range map[string][]string{
		"forward.txt":  {"GET", "http://shop.localhost:8080/api/items?x=1", "-H", "X-Canary: yes"},
		"redirect.txt": {"GET", "http://shop.localhost:8080/old/page"},
		"noroute.txt":  {"GET", "http://nobody.localhost:8080/"},
		"refused.txt":  {"GET", "http://shop.localhost:8080/", "-H", "Host: a", "-H", "Host: b"},
		"forward.json": {"POST", "http://shop.localhost:8080/orders", "-o", "json"},
	} {
		t.Run(name, func(t *testing.T) {
			code, out, stderr := command(append([]string{"explain", "--http-port", "8080", "--config", quickstart}, args...)...)
			if code != 0 || stderr != "" {
				t.Errorf("exit code %d: %s", code, stderr)
			}
			golden(t, filepath.Join("explain", name), out)
		})
	}
}

func TestWrongCommandLinesExitWithTwoAndSayWhatIsExpected(t *testing.T) {
	for line, want := range map[string]string{
		"nonsense":                                           `unknown command "nonsense"`,
		"serve":                                              "give --config PATH for files, or --kubeconfig FILE",
		"serve --config x --kubeconfig y":                    "--kubeconfig is about a cluster",
		"serve --config x --watch-namespace a":               "--watch-namespace is about a cluster",
		"serve --kubeconfig missing.yaml":                    "missing.yaml",
		"serve --context c":                                  "--context \"c\": is about a kubeconfig",
		"serve --watch-namespace=":                           "--watch-namespace is empty",
		"serve --watch-selector ==":                          `--watch-selector "=="`,
		"serve --kube-api-qps 0":                             "--kube-api-qps 0: must be positive",
		"serve --event-qps 0":                                "--event-qps 0: must be positive",
		"serve --kube-api-burst 0":                           "--kube-api-burst 0: must be at least 1",
		"serve --config x --state-dir y":                     "--state-dir is about a cluster",
		"serve --kubeconfig x --state-key-file y":            "--state-key-file: has no use without --state-dir",
		"serve path":                                         `unexpected argument "path": give the configuration with --config`,
		"serve --config x --nonsense":                        "unknown flag: --nonsense",
		"serve --config x --workers=-1":                      "--workers -1: must be from 1",
		"serve --config x --workers many":                    `invalid argument "many"`,
		"serve --config x --http-port 0":                     "--http-port and --https-port must be from 1",
		"serve --config x --http-port 70000":                 `invalid argument "70000"`,
		"serve --config x --http-port 443":                   "both 443",
		"serve --config x --bind localhost":                  `--bind "localhost": must be an IP address`,
		"serve --config x --bind 127.0.0.1:80":               `--bind "127.0.0.1:80": must be an IP address without a port`,
		"serve --config x --admin 9090":                      `--admin "9090": must be ADDRESS:PORT`,
		"serve --config x --metrics example.com:80":          `--metrics "example.com:80": must be ADDRESS:PORT`,
		"serve --config x --engine warp":                     `--engine "warp": must be loop`,
		"serve --config x --trusted-proxies 10.0.0.1/8":      "did you mean 10.0.0.0/8?",
		"serve --config x --trusted-proxies all":             `--trusted-proxies "all": must be CIDRs`,
		"serve --config x --gateway-address-pool ten":        "must be CIDRs such as",
		"serve --config x --gateway-address-pool 10.0.0.1/8": "did you mean 10.0.0.0/8?",
		"serve --config x --gateway-address-pool ::/0":       "no host can have",
		"serve --config x --access-log=":                     "--access-log is empty",
		"serve --config x --error-log=":                      "--error-log is empty",
		"serve --config x --access-log=a --error-log=a":      "is the access log",
		"serve --config x --log-level loud":                  `--log-level "loud": must be debug`,
		"serve --config x --log-level INFO+3":                `--log-level "INFO+3": must be debug`,
		"serve --config x --log-format xml":                  `--log-format "xml": must be text or json`,
		"serve --config x --drain-delay=-1s":                 "--drain-delay -1s: must be from 0s",
		"serve --config x --drain-time 25":                   `invalid argument "25"`,
		"serve --config x --drain-time 2h":                   "--drain-time 2h0m0s: must be from 0s to 1h0m0s",
		"serve --config x --max-connections=-1":              "--max-connections -1: must be from 1",
		"serve --config x --max-head-bytes 131073":           "--max-head-bytes 131073: must be from 1024 to 131072",
		"serve --config x --requests-per-connection=-1":      "--requests-per-connection -1: must not be negative",
		"serve --config x --ingress-class=":                  "must not be empty",
		"check":                                              "give either files and folders to check, or --kubeconfig FILE",
		"check x -o yaml":                                    `--output "yaml": must be text or json`,
		"explain GET http://a/":                              "give either --config PATH, --kubeconfig FILE or --admin URL",
		"explain --config x --admin http://a GET http://a/":  "give either --config PATH, --kubeconfig FILE or --admin URL",
		"check x --watch-namespace a":                        "--watch-namespace is about a cluster: give --kubeconfig FILE",
		"check x --kubeconfig k":                             "give either files and folders to check, or --kubeconfig FILE",
		"check --kubeconfig absent.yaml":                     "read kubeconfig absent.yaml",
		"explain --kubeconfig k --admin x GET http://a/":     "give either --config PATH, --kubeconfig FILE or --admin URL",
		"explain --config x GET":                             "accepts 2 arg(s)",
		"explain --admin 127.0.0.1:9090 GET http://a/":       "must be a URL such as http://127.0.0.1:9090",
		"explain --config x -H=a GET http://a/ --output xml": `--output "xml"`,
	} {
		code, out, stderr := command(strings.Split(line, " ")...)
		if code != exitUsage || out != "" || !strings.Contains(stderr, want) || !strings.Contains(stderr, "rauta help") {
			t.Errorf("rauta %s: exit code %d, want %d and %q, got: %s", line, code, exitUsage, want, stderr)
		}
	}
}

func TestQuestionsThatCannotBeAskedAreExplained(t *testing.T) {
	for url, want := range map[string]string{
		"shop.localhost/":              "write http://host/path",
		"ftp://shop.localhost/":        "the scheme must be http, https, tls, tcp or udp",
		"http:///path":                 "it has no host",
		"http://shop.localhost:99999/": "its port must be a number from 1 to 65535",
		"http://shop.localhost:81/":    "nothing listens on port 81: the listeners are on [::]:8080",
		"http://a/\r\nX: y":            "a line break can't be part of",
	} {
		code, _, stderr := command("explain", "--http-port", "8080", "--config", quickstart, "GET", url)
		if code != exitFailed || !strings.Contains(stderr, want) {
			t.Errorf("%q: exit code %d, want %d and %q, got: %s", url, code, exitFailed, want, stderr)
		}
	}
}

func TestHelpAndCompletionsAreThere(t *testing.T) {
	for line, want := range map[string]string{
		"":                "rauta check examples/quickstart",
		"help serve":      "--trusted-proxies",
		"version":         "rauta dev (revision ",
		"completion bash": "bash completion",
	} {
		code, out, stderr := command(strings.Fields(line)...)
		if code != 0 || !strings.Contains(out, want) {
			t.Errorf("rauta %s: exit code %d, want %q, got: %s%s", line, code, want, out, stderr)
		}
	}
}
