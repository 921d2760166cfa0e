package cluster

import (
	"context"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"

	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/client-go/discovery/cached/memory"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/restmapper"
)

// Ports that the control plane listens on. One network has one control plane at a time.
const (
	apiServerPort = "6443"
	etcdClients   = "http://127.0.0.1:2379"
	etcdPeers     = "http://127.0.0.1:2380"
	// A test binary asks for more than the client's limits for programs in clusters permit.
	clientQueriesPerSecond = 1000
)

// controllers are those that tests need; each one more makes everything slower. The scheduler's work is done by Node.
func controllers() []string {
	return []string{
		"deployment-controller", "replicaset-controller", "daemonset-controller", "disruption-controller",
		"endpointslice-controller", "namespace-controller", "serviceaccount-controller",
		"garbage-collector-controller", "root-ca-certificate-publisher-controller",
	}
}

// Plane is a running control plane.
type Plane struct {
	folder    string
	token     string // of an administrator
	etcd      *Process
	apiServer *Process // nil while it is away
	manager   *Process

	// AuditUser is whose requests the API server writes down; to be set before the start. See Audited.
	AuditUser string
	// APIServerFlags are further flags of the API server, from its next start on.
	APIServerFlags []string

	config    *rest.Config
	clients   kubernetes.Interface
	dynamic   dynamic.Interface
	mapper    meta.ResettableRESTMapper
	addresses atomic.Uint32 // given to pods so far
	scheduler *scheduler
}

// Start starts a control plane, which ends with the test.
func Start(t testing.TB) *Plane {
	t.Helper()
	p, err := New()
	if err == nil {
		t.Cleanup(p.Stop)
		err = p.Start(t.Context())
	}
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// New makes a control plane that has not been started, for those that several tests share.
func New() (*Plane, error) {
	if Folder() == "" {
		return nil, errors.New("TestMain has to call cluster.Main")
	}
	folder, err := os.MkdirTemp(Folder(), "plane-")
	if err != nil {
		return nil, err
	}
	var random [16]byte
	rand.Read(random[:])
	p := &Plane{folder: folder, token: hex.EncodeToString(random[:])}
	p.scheduler = newScheduler(p)
	return p, p.writeSecrets()
}

// writeSecrets makes the key that signs tokens of service accounts, and the token of the administrator.
func (p *Plane) writeSecrets() error {
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		return err
	}
	block := &pem.Block{Type: "RSA PRIVATE KEY", Bytes: x509.MarshalPKCS1PrivateKey(key)}
	if err := os.WriteFile(p.path("sa.key"), pem.EncodeToMemory(block), 0o600); err != nil {
		return err
	}
	return os.WriteFile(p.path("tokens.csv"), fmt.Appendf(nil, "%s,admin,admin,system:masters\n", p.token), 0o600)
}

func (p *Plane) path(name string) string { return filepath.Join(p.folder, name) }

// Start starts etcd, the API server and the controllers, and waits until they are ready.
func (p *Plane) Start(ctx context.Context) (err error) {
	p.etcd, err = p.run("etcd", "--data-dir", p.path("etcd"), "--listen-client-urls", etcdClients, "--advertise-client-urls", etcdClients,
		"--listen-peer-urls", etcdPeers, "--initial-advertise-peer-urls", etcdPeers, "--initial-cluster", "default="+etcdPeers,
		"--unsafe-no-fsync", "--log-level", "warn")
	if err != nil {
		return err
	}
	if err := p.StartAPIServer(ctx); err != nil {
		return err
	}
	p.manager, err = p.run("kube-controller-manager", "--kubeconfig", p.Kubeconfig(), "--authentication-kubeconfig", p.Kubeconfig(),
		"--authorization-kubeconfig", p.Kubeconfig(), "--service-account-private-key-file", p.path("sa.key"), "--root-ca-file", p.authority(),
		"--cert-dir", p.path("certs"), "--leader-elect=false", "--bind-address", "127.0.0.1", "--v=1",
		"--kube-api-qps", fmt.Sprint(clientQueriesPerSecond), "--kube-api-burst", fmt.Sprint(clientQueriesPerSecond),
		"--concurrent-service-endpoint-syncs", "10", "--controllers", strings.Join(controllers(), ","))
	if err != nil {
		return err
	}
	return await(ctx, "the default service account of the namespace default", p.manager, p.serviceAccountMade)
}

// run starts a component.
func (p *Plane) run(component string, arguments ...string) (*Process, error) {
	c := exec.Command(Path(planeProgram), append([]string{component}, arguments...)...)
	c.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} // Ctrl-C is for the tests to handle
	return start(component, p.path(component+".log"), c)
}

// StartAPIServer starts the API server, at first and after StopAPIServer, and waits until it is ready.
func (p *Plane) StartAPIServer(ctx context.Context) (err error) {
	if p.apiServer != nil {
		return errors.New("the API server is running already")
	}
	audit, err := p.auditFlags()
	if err != nil {
		return err
	}
	p.apiServer, err = p.run("kube-apiserver", append(append(audit, "--etcd-servers", etcdClients, "--cert-dir", p.path("certs"), "--secure-port", apiServerPort,
		"--bind-address", NodeAddress, "--advertise-address", NodeAddress, "--service-cluster-ip-range", serviceCIDR,
		"--token-auth-file", p.path("tokens.csv"), "--authorization-mode", "RBAC", "--allow-privileged=true",
		"--kubelet-preferred-address-types", "InternalIP", // nobody resolves the names of nodes
		"--service-account-issuer", "https://kubernetes.default.svc", "--service-account-key-file", p.path("sa.key"),
		"--service-account-signing-key-file", p.path("sa.key"), "--profiling=false", "--v=1"), p.APIServerFlags...)...)
	if err != nil {
		return err
	}
	if p.config == nil {
		if err := await(ctx, "the certificate of the API server", p.apiServer, p.connect); err != nil {
			return err
		}
	}
	return await(ctx, "the API server", p.apiServer, func(ctx context.Context) error {
		return p.clients.Discovery().RESTClient().Get().AbsPath("/readyz").Do(ctx).Error()
	})
}

// StopAPIServer ends the API server without a word to its clients, as a machine that is gone would.
func (p *Plane) StopAPIServer() {
	if p.apiServer != nil {
		p.apiServer.Kill()
		p.apiServer = nil
	}
}

// Stop ends the control plane. The API server goes first: without etcd it would not end.
func (p *Plane) Stop() {
	p.scheduler.end()
	if p.manager != nil {
		p.manager.Kill()
	}
	p.StopAPIServer()
	if p.etcd != nil {
		p.etcd.Kill()
	}
}

// connect makes the clients as soon as the API server has written its certificate.
func (p *Plane) connect(context.Context) error {
	authority, err := os.ReadFile(p.authority())
	if err != nil {
		return err
	}
	if block, _ := pem.Decode(authority); block == nil {
		return errors.New("it is not complete yet")
	}
	if err := p.writeKubeconfig(p.Kubeconfig(), p.token); err != nil {
		return err
	}
	config := &rest.Config{
		Host: "https://" + NodeAddress + ":" + apiServerPort, BearerToken: p.token, QPS: clientQueriesPerSecond, Burst: clientQueriesPerSecond,
		TLSClientConfig: rest.TLSClientConfig{CAData: authority},
		Proxy:           func(*http.Request) (*url.URL, error) { return nil, nil },
	}
	if p.clients, err = kubernetes.NewForConfig(config); err != nil {
		return err
	}
	if p.dynamic, err = dynamic.NewForConfig(config); err != nil {
		return err
	}
	p.mapper = restmapper.NewDeferredDiscoveryRESTMapper(memory.NewMemCacheClient(p.clients.Discovery()))
	p.config = config
	return nil
}

// Config returns how an administrator reaches the API server.
func (p *Plane) Config() *rest.Config { return rest.CopyConfig(p.config) }

// Client returns an administrator's client.
func (p *Plane) Client() kubernetes.Interface { return p.clients }

// Dynamic returns an administrator's client for any kind.
func (p *Plane) Dynamic() dynamic.Interface { return p.dynamic }
