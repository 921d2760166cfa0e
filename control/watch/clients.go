package watch

import (
	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/runtime/serializer"
	"k8s.io/client-go/rest"

	"rauta.io/rauta/control/kube"
)

// newScheme knows the kinds that are read. All versions of a kind are decoded into one type, as their fields are the same:
// nothing has to be converted.
func newScheme() *runtime.Scheme {
	kinds := kube.Kinds{}
	for _, r := range resources() {
		for _, version := range r.versions {
			gv := schema.GroupVersion{Group: r.group, Version: version}
			if kinds[gv] == nil {
				kinds[gv] = map[string]runtime.Object{}
			}
			kinds[gv][r.kind], kinds[gv][r.kind+"List"] = r.example, r.list
		}
	}
	return kube.Scheme(kinds)
}

// newClients returns a client for each group and version, all over the same connections.
func newClients(cfg *rest.Config) (map[string]rest.Interface, runtime.ParameterCodec, error) {
	scheme := newScheme()
	cfg = rest.CopyConfig(cfg)
	cfg.QPS, cfg.Burst = -1, 0 // reading opens a few streams and is limited by the API server's own priorities
	connection, err := kube.Connect(cfg, lenientCodecs{serializer.NewCodecFactory(scheme).WithoutConversion(), scheme})
	if err != nil {
		return nil, nil, err
	}
	out := map[string]rest.Interface{}
	for _, r := range resources() {
		for _, version := range r.versions {
			client, err := connection.Group(schema.GroupVersion{Group: r.group, Version: version}, !r.optional)
			if err != nil {
				return nil, nil, err
			}
			out[r.group+"/"+version] = client
		}
	}
	return out, runtime.NewParameterCodec(scheme), nil
}

// isEmpty reports whether a list, of which not all may have been asked for, has nothing.
func isEmpty(list runtime.Object) bool { return meta.LenList(list) == 0 }
