package otlp

import (
	"context"
	"crypto/rand"
	"fmt"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/sdk/resource"
)

// Place is where RAUTA runs in a cluster; empty fields are not known.
type Place struct{ Node, Namespace, Pod string }

// resourceOf says who sends the spans. What the environment says counts more than defaults, and Options more than both.
func resourceOf(ctx context.Context, opt Options) (*resource.Resource, error) {
	first := []attribute.KeyValue{
		attribute.String("service.name", "rauta"), attribute.String("service.instance.id", instanceID(opt.Place)),
	}
	for _, a := range [...][2]string{
		{"k8s.node.name", opt.Place.Node}, {"k8s.namespace.name", opt.Place.Namespace}, {"k8s.pod.name", opt.Place.Pod},
	} {
		if a[1] != "" {
			first = append(first, attribute.String(a[0], a[1]))
		}
	}
	last := []attribute.KeyValue{attribute.String("service.version", opt.Version)}
	if opt.Service != "" {
		last = append(last, attribute.String("service.name", opt.Service))
	}
	return resource.New(ctx, resource.WithTelemetrySDK(), resource.WithHost(),
		resource.WithAttributes(first...), resource.WithFromEnv(), resource.WithAttributes(last...))
}

// instanceID tells this process from all others: in a cluster by its pod and container, else by a random UUID (RFC 9562
// section 5.4).
func instanceID(p Place) string {
	if p.Pod != "" && p.Namespace != "" {
		return p.Namespace + "." + p.Pod + ".rauta"
	}
	var b [16]byte
	rand.Read(b[:])
	b[6], b[8] = b[6]&0x0f|0x40, b[8]&0x3f|0x80
	return fmt.Sprintf("%x-%x-%x-%x-%x", b[:4], b[4:6], b[6:8], b[8:10], b[10:])
}
