package watch

import (
	"encoding/json"

	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
)

// An object that does not have the form of its kind, such as one that was stored under a definition of the kind without
// validation, is a misfit. Decoding stands an object in for it that has its name only, so that one misfit stops neither the
// list nor the watch that it is in.
const (
	// misfitKind is the kind of such an object. What an API server sends never has it, because its kinds are others.
	misfitKind = "Misfit"
	// misfitReason is its annotation that says what was wrong.
	misfitReason = "reason"
)

// misfit is what is known of such an object, or of one that is too large.
type misfit struct {
	version string // its resource version
	reason  string // why it is left out, as the end of a sentence about it
}

func isMisfit(o object) bool { return o.GetObjectKind().GroupVersionKind().Kind == misfitKind }

// lenientCodecs decode misfits, too.
type lenientCodecs struct {
	runtime.NegotiatedSerializer
	scheme *runtime.Scheme
}

func (c lenientCodecs) DecoderToVersion(d runtime.Decoder, version runtime.GroupVersioner) runtime.Decoder {
	return lenient{c.NegotiatedSerializer.DecoderToVersion(d, version), c.scheme}
}

type lenient struct {
	runtime.Decoder
	scheme *runtime.Scheme
}

// Decode looks at data more closely once it has failed. What is not JSON fails still.
func (l lenient) Decode(data []byte, defaults *schema.GroupVersionKind, into runtime.Object) (runtime.Object, *schema.GroupVersionKind, error) {
	o, kind, err := l.Decoder.Decode(data, defaults, into)
	if err == nil || into != nil {
		return o, kind, err
	}
	var rough struct {
		metav1.TypeMeta
		Metadata json.RawMessage
		Items    []json.RawMessage
	}
	if json.Unmarshal(data, &rough) != nil {
		return o, kind, err
	}
	gvk := rough.GroupVersionKind()
	fresh, unknown := l.scheme.New(gvk)
	if unknown != nil {
		return o, kind, err
	}
	if meta.IsListType(fresh) {
		if l.list(fresh, rough.Metadata, rough.Items, gvk) != nil {
			return o, kind, err
		}
		return fresh, &gvk, nil
	}
	single, ok := fresh.(object)
	if !ok || !standIn(single, rough.Metadata, err) {
		return o, kind, err
	}
	return single, &gvk, nil
}

// list fills a list with its items one by one.
func (l lenient) list(to runtime.Object, metadata json.RawMessage, items []json.RawMessage, gvk schema.GroupVersionKind) error {
	var m metav1.ListMeta
	if err := json.Unmarshal(metadata, &m); err != nil {
		return err
	}
	access, err := meta.ListAccessor(to)
	if err != nil {
		return err
	}
	access.SetResourceVersion(m.ResourceVersion)
	access.SetContinue(m.Continue)
	access.SetRemainingItemCount(m.RemainingItemCount)
	gvk.Kind = gvk.Kind[:len(gvk.Kind)-len("List")]
	all := make([]runtime.Object, len(items))
	for i, item := range items {
		if all[i], _, err = l.Decode(item, &gvk, nil); err != nil {
			return err
		}
	}
	return meta.SetList(to, all)
}

// standIn gives an object the name of a misfit; false if even that can't be read.
func standIn(o object, metadata json.RawMessage, reason error) bool {
	var m struct {
		Namespace, Name, ResourceVersion string
	}
	if json.Unmarshal(metadata, &m) != nil || m.Name == "" {
		return false
	}
	o.SetNamespace(m.Namespace)
	o.SetName(m.Name)
	o.SetResourceVersion(m.ResourceVersion)
	o.SetAnnotations(map[string]string{misfitReason: reason.Error()})
	o.GetObjectKind().SetGroupVersionKind(schema.GroupVersionKind{Kind: misfitKind})
	return true
}
