package manifests

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	cluster "rauta.io/rauta/test/cluster"
)

const borrowing = `
apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata: {name: borrowing, namespace: %[1]s}
spec:
  gatewayClassName: rauta
  listeners:
  - {name: https, protocol: HTTPS, port: 8446, tls: {certificateRefs: [{name: lent, namespace: %[2]s}]}}
---
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: borrowing, namespace: %[1]s}
spec:
  parentRefs: [{name: borrowing}]
  rules: [{backendRefs: [{name: own, port: 80}]}]
`

const lending = `
apiVersion: gateway.networking.k8s.io/v1
kind: ReferenceGrant
metadata: {name: lending, namespace: %[2]s}
spec:
  from: [{group: gateway.networking.k8s.io, kind: Gateway, namespace: %[1]s}]
  to: [{group: "", kind: Secret, name: lent}]
`

// shake makes one handshake with the listener of borrowing.
func shake(ctx context.Context) error {
	dialer := tls.Dialer{Config: &tls.Config{InsecureSkipVerify: true, ServerName: "borrowing.example.com"}}
	c, err := dialer.DialContext(ctx, "tcp", cluster.NodeAddress+":8446")
	if err == nil {
		err = c.Close()
	}
	return err
}

func TestAGrantForACertificateThatIsTakenAwayEndsHandshakesAtOnceAndNothingElse(t *testing.T) {
	const times = 5
	w := deployed(t)
	ns := w.deploy(t, 1, "own")
	other := ns[:min(len(ns), 58)] + "-x"
	w.Apply(t, "apiVersion: v1\nkind: Namespace\nmetadata: {name: "+other+"}")
	t.Cleanup(func() {
		_ = w.Client().CoreV1().Namespaces().Delete(context.Background(), other, metav1.DeleteOptions{})
	})
	certificate, key, err := cluster.SelfSigned("borrowing.example.com")
	if err != nil {
		t.Fatal(err)
	}
	secret := &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Name: "lent"}, Type: corev1.SecretTypeTLS,
		StringData: map[string]string{"tls.crt": certificate, "tls.key": key}}
	if _, err := w.Client().CoreV1().Secrets(other).Create(t.Context(), secret, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	w.Apply(t, fmt.Sprintf(borrowing, ns, other))
	beside := send(t, ns, steady, nil) // over a listener that borrows nothing
	for range times {
		w.Apply(t, fmt.Sprintf(lending, ns, other))
		cluster.Eventually(t, "a handshake", func() error { return shake(t.Context()) })
		revoked(t, func() (func() error, func()) {
			return func() error { return shake(context.Background()) }, func() {}
		}, func() { w.Delete(t, fmt.Sprintf(lending, ns, other)) })
	}
	beside.end(t)
}

// revoked has clients try something while take takes away what permits it: none may succeed with a try that began after the
// first one that failed. client returns what one client does over and over, and what it does in the end.
func revoked(t *testing.T, client func() (try func() error, end func()), take func()) {
	t.Helper()
	stop, gone := make(chan struct{}), atomic.Pointer[time.Time]{}
	var late, done atomic.Int64
	var wait sync.WaitGroup
	for range clients {
		wait.Go(func() {
			try, end := client()
			defer end()
			for {
				began := time.Now()
				err := try()
				done.Add(1)
				switch at := gone.Load(); {
				case err != nil && at == nil:
					now := time.Now()
					gone.CompareAndSwap(nil, &now)
				case err == nil && at != nil && began.After(*at):
					late.Add(1)
				}
				select {
				case <-stop:
					return
				default:
				}
			}
		})
	}
	take()
	written := time.Now()
	cluster.Eventually(t, "the first refusal", func() error {
		if gone.Load() == nil {
			return errors.New("every try succeeds")
		}
		return nil
	})
	before := done.Load()
	cluster.Eventually(t, "more tries", func() error { // that would succeed yet
		if done.Load() < before+10*clients {
			return errors.New("there are none")
		}
		return nil
	})
	close(stop)
	wait.Wait()
	t.Logf("the first refusal came %s after the grant was gone", gone.Load().Sub(written))
	if n := late.Load(); n > 0 {
		t.Errorf("%d tries succeeded that began after the first refusal", n)
	}
}
