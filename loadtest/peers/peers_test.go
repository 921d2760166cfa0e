package peers

import (
	"crypto/x509"
	"encoding/pem"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	gatewayv1 "sigs.k8s.io/gateway-api/apis/v1"
	"sigs.k8s.io/yaml"
)

func testEnvironment(t *testing.T) Environment {
	return Environment{Folder: t.TempDir(), Port: 18080, AdminPort: 18081, MetricsPort: 18082, BackendPort: 18083, Routes: 2500, Descriptors: 20000}
}

// decode reads every object of a folder strictly, by kind.
func decode(t *testing.T, folder string) map[string][]any {
	t.Helper()
	objects := map[string][]any{}
	files, err := filepath.Glob(filepath.Join(folder, "*.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		for document := range strings.SplitSeq(string(text), "---\n") {
			kind, _, _ := strings.Cut(document[strings.Index(document, "kind: ")+len("kind: "):], "\n")
			object := map[string]any{"GatewayClass": &gatewayv1.GatewayClass{}, "Gateway": &gatewayv1.Gateway{},
				"HTTPRoute": &gatewayv1.HTTPRoute{}, "Service": &corev1.Service{}, "EndpointSlice": &discoveryv1.EndpointSlice{},
				"Secret": &corev1.Secret{}}[kind]
			if object == nil {
				t.Fatalf("%s: unexpected kind %q", file, kind)
			}
			if err := yaml.UnmarshalStrict([]byte(document), object); err != nil {
				t.Fatalf("%s: %v in\n%s", file, err, document)
			}
			objects[kind] = append(objects[kind], object)
		}
	}
	return objects
}

func TestRAUTAsConfigurationIsValidYAMLWithEveryRouteOnce(t *testing.T) {
	e := testEnvironment(t)
	if err := writeRAUTA(e.Folder, e); err != nil {
		t.Fatal(err)
	}
	objects := decode(t, e.Folder)
	paths := map[string]bool{}
	for _, object := range objects["HTTPRoute"] {
		route := object.(*gatewayv1.HTTPRoute)
		paths[string(route.Spec.Hostnames[0])+*route.Spec.Rules[0].Matches[0].Path.Value] = true
	}
	if len(objects["HTTPRoute"]) != e.Routes || len(paths) != e.Routes || !paths[RouteHost(2499)+RoutePath(2499)] {
		t.Errorf("%d routes with %d distinct paths, want %d", len(objects["HTTPRoute"]), len(paths), e.Routes)
	}
	class := objects["GatewayClass"][0].(*gatewayv1.GatewayClass)
	gateway := objects["Gateway"][0].(*gatewayv1.Gateway)
	slice := objects["EndpointSlice"][0].(*discoveryv1.EndpointSlice)
	if class.Spec.ControllerName != "rauta.io/gateway-controller" || gateway.Spec.Listeners[0].Port != 18080 ||
		*slice.Ports[0].Port != 18083 || slice.Labels[discoveryv1.LabelServiceName] != objects["Service"][0].(*corev1.Service).Name {
		t.Errorf("controller %s, listener %d, endpoint %d", class.Spec.ControllerName, gateway.Spec.Listeners[0].Port, *slice.Ports[0].Port)
	}
}

func TestAReloadPutsTheGenerationIntoRouteZeroAndLeavesNoOtherFile(t *testing.T) {
	e := testEnvironment(t)
	e.Routes = 2
	config := filepath.Join(e.Folder, "config")
	if err := writeRAUTA(config, e); err != nil {
		t.Fatal(err)
	}
	before, err := os.ReadDir(config)
	if err != nil {
		t.Fatal(err)
	}
	program := filepath.Join(e.Folder, "rauta")
	if err := os.WriteFile(program, []byte("#!/bin/sh\necho rauta 1.2.3\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	rauta, err := RAUTA(program, "loop")
	if err != nil {
		t.Fatal(err)
	}
	if rauta.Version != "rauta 1.2.3" {
		t.Errorf("version %q", rauta.Version)
	}
	if err := rauta.Reload(e, 0, 7); err != nil {
		t.Fatal(err)
	}
	for _, object := range decode(t, config)["HTTPRoute"] {
		route := object.(*gatewayv1.HTTPRoute)
		filters := route.Spec.Rules[0].Filters
		if changed := len(filters) == 1 && filters[0].ResponseHeaderModifier.Set[0].Value == "7"; changed != (route.Name == "route-0") {
			t.Errorf("%s has filters %v", route.Name, filters)
		}
	}
	if after, err := os.ReadDir(config); err != nil || len(after) != len(before) {
		t.Errorf("%d files before, %d after, %v", len(before), len(after), err)
	}
}

func TestThePeersKeepConnectionsAliveAndForwardTheSameFields(t *testing.T) {
	e := testEnvironment(t)
	for name, c := range map[string]struct {
		config string
		want   []string
	}{
		"nginx": {nginxConfig(e, 0), []string{"worker_processes 1;", "access_log off;", "keepalive 512;", "proxy_http_version 1.1;", `Connection "";`,
			"X-Forwarded-For $proxy", "X-Forwarded-Proto", "X-Forwarded-Host", "X-Real-IP", "listen 127.0.0.1:18080 backlog=4096;", "server 127.0.0.1:18083", "worker_connections 19800;"}},
		"haproxy": {haproxyConfig(e), []string{"nbthread 1\n", "http-reuse always\n", "option forwardfor\n", "X-Forwarded-Proto", "X-Forwarded-Host",
			"X-Real-IP", "bind 127.0.0.1:18080", "server backend 127.0.0.1:18083", "maxconn 19800\n"}},
	} {
		for _, want := range c.want {
			if !strings.Contains(c.config, want) {
				t.Errorf("%s has no %q in\n%s", name, want, c.config)
			}
		}
		if strings.Contains(c.config, "%!") {
			t.Errorf("%s has a formatting error in\n%s", name, c.config)
		}
	}
	if !strings.Contains(nginxConfig(e, 12), "add_header X-Generation 12;") {
		t.Error("nginx does not show the generation")
	}
}

func TestAMissingProgramIsNamedWithWhatToDo(t *testing.T) {
	_, err := RAUTA(filepath.Join(t.TempDir(), "rauta"), "loop")
	if err == nil || !strings.Contains(err.Error(), "make build") {
		t.Errorf("got %v", err)
	}
	t.Setenv("PATH", t.TempDir())
	if _, err := find("no-such-proxy"); err == nil || !strings.Contains(err.Error(), "make loadtest-deps") {
		t.Errorf("got %v", err)
	}
	for _, contender := range []func(string) (*Contender, error){NGINX, HAProxy} {
		if _, err := contender(filepath.Join(t.TempDir(), "gone")); err == nil || !strings.Contains(err.Error(), "make loadtest-peers") {
			t.Errorf("got %v", err)
		}
	}
}

func TestOnlyAnNGINXThatSpeaksHTTP2ToBackEndsIsAskedToDoSo(t *testing.T) {
	for version, speaks := range map[string]bool{
		"nginx version: nginx/1.22.1": false, "nginx version: nginx/1.29.3": false, "nginx version: nginx/1.29.4": true,
		"nginx version: nginx/1.30.0": true, "nginx version: nginx/2.0.0 (a build)": true, "something else": false,
	} {
		program := filepath.Join(t.TempDir(), "nginx")
		if err := os.WriteFile(program, []byte("#!/bin/sh\necho '"+version+"' >&2\n"), 0o755); err != nil {
			t.Fatal(err)
		}
		nginx, err := NGINX(program)
		if err != nil {
			t.Fatal(err)
		}
		if nginx.Version != version || nginx.Speaks(Speech{HTTP2: true, BackendHTTP2: true}) != speaks || !nginx.Speaks(Speech{BackendHTTP2: true, GRPC: true}) {
			t.Errorf("%s: version %q, speaks HTTP/2 to back ends: %v", version, nginx.Version, !speaks)
		}
	}
	e := testEnvironment(t)
	e.Speech = Speech{HTTP2: true, BackendHTTP2: true}
	if config := nginxConfig(e, 0); !strings.Contains(config, "proxy_http_version 2;") {
		t.Errorf("no HTTP/2 to the back end in\n%s", config)
	}
}

func TestThePeersAcceptTheirConfigurations(t *testing.T) {
	e := testEnvironment(t)
	e.Certificate, e.Key = writeTestCertificate(t, e.Folder)
	for _, speech := range []Speech{
		{}, {Secure: true}, {HTTP2: true}, {HTTP2: true, Secure: true}, {HTTP2: true, BackendHTTP2: true, GRPC: true}, {Upgrades: true}, {Upgrades: true, HTTP2: true}, {BackendTLS: true}, {TCP: true},
		{Passthrough: true}, {UDP: true}, {HTTP2: true, BackendHTTP2: true, BackendTLS: true}, {HTTP2: true, BackendHTTP2: true, BackendTLS: true, GRPC: true},
	} {
		e.Speech = speech
		for name, c := range map[string]struct {
			config string
			check  []string
		}{
			"nginx":   {nginxConfig(e, 3), []string{"-t", "-e", "stderr", "-c"}},
			"haproxy": {haproxyConfig(e), []string{"-c", "-f"}},
		} {
			path, err := find(name)
			if err != nil {
				t.Log(err)
				continue
			}
			if name == "haproxy" && speech.UDP || name == "nginx" && speech.BackendHTTP2 && !speech.GRPC && !nginxSpeaksHTTP2(firstLine(path, "-v")) {
				continue
			}
			if name == "nginx" && speech.forwarded() && !nginxForwards(path) {
				continue
			}
			file := filepath.Join(e.Folder, name+".conf")
			if err := os.WriteFile(file, []byte(c.config), 0o644); err != nil {
				t.Fatal(err)
			}
			if output, err := exec.Command(path, append(c.check, file)...).CombinedOutput(); err != nil {
				t.Errorf("%s with %+v: %v\n%s\n%s", name, speech, err, output, c.config)
			}
		}
	}
}

// writeTestCertificate uses the standard library's test server for what nobody checks here.
func writeTestCertificate(t *testing.T, folder string) (certificate, key string) {
	t.Helper()
	s := httptest.NewTLSServer(nil)
	defer s.Close()
	private, err := x509.MarshalPKCS8PrivateKey(s.TLS.Certificates[0].PrivateKey)
	if err != nil {
		t.Fatal(err)
	}
	certificate = filepath.Join(folder, "certificate.pem")
	for file, block := range map[string]*pem.Block{
		certificate:          {Type: "CERTIFICATE", Bytes: s.Certificate().Raw},
		certificate + ".key": {Type: "PRIVATE KEY", Bytes: private},
	} {
		if err := os.WriteFile(file, pem.EncodeToMemory(block), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return certificate, certificate + ".key"
}

func TestWhatIsSpokenShowsInRAUTAsConfiguration(t *testing.T) {
	e := testEnvironment(t)
	e.Certificate, e.Key = writeTestCertificate(t, e.Folder)
	e.Speech = Speech{Secure: true, HTTP2: true, BackendHTTP2: true}
	e.Routes = 2
	config := filepath.Join(e.Folder, "config")
	if err := writeRAUTA(config, e); err != nil {
		t.Fatal(err)
	}
	objects := decode(t, config)
	listener := objects["Gateway"][0].(*gatewayv1.Gateway).Spec.Listeners[0]
	secret := objects["Secret"][0].(*corev1.Secret)
	if listener.Protocol != gatewayv1.HTTPSProtocolType || string(listener.TLS.CertificateRefs[0].Name) != secret.Name || len(secret.Data) != 2 {
		t.Errorf("listener %+v, Secret %s", listener, secret.Name)
	}
	if protocol := objects["Service"][0].(*corev1.Service).Spec.Ports[0].AppProtocol; protocol == nil || *protocol != "kubernetes.io/h2c" {
		t.Errorf("appProtocol %v", protocol)
	}
}
