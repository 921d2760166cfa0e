package kube

import (
	"context"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/cache"
)

// object is what an API server keeps.
type object interface {
	metav1.Object
	runtime.Object
}

// Objects are those of one kind, in one namespace if the kind has any. The methods are those of client-go's typed clients, so
// that what uses them can be tested with the ones that client-go has for tests. Where there is an error, the object is nil.
type Objects[T object, L runtime.Object] struct {
	client            rest.Interface
	codec             runtime.ParameterCodec
	plural, namespace string
	one               func() T
	list              func() L
}

// about fills in what a request is about; name is empty for all.
func (o *Objects[T, L]) about(r *rest.Request, name string) *rest.Request {
	r = r.NamespaceIfScoped(o.namespace, o.namespace != "").Resource(o.plural)
	if name != "" {
		r = r.Name(name)
	}
	return r
}

// answer makes an object of the answer to a request.
func (o *Objects[T, L]) answer(ctx context.Context, r *rest.Request) (T, error) {
	object := o.one()
	if err := r.Do(ctx).Into(object); err != nil {
		var none T
		return none, err
	}
	return object, nil
}

// Get reads one object.
func (o *Objects[T, L]) Get(ctx context.Context, name string, opt metav1.GetOptions) (T, error) {
	return o.answer(ctx, o.about(o.client.Get(), name).VersionedParams(&opt, o.codec))
}

// List reads all that the options select.
func (o *Objects[T, L]) List(ctx context.Context, opt metav1.ListOptions) (L, error) {
	list := o.list()
	if err := o.about(o.client.Get(), "").VersionedParams(&opt, o.codec).Do(ctx).Into(list); err != nil {
		var none L
		return none, err
	}
	return list, nil
}

// Create writes an object that there is not yet.
func (o *Objects[T, L]) Create(ctx context.Context, object T, opt metav1.CreateOptions) (T, error) {
	return o.answer(ctx, o.about(o.client.Post(), "").VersionedParams(&opt, o.codec).Body(object))
}

// Update replaces an object that has the version of the one that is given.
func (o *Objects[T, L]) Update(ctx context.Context, object T, opt metav1.UpdateOptions) (T, error) {
	return o.answer(ctx, o.about(o.client.Put(), object.GetName()).VersionedParams(&opt, o.codec).Body(object))
}

// Patch changes an object.
func (o *Objects[T, L]) Patch(ctx context.Context, name string, kind types.PatchType, patch []byte, opt metav1.PatchOptions) (T, error) {
	return o.answer(ctx, o.about(o.client.Patch(kind), name).VersionedParams(&opt, o.codec).Body(patch))
}

// Delete removes an object.
func (o *Objects[T, L]) Delete(ctx context.Context, name string, opt metav1.DeleteOptions) error {
	return o.about(o.client.Delete(), name).Body(&opt).Do(ctx).Error()
}

// ListWatch is for a reflector or an informer that follows the selected objects.
func (o *Objects[T, L]) ListWatch(selector fields.Selector) cache.ListerWatcher {
	return cache.NewListWatchFromClient(o.client, o.plural, o.namespace, selector)
}
