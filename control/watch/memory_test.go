package watch

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"encoding/pem"
	"flag"
	"fmt"
	"log/slog"
	"math/big"
	"os"
	"path/filepath"
	"runtime"
	"runtime/pprof"
	"slices"
	"strings"
	"testing"
	"time"

	"k8s.io/client-go/rest"
	gatewayv1 "sigs.k8s.io/gateway-api/apis/v1"

	"rauta.io/rauta/control/translate"
	"rauta.io/rauta/proxy/snapshot"
)

var (
	memoryRoutes    = flag.Int("memory-routes", 1000, "routes, Services and slices of the test of memory, and ten times as many certificates")
	memoryEndpoints = flag.Int("memory-endpoints", 1, "endpoints of each of its slices")
	memoryProfiles  = flag.String("memory-profiles", "", "folder for profiles of the heap after each step of it")
)

// fields is the managedFields that an API server adds to everything.
const fields = `[{"manager":"kubectl","operation":"Update","apiVersion":"v1","time":"2026-01-02T03:04:05Z","fieldsType":"FieldsV1","fieldsV1":{"f:spec":{}}}]`

func metaOf(name string) string {
	return fmt.Sprintf(`"metadata":{"name":%q,"namespace":"team","uid":"%08x-1111-4222-8333-123456789012","generation":1,
		"creationTimestamp":"2026-01-02T03:04:05Z","managedFields":%s`, name, len(name)*7919, fields)
}

func aRoute(i int, version, status string) string {
	return fmt.Sprintf(`{%s},"spec":{"parentRefs":[{"group":"gateway.networking.k8s.io","kind":"Gateway","name":"edge"}],"hostnames":["h%d.example.com"],
		"rules":[{"matches":[{"path":{"type":"PathPrefix","value":"/"}}],
		"filters":[{"type":"ResponseHeaderModifier","responseHeaderModifier":{"set":[{"name":"X-Version","value":%q}]}}],
		"backendRefs":[{"group":"","kind":"Service","name":"s%d","port":80,"weight":1}]}]}%s}`, metaOf(fmt.Sprintf("h%d.example.com", i)), i, version, i, status)
}

const aStatus = `,"status":{"parents":[{"parentRef":{"group":"gateway.networking.k8s.io","kind":"Gateway","name":"edge"},"controllerName":"rauta.io/gateway-controller",
	"conditions":[
	{"type":"Accepted","status":"True","reason":"Accepted","message":"the route is served","observedGeneration":1,"lastTransitionTime":"2026-01-02T03:04:05Z"},
	{"type":"ResolvedRefs","status":"True","reason":"ResolvedRefs","message":"all references are resolved","observedGeneration":1,"lastTransitionTime":"2026-01-02T03:04:05Z"}]}]}`

func aService(i int) string {
	return fmt.Sprintf(`{%s,"labels":{"app":"s%d"}},"spec":{"type":"ClusterIP","clusterIP":"10.0.%d.%d","clusterIPs":["10.0.%d.%d"],"ipFamilies":["IPv4"],"ipFamilyPolicy":"SingleStack",
		"internalTrafficPolicy":"Cluster","sessionAffinity":"None","selector":{"app":"s%d"},"ports":[{"name":"http","protocol":"TCP","port":80,"targetPort":8080}]}}`,
		metaOf(fmt.Sprintf("s%d", i)), i, i>>8, i&255, i>>8, i&255, i)
}

func aSlice(i, endpoints int) string {
	var list []string
	for j := range endpoints {
		n := i*endpoints + j
		list = append(list, fmt.Sprintf(`{"addresses":["10.%d.%d.%d"],"conditions":{"ready":true,"serving":true,"terminating":false},"nodeName":"node-%d","zone":"zone-%d",
			"targetRef":{"kind":"Pod","namespace":"team","name":"s%d-5d4f8c7b9d-%05d","uid":"%08x-1111-4222-8333-123456789012"}}`, 1+n>>16, n>>8&255, n&255, n%100, n%3, i, n, n))
	}
	return fmt.Sprintf(`{%s,"generateName":"s%d-","labels":{"kubernetes.io/service-name":"s%d","app":"s%d","endpointslice.kubernetes.io/managed-by":"endpointslice-controller.k8s.io"},
		"ownerReferences":[{"apiVersion":"v1","kind":"Service","name":"s%d","uid":"x"}]},"addressType":"IPv4","endpoints":[%s],"ports":[{"name":"http","protocol":"TCP","port":8080}]}`,
		metaOf(fmt.Sprintf("s%d-abcde", i)), i, i, i, i, strings.Join(list, ","))
}

func aCertificate(t *testing.T, i int) string {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	name := fmt.Sprintf("h%d.example.com", i)
	template := &x509.Certificate{SerialNumber: big.NewInt(int64(i) + 1), Subject: pkix.Name{CommonName: name}, DNSNames: []string{name},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(24 * time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	encoded, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	text := func(kind string, b []byte) string {
		return base64.StdEncoding.EncodeToString(pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: b}))
	}
	return fmt.Sprintf(`{%s},"type":"kubernetes.io/tls","data":{"tls.crt":%q,"tls.key":%q}}`, metaOf(name), text("CERTIFICATE", der), text("PRIVATE KEY", encoded))
}

// routeBytesMax bounds what a route takes with all that belongs to it: 10,000 are to fit into 200 MB with the rest of a process.
const routeBytesMax = 9_600

// inMemory is a cluster with everything that is made of it: a route, a Service and a slice so many times, and a tenth as many
// certificates.
type inMemory struct {
	*testing.T
	server *apiServer
	count  int
	memo   translate.Memo
	result *translate.Result
	plane  *snapshot.Live
	cfg    *rest.Config
	*Cluster
	stop func()
}

// fill puts the objects into the API server.
func (m *inMemory) fill(endpoints int) {
	s := m.server
	s.serve("v1", "httproutes", "gateways", "gatewayclasses", "referencegrants", "backendtlspolicies")
	s.put("/apis/gateway.networking.k8s.io/v1/gatewayclasses", `{"metadata":{"name":"rauta","generation":1},"spec":{"controllerName":"rauta.io/gateway-controller"}}`)
	s.put(gateways, fmt.Sprintf(`{%s},"spec":{"gatewayClassName":"rauta","listeners":[{"name":"http","port":8000,"protocol":"HTTP"}]}}`, metaOf("edge")))
	var listeners []string
	for i := range m.count / 10 {
		s.put(secrets, aCertificate(m.T, i))
		listeners = append(listeners, fmt.Sprintf(`{"name":"l%d","port":8443,"protocol":"HTTPS","hostname":"h%d.example.com","tls":{"certificateRefs":[{"name":"h%d.example.com"}]}}`, i, i, i))
		if len(listeners) == 64 || i == m.count/10-1 {
			s.put(gateways, fmt.Sprintf(`{%s},"spec":{"gatewayClassName":"rauta","listeners":[%s]}}`, metaOf(fmt.Sprintf("tls%d", i)), strings.Join(listeners, ",")))
			listeners = nil
		}
	}
	for i := range m.count {
		s.put(services, aService(i))
		s.put(epSlices, aSlice(i, endpoints))
		s.put(routes, aRoute(i, "0", ""))
	}
}

// follow reads, as RAUTA does.
func (m *inMemory) follow() {
	opt := ClusterOptions{Log: slog.New(slog.DiscardHandler), DiscoveryTime: 20 * time.Millisecond, EmptyTime: 50 * time.Millisecond}
	c, err := NewCluster(m.cfg, opt)
	if err != nil {
		m.Fatal(err)
	}
	ctx, cancel := context.WithCancel(m.Context())
	done := make(chan struct{})
	go func() {
		c.Run(ctx)
		close(done)
	}()
	m.Cluster, m.stop = c, func() {
		cancel()
		<-done
	}
	synced(m.T, c)
}

// serve translates and publishes.
func (m *inMemory) serve() {
	run := func() bool {
		m.result = translate.Translate(m.Objects(), translate.Options{Memo: &m.memo, Now: time.Now()})
		return m.Refer(m.result.References)
	}
	eventually(m.T, "all Secrets have been read", run)
	run()
	if _, _, _, err := m.plane.Publish(m.result.Config, m.result.Endpoints); err != nil {
		m.Error(err)
	}
}

// writeStatuses has every route get a status, as it does when RAUTA leads.
func (m *inMemory) writeStatuses() {
	for i := range m.count {
		m.server.put(routes, aRoute(i, "0", aStatus))
	}
	eventually(m.T, "all statuses have come", func() bool {
		return !slices.ContainsFunc(m.Objects().HTTPRoutes, func(o *gatewayv1.HTTPRoute) bool { return len(o.Status.Parents) == 0 })
	})
}

// liveBytes are those of the heap after collections: what pools keep survives the first one.
func liveBytes() int64 {
	var s runtime.MemStats
	for range 3 {
		runtime.GC()
	}
	runtime.ReadMemStats(&s)
	return int64(s.HeapAlloc)
}

// takes returns the bytes for each route that are live no more after release.
func (m *inMemory) takes(name string, release func()) int64 {
	before := liveBytes()
	if *memoryProfiles != "" {
		var b bytes.Buffer
		if err := pprof.WriteHeapProfile(&b); err != nil {
			m.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(*memoryProfiles, name), b.Bytes(), 0o600); err != nil {
			m.Fatal(err)
		}
	}
	release()
	each := (before - liveBytes()) / int64(m.count)
	m.Logf("%-12s %6d bytes for each route", name, each)
	return each
}

// TestWhatAClusterTakesInMemory counts live bytes, which doesn't depend on timing.
func TestWhatAClusterTakesInMemory(t *testing.T) {
	m := &inMemory{T: t, server: newAPIServer(t), count: *memoryRoutes, plane: snapshot.NewLive(snapshot.Options{Workers: 2, NextProtos: []string{"h2", "http/1.1"}})}
	m.cfg = &rest.Config{Host: m.server.URL}
	m.fill(*memoryEndpoints)
	m.follow()
	m.serve()
	m.writeStatuses()
	m.serve()
	for i := range 20 {
		m.server.put(routes, strings.Replace(aRoute(i, "1", aStatus), `"generation":1`, `"generation":2`, 1))
		eventually(t, "a change has come", func() bool { return m.Take().Objects })
		m.serve()
	}
	m.takes("server", func() {
		m.stop()
		m.server.CloseClientConnections()
		m.server.mu.Lock()
		m.server.objects, m.server.requests = nil, nil
		m.server.mu.Unlock()
	})
	plane := m.takes("plane", func() { m.plane = nil })
	translation := m.takes("translation", func() { m.memo, m.result = translate.Memo{}, nil })
	objects := m.takes("objects", func() { m.Cluster = nil })
	sum := plane + translation + objects
	t.Logf("%-12s %6d bytes for each route", "sum", sum)
	if *memoryEndpoints == 1 && sum > routeBytesMax {
		t.Errorf("a route with a Service, a slice and a tenth of a certificate takes %d bytes, at most %d are meant to", sum, routeBytesMax)
	}
}
