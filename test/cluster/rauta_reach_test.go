package cluster

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	gatewayv1 "sigs.k8s.io/gateway-api/apis/v1"
)

// alone runs RAUTA by itself, and returns how to end it.
func alone(t *testing.T, kubeconfig string, flags ...string) (end func()) {
	t.Helper()
	p := Run(t, "rauta", nil, append([]string{"serve", "--kubeconfig=" + kubeconfig, "--workers=1", "--admin=off", "--metrics=off",
		"--leader-election-namespace=" + system, "--drain-delay=0s", "--drain-time=1s"}, flags...)...)
	return func() {
		t.Helper()
		p.Signal(syscall.SIGTERM)
		select {
		case <-p.Exited():
		case <-time.After(time.Minute):
			t.Fatal("RAUTA does not end")
		}
	}
}

// answering runs a back end in the test itself, which answers with its address.
func answering(t *testing.T, address string) {
	t.Helper()
	l, err := net.Listen("tcp", address+":8080")
	if err != nil {
		t.Fatal(err)
	}
	s := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, address) })}
	go func() { _ = s.Serve(l) }()
	t.Cleanup(func() { _ = s.Close() })
}

// get returns the body of a response with status 200; everything else is an error.
func get(client *http.Client, url string) (string, error) {
	r, err := client.Get(url)
	if err != nil {
		return "", err
	}
	body, err := io.ReadAll(r.Body)
	if err = errors.Join(err, r.Body.Close()); err == nil && r.StatusCode != http.StatusOK {
		err = fmt.Errorf("status %d: %s", r.StatusCode, body)
	}
	return string(body), err
}

// eventuallyAddresses waits until the Gateway and the Ingress of a namespace have exactly one address each, this one.
func eventuallyAddresses(t *testing.T, p *Plane, namespace, want string) {
	t.Helper()
	Eventually(t, "the address "+want, func() error {
		if got := addresses(t, p, namespace); got != want+" "+want {
			return fmt.Errorf("the addresses are %q", got)
		}
		return nil
	})
}

// shows returns the one row that kubectl get has of a path, by column: the API server makes it.
func shows(t *testing.T, p *Plane, path string) map[string]string {
	t.Helper()
	text, err := p.Client().Discovery().RESTClient().Get().AbsPath(path).SetHeader("Accept", "application/json;as=Table;v=v1;g=meta.k8s.io").DoRaw(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	var table metav1.Table
	if err := json.Unmarshal(text, &table); err != nil || len(table.Rows) != 1 {
		t.Fatalf("%s: %v, %s", path, err, text)
	}
	row := map[string]string{}
	for i, column := range table.ColumnDefinitions {
		row[column.Name] = fmt.Sprint(table.Rows[0].Cells[i])
	}
	return row
}

const balanced = `
apiVersion: v1
kind: Service
metadata: {name: front, namespace: rauta-system}
spec: {type: LoadBalancer, ports: [{name: http, port: 80}]}
`

func TestStatusesHaveTheAddressesOfAServiceGivenOnesOrThoseOfTheNode(t *testing.T) {
	p := plane(t)
	kubeconfig := permitted(t, p)
	ns := namespace(t, p)
	p.Apply(t, fmt.Sprintf(served, ns)+"---"+balanced)
	patch := func(address string) {
		t.Helper()
		text := fmt.Appendf(nil, `{"status":{"loadBalancer":{"ingress":[{"ip":%q}]}}}`, address)
		_, err := p.Client().CoreV1().Services(system).Patch(t.Context(), "front", types.MergePatchType, text, metav1.PatchOptions{}, "status")
		if err != nil {
			t.Fatal(err)
		}
	}

	end := alone(t, kubeconfig, "--publish-service="+system+"/front")
	for _, address := range []string{"203.0.113.7", "203.0.113.8"} {
		patch(address)
		eventuallyAddresses(t, p, ns, address)
	}
	end()

	end = alone(t, kubeconfig, "--publish-address=198.51.100.4")
	eventuallyAddresses(t, p, ns, "198.51.100.4")
	for path, want := range map[string]map[string]string{
		"/apis/gateway.networking.k8s.io/v1/namespaces/" + ns + "/gateways": {"Name": "web", "Class": "rauta", "Address": "198.51.100.4", "Programmed": "True"},
		"/apis/networking.k8s.io/v1/namespaces/" + ns + "/ingresses":        {"Name": "old", "Class": "rauta", "Address": "198.51.100.4"},
	} {
		shown := shows(t, p, path)
		for column, value := range want {
			if shown[column] != value {
				t.Errorf("kubectl get shows %v, want %s %s", shown, column, value)
			}
		}
	}
	end()

	nodes := p.Client().CoreV1().Nodes()
	external := func(text string) {
		t.Helper()
		node, err := nodes.Get(t.Context(), "node", metav1.GetOptions{})
		if err != nil {
			t.Fatal(err)
		}
		patch := fmt.Appendf(nil, `{"status":{"addresses":[{"type":"InternalIP","address":%q},{"type":"Hostname","address":%q}%s]}}`, NodeAddress, node.Name, text)
		if _, err := nodes.Patch(t.Context(), node.Name, types.MergePatchType, patch, metav1.PatchOptions{}, "status"); err != nil {
			t.Fatal(err)
		}
	}
	external(`,{"type":"ExternalIP","address":"192.0.2.10"}`)
	end = alone(t, kubeconfig, "--node-name=node", "--host-ips="+NodeAddress)
	eventuallyAddresses(t, p, ns, "192.0.2.10")
	end()

	external("")
	end = alone(t, kubeconfig, "--node-name=node")
	eventuallyAddresses(t, p, ns, NodeAddress)
	end()
}

func TestWhatLeftWhileNobodyLedIsGivenBack(t *testing.T) {
	p := plane(t)
	kubeconfig := permitted(t, p)
	ns := namespace(t, p)
	p.Apply(t, fmt.Sprintf(served, ns)+fmt.Sprintf(plainRoute, ns, "leaves", "app")+fmt.Sprintf(plainRoute, ns, "stays", "app"))
	replica := Run(t, "rauta", nil, "serve", "--kubeconfig="+kubeconfig, "--workers=1", "--admin=off", "--metrics=off",
		"--leader-election-namespace="+system, "--publish-address=198.51.100.4")
	Eventually(t, "statuses", func() error {
		all := routes(t, p, ns)
		return errors.Join(is(all["leaves"], "Accepted", metav1.ConditionTrue), is(all["stays"], "Accepted", metav1.ConditionTrue))
	})
	replica.Kill()

	p.Apply(t, fmt.Sprintf(`
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: leaves, namespace: %[1]s}
spec:
  parentRefs: [{name: somebody-elses}]
  rules: [{backendRefs: [{name: app, port: 80}]}]
`, ns)+fmt.Sprintf(plainRoute, ns, "new", "app"))
	defer alone(t, kubeconfig, "--publish-address=198.51.100.4")()
	Eventually(t, "the entry to be taken away", func() error {
		all := routes(t, p, ns)
		err := errors.Join(is(all["new"], "Accepted", metav1.ConditionTrue), is(all["stays"], "Accepted", metav1.ConditionTrue))
		if left := all["leaves"].Status.Parents; len(left) > 0 {
			err = errors.Join(err, fmt.Errorf("the route that left has %+v", left))
		}
		return err
	})
}

// plainIngress has everything that one needs without a Gateway, for any host.
const plainIngress = `
apiVersion: networking.k8s.io/v1
kind: IngressClass
metadata: {name: rauta}
spec: {controller: rauta.io/ingress-controller}
---` + oldIngress + "---" + appService + `---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: app-1, namespace: %[1]s, labels: {kubernetes.io/service-name: app}}
addressType: IPv4
ports: [{name: http, port: 8080}]
endpoints: [{addresses: [10.244.3.1]}]
`

const plainGateway = `
apiVersion: gateway.networking.k8s.io/v1
kind: GatewayClass
metadata: {name: rauta}
spec: {controllerName: rauta.io/gateway-controller}
---` + webGateway

func TestTheKindsOfTheGatewayAPIComeAndGoWhileIngressesAreServed(t *testing.T) {
	p := plane(t)
	kubeconfig := permitted(t, p)
	if err := p.UninstallGatewayAPI(t.Context()); err != nil {
		t.Fatal(err)
	}
	ns := namespace(t, p)
	answering(t, "10.244.3.1")
	p.Apply(t, fmt.Sprintf(plainIngress, ns))
	defer alone(t, kubeconfig, "--http-port=8086", "--watch-namespace="+ns, "--publish-address=198.51.100.4")()

	client := &http.Client{Timeout: time.Minute}
	const old, new = "http://" + NodeAddress + ":8086/", "http://" + NodeAddress + ":8085/"
	Eventually(t, "the Ingress to be served", func() error {
		_, err := get(client, old)
		return err
	})
	var sent atomic.Int64
	ctx, stop := context.WithCancel(t.Context())
	var traffic sync.WaitGroup
	for range 2 {
		traffic.Go(func() {
			for ctx.Err() == nil {
				if _, err := get(client, old); err != nil {
					t.Errorf("request %d to the Ingress: %v", sent.Load(), err)
					return
				}
				sent.Add(1)
				time.Sleep(time.Millisecond) // other tests share the machine
			}
		})
	}
	defer func() { // before the end of RAUTA
		stop()
		traffic.Wait()
	}()
	for range 2 {
		if err := p.InstallGatewayAPI(t.Context(), Standard); err != nil {
			t.Fatal(err)
		}
		p.Apply(t, fmt.Sprintf(plainGateway, ns)+fmt.Sprintf(plainRoute, ns, "web", "app"))
		Eventually(t, "the route to be served, and told so", func() error {
			_, err := get(client, new)
			return errors.Join(err, is(routes(t, p, ns)["web"], string(gatewayv1.RouteConditionAccepted), metav1.ConditionTrue))
		})
		if err := p.UninstallGatewayAPI(t.Context()); err != nil {
			t.Fatal(err)
		}
		Eventually(t, "the listener to be closed", func() error {
			if c, err := net.Dial("tcp", NodeAddress+":8085"); err == nil {
				c.Close()
				return errors.New("it is open")
			}
			return nil
		})
	}
	before := sent.Load()
	Eventually(t, "a request after all that", func() error {
		if sent.Load() <= before {
			return errors.New("none")
		}
		return nil
	})
	t.Logf("%d requests to the Ingress meanwhile", sent.Load())
}

const zoned = `
apiVersion: v1
kind: Service
metadata: {name: app, namespace: %[1]s}
spec: {trafficDistribution: PreferClose, ports: [{name: http, port: 80}]}
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: app-1, namespace: %[1]s, labels: {kubernetes.io/service-name: app}}
addressType: IPv4
ports: [{name: http, port: 8080}]
endpoints:
- {addresses: [10.244.3.2], zone: a, hints: {forZones: [{name: a}]}, conditions: {ready: %[2]t}}
- {addresses: [10.244.3.3], zone: b, hints: {forZones: [{name: b}]}}
`

func TestTheZoneOfTheNodeDecidesWhichEndpointsAreNear(t *testing.T) {
	p := plane(t)
	kubeconfig := permitted(t, p)
	ns := namespace(t, p)
	answering(t, "10.244.3.2")
	answering(t, "10.244.3.3")
	p.Apply(t, fmt.Sprintf(plainIngress, ns)+"---"+fmt.Sprintf(zoned, ns, true))
	// The node that all tests share is in zone a.
	defer alone(t, kubeconfig, "--node-name=node", "--http-port=8086", "--watch-namespace="+ns, "--publish-address=198.51.100.4")()

	client := &http.Client{Timeout: time.Minute}
	only := func(want string) error { // of 30 answers; by chance one of a billion such runs would come from one of two endpoints
		for range 30 {
			if body, err := get(client, "http://"+NodeAddress+":8086/"); err != nil || body != want {
				return errors.Join(err, fmt.Errorf("%q answers, want %s", body, want))
			}
		}
		return nil
	}
	Eventually(t, "the near endpoint alone", func() error { return only("10.244.3.2") })
	p.Apply(t, fmt.Sprintf(zoned, ns, false))
	Eventually(t, "the other one, as the near one is not ready", func() error { return only("10.244.3.3") })
}
