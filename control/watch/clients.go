package watch

import (
	"fmt"

	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/runtime/serializer"
	"k8s.io/client-go/rest"
)

// protobuf is what API servers speak best about kinds of their own.
const protobuf = "application/vnd.kubernetes.protobuf"

// newScheme knows the kinds that are read. All versions of a kind are decoded into one type, as their fields are the same:
// nothing has to be converted. client-go's own scheme knows every kind there is, which costs megabytes.
func newScheme() *runtime.Scheme {
	scheme := runtime.NewScheme()
	metav1.AddToGroupVersion(scheme, schema.GroupVersion{Version: "v1"})
	for _, r := range resources() {
		for _, version := range r.versions {
			gv := schema.GroupVersion{Group: r.group, Version: version}
			scheme.AddKnownTypeWithName(gv.WithKind(r.kind), r.example)
			scheme.AddKnownTypeWithName(gv.WithKind(r.kind+"List"), r.list)
			metav1.AddToGroupVersion(scheme, gv)
		}
	}
	return scheme
}

// newClients returns a client for each group and version, all over the same connections.
func newClients(cfg *rest.Config) (map[string]rest.Interface, runtime.ParameterCodec, error) {
	scheme := newScheme()
	codecs := lenientCodecs{serializer.NewCodecFactory(scheme).WithoutConversion(), scheme}
	cfg = rest.CopyConfig(cfg)
	cfg.QPS, cfg.Burst = -1, 0 // reading opens a few streams and is limited by the API server's own priorities
	transport, err := rest.HTTPClientFor(cfg)
	if err != nil {
		return nil, nil, fmt.Errorf("connect to the API server: %w", err)
	}
	out := map[string]rest.Interface{}
	for _, r := range resources() {
		for _, version := range r.versions {
			own := rest.CopyConfig(cfg)
			own.GroupVersion = &schema.GroupVersion{Group: r.group, Version: version}
			own.APIPath, own.NegotiatedSerializer = "/apis", codecs
			if r.group == coreGroup {
				own.APIPath = "/api"
			}
			if !r.optional {
				own.ContentType, own.AcceptContentTypes = protobuf, protobuf+","+runtime.ContentTypeJSON
			}
			client, err := rest.RESTClientForConfigAndClient(own, transport)
			if err != nil {
				return nil, nil, fmt.Errorf("connect to the API server for %s: %w", own.GroupVersion, err)
			}
			out[r.group+"/"+version] = client
		}
	}
	return out, runtime.NewParameterCodec(scheme), nil
}

// isEmpty reports whether a list, of which not all may have been asked for, has nothing.
func isEmpty(list runtime.Object) bool { return meta.LenList(list) == 0 }
