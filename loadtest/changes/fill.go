package main

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"net/netip"
	"sync"

	"rauta.io/rauta/internal/testrig"
)

type object = map[string]any

// Where objects are.
const (
	namespace = "rauta-changes"
	class     = "rauta-changes"

	gatewayAPI = "/apis/gateway.networking.k8s.io/v1"
	inspace    = "/namespaces/" + namespace
	routePath  = gatewayAPI + inspace + "/httproutes"
	slicePath  = "/apis/discovery.k8s.io/v1" + inspace + "/endpointslices"
)

// listenersMax is how many listeners a Gateway may have (Gateway API).
const listenersMax = 64

// lab is one run.
type lab struct {
	*options
	port    int // of the pods
	watcher *watcher
	load    *load
}

func host(i int) string    { return fmt.Sprintf("h%d.changes.test", i) }
func service(i int) string { return fmt.Sprintf("s%d", i) }

// pod is one of the addresses of the prefix.
func (l *lab) pod(i int) string {
	base := l.prefix.Masked().Addr().As4()
	n := uint32(base[0])<<24 | uint32(base[1])<<16 | uint32(base[2])<<8 | uint32(base[3])
	n += 1 + uint32(i)%(1<<(32-l.prefix.Bits())-2)
	return netip.AddrFrom4([4]byte{byte(n >> 24), byte(n >> 16), byte(n >> 8), byte(n)}).String()
}

func (l *lab) slice(i int, pods ...string) object {
	var endpoints []object
	for _, p := range pods {
		endpoints = append(endpoints, object{"addresses": []string{p}, "conditions": object{"ready": true}})
	}
	return object{
		"addressType": "IPv4", "endpoints": endpoints,
		"metadata": object{"name": service(i), "labels": object{"kubernetes.io/service-name": service(i)}},
		"ports":    []object{{"name": "http", "port": l.port, "protocol": "TCP"}},
	}
}

func route(i, services int, version string) object {
	return object{
		"metadata": object{"name": host(i)},
		"spec": object{
			"parentRefs": []object{{"name": "changes"}}, "hostnames": []string{host(i)},
			"rules": []object{{
				"matches": []object{{"path": object{"type": "PathPrefix", "value": "/"}}},
				"filters": []object{{"type": "ResponseHeaderModifier", "responseHeaderModifier": object{
					"set": []object{{"name": "X-Version", "value": version}}}}},
				"backendRefs": []object{{"name": service(i % services), "port": 80}},
			}},
		},
	}
}

// fill creates all objects.
func (l *lab) fill(ctx context.Context) error {
	for path, o := range map[string]object{
		"/api/v1/namespaces":           {"metadata": object{"name": namespace}},
		gatewayAPI + "/gatewayclasses": {"metadata": object{"name": class}, "spec": object{"controllerName": "rauta.io/gateway-controller"}},
	} {
		if err := l.api.create(ctx, path, o); err != nil {
			return err
		}
	}
	gateway := object{"metadata": object{"name": "changes"}, "spec": object{"gatewayClassName": class,
		"listeners": []object{{"name": "http", "port": 8000, "protocol": "HTTP"}}}}
	if err := l.api.create(ctx, gatewayAPI+inspace+"/gateways", gateway); err != nil {
		return err
	}
	if err := l.fillCertificates(ctx); err != nil {
		return err
	}
	err := inParallel(l.services, func(i int) error {
		err := l.api.create(ctx, "/api/v1"+inspace+"/services", object{"metadata": object{"name": service(i)},
			"spec": object{"ports": []object{{"name": "http", "port": 80, "targetPort": l.port}}}})
		if err != nil {
			return err
		}
		var pods []string
		for j := range l.endpoints {
			pods = append(pods, l.pod(i*l.endpoints+j))
		}
		return l.api.create(ctx, slicePath, l.slice(i, pods...))
	})
	if err != nil {
		return err
	}
	return inParallel(l.routes, func(i int) error {
		return l.api.create(ctx, routePath, route(i, l.services, "0"))
	})
}

func (l *lab) fillCertificates(ctx context.Context) error {
	if l.certs == 0 {
		return nil
	}
	err := inParallel(l.certs, func(i int) error {
		certificate, key, err := testrig.SelfSigned(host(i))
		if err != nil {
			return err
		}
		return l.api.create(ctx, "/api/v1"+inspace+"/secrets", object{"metadata": object{"name": host(i)}, "type": "kubernetes.io/tls",
			"data": object{"tls.crt": base64.StdEncoding.EncodeToString(certificate), "tls.key": base64.StdEncoding.EncodeToString(key)}})
	})
	if err != nil {
		return err
	}
	for first := 0; first < l.certs; first += listenersMax {
		var listeners []object
		for i := first; i < min(first+listenersMax, l.certs); i++ {
			listeners = append(listeners, object{"name": fmt.Sprintf("l%d", i), "port": 8443, "protocol": "HTTPS", "hostname": host(i),
				"tls": object{"certificateRefs": []object{{"name": host(i)}}}})
		}
		gateway := object{"metadata": object{"name": fmt.Sprintf("tls%d", first)}, "spec": object{"gatewayClassName": class, "listeners": listeners}}
		if err := l.api.create(ctx, gatewayAPI+inspace+"/gateways", gateway); err != nil {
			return err
		}
	}
	return nil
}

// empty removes everything.
func (l *lab) empty(ctx context.Context) {
	_ = l.api.remove(ctx, "/api/v1/namespaces/"+namespace)
	_ = l.api.remove(ctx, gatewayAPI+"/gatewayclasses/"+class)
}

// inParallel calls f for 0 to n-1.
func inParallel(n int, f func(int) error) error {
	next := make(chan int)
	errs := make(chan error, writers)
	var wg sync.WaitGroup
	for range writers {
		wg.Add(1)
		go func() {
			defer wg.Done()
			for i := range next {
				if err := f(i); err != nil {
					errs <- err
					for range next { // let the others end
					}
					return
				}
			}
		}()
	}
	for i := range n {
		next <- i
	}
	close(next)
	wg.Wait()
	close(errs)
	var all []error
	for err := range errs {
		all = append(all, err)
	}
	return errors.Join(all...)
}
