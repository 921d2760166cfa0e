// Package share lets objects of a cluster have in common what they say alike: ten thousand routes of one Gateway have ten
// thousand copies of the same reference, and of the same conditions, when they have been decoded.
//
// It owns which memory is kept of several that are equal. It does not own what is kept of an object at all, which is up to
// control/watch. That and control/translate call it. Whoever uses it never changes an object that has been through it.
package share

import (
	"hash/maphash"
	"reflect"
	"slices"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"
	gatewayv1 "sigs.k8s.io/gateway-api/apis/v1"
)

const (
	// slotCount is how many texts, and how many pointers, are remembered. One that comes into the slot of another takes its place: what
	// thousands of objects say is there nearly always, and memory is bounded.
	slotCount = 2048
	// textBytesMax: longer ones are not looked at. Names, reasons and messages are shorter.
	textBytesMax = 96
)

// Pool remembers what objects have said lately. It is for one goroutine at a time; NewPool makes it.
type Pool struct {
	seed     maphash.Seed
	texts    [slotCount]string
	pointers [slotCount]reflect.Value // to texts, numbers and truth values
	refs     Recent[gatewayv1.ParentReference]
	parents  Recent[gatewayv1.RouteParentStatus]
	// Lists whose elements have to have been through the pool: what they point to is compared by its place.
	matches       Recent[gatewayv1.HTTPRouteMatch]
	servicePorts  Recent[corev1.ServicePort]
	endpointPorts Recent[discoveryv1.EndpointPort]
}

// NewPool returns an empty pool.
func NewPool() *Pool {
	return &Pool{
		seed: maphash.MakeSeed(),
		refs: Recent[gatewayv1.ParentReference]{Equal: SameReference}, parents: Recent[gatewayv1.RouteParentStatus]{Equal: SameParent},
		matches:       Recent[gatewayv1.HTTPRouteMatch]{Equal: samePath},
		servicePorts:  Recent[corev1.ServicePort]{Equal: func(a, b corev1.ServicePort) bool { return a == b }},
		endpointPorts: Recent[discoveryv1.EndpointPort]{Equal: func(a, b discoveryv1.EndpointPort) bool { return a == b }},
	}
}

// Object makes a fresh object, given as a pointer, use the memory of objects before wherever it says the same, and gives back
// what its lists have too much of. It must not be called twice for one object.
func (p *Pool) Object(o any) { p.walk(reflect.ValueOf(o).Elem()) }

func (p *Pool) walk(v reflect.Value) {
	switch v.Kind() {
	case reflect.String:
		p.text(v)
	case reflect.Pointer:
		p.pointer(v)
	case reflect.Slice:
		p.list(v)
	case reflect.Struct:
		if meta, ok := v.Addr().Interface().(*metav1.ObjectMeta); ok { // the rest of it is its own
			p.text(reflect.ValueOf(&meta.Namespace).Elem())
			return
		}
		for i := range v.NumField() {
			if field := v.Field(i); field.CanSet() {
				p.walk(field)
			}
		}
	}
}

func (p *Pool) text(v reflect.Value) {
	text := v.String()
	if text == "" || len(text) > textBytesMax {
		return
	}
	slot := &p.texts[maphash.String(p.seed, text)%slotCount]
	if *slot != text {
		*slot = text
	}
	v.SetString(*slot)
}

func (p *Pool) pointer(v reflect.Value) {
	if v.IsNil() {
		return
	}
	to := v.Elem()
	var h maphash.Hash
	h.SetSeed(p.seed)
	switch to.Kind() {
	case reflect.String:
		if to.Len() > textBytesMax {
			return
		}
		p.text(to)
		h.WriteString(to.String())
	case reflect.Bool, reflect.Int, reflect.Int32, reflect.Int64:
		maphash.WriteComparable(&h, to.Interface())
	default:
		p.walk(to)
		return
	}
	slot := &p.pointers[h.Sum64()%slotCount]
	if slot.IsValid() && slot.Type() == v.Type() && slot.Elem().Equal(to) {
		v.Set(*slot)
		return
	}
	*slot = reflect.ValueOf(v.Interface())
}

func (p *Pool) list(v reflect.Value) {
	if v.Len() == 0 || v.Type().Elem().Kind() == reflect.Uint8 {
		return
	}
	known := false
	switch list := v.Addr().Interface().(type) {
	case *[]gatewayv1.ParentReference:
		known = p.refs.find(list)
	case *[]gatewayv1.RouteParentStatus:
		known = p.parents.find(list)
	}
	if known {
		return // nobody changes what others have, too
	}
	if v.Cap() > v.Len() {
		exact := reflect.MakeSlice(v.Type(), v.Len(), v.Len())
		reflect.Copy(exact, v)
		v.Set(exact)
	}
	for i := range v.Len() {
		p.walk(v.Index(i))
	}
	switch list := v.Addr().Interface().(type) {
	case *[]gatewayv1.ParentReference:
		p.refs.add(*list)
	case *[]gatewayv1.RouteParentStatus:
		p.parents.add(*list)
	case *[]gatewayv1.HTTPRouteMatch:
		*list = p.matches.Share(*list)
	case *[]corev1.ServicePort:
		*list = p.servicePorts.Share(*list)
	case *[]discoveryv1.EndpointPort:
		*list = p.endpointPorts.Share(*list)
	}
}

// recentMax is how many lists a Recent compares with. Statuses are written some hundreds each second, all with one time.
const recentMax = 64

// Recent remembers lists that came lately. It is for one goroutine at a time.
type Recent[T any] struct {
	// Equal compares two elements.
	Equal func(a, b T) bool

	lists [recentMax][]T
	next  int
}

// Share returns the list, or one that equals it and came before.
func (r *Recent[T]) Share(list []T) []T {
	if len(list) > 0 && !r.find(&list) {
		r.add(list)
	}
	return list
}

func (r *Recent[T]) find(list *[]T) bool {
	for i := 1; i <= recentMax; i++ { // the newest first
		if known := r.lists[(r.next-i+recentMax)%recentMax]; len(known) > 0 && slices.EqualFunc(known, *list, r.Equal) {
			*list = known
			return true
		}
	}
	return false
}

func (r *Recent[T]) add(list []T) {
	r.lists[r.next] = list
	r.next = (r.next + 1) % recentMax
}

// SameReference reports whether two references say the same, word for word.
func SameReference(a, b gatewayv1.ParentReference) bool {
	return a.Name == b.Name && ptr.Equal(a.Namespace, b.Namespace) && ptr.Equal(a.SectionName, b.SectionName) &&
		ptr.Equal(a.Port, b.Port) && ptr.Equal(a.Kind, b.Kind) && ptr.Equal(a.Group, b.Group)
}

// samePath reports whether two matches that have been through a pool look at the path alone, and at the same one.
func samePath(a, b gatewayv1.HTTPRouteMatch) bool {
	return a.Path != nil && b.Path != nil && ptr.Equal(a.Path.Type, b.Path.Type) && ptr.Equal(a.Path.Value, b.Path.Value) &&
		a.Method == nil && b.Method == nil && len(a.Headers)+len(b.Headers)+len(a.QueryParams)+len(b.QueryParams) == 0
}

// SameParent reports whether two entries of a status are equal, times included.
func SameParent(a, b gatewayv1.RouteParentStatus) bool {
	return a.ControllerName == b.ControllerName && slices.Equal(a.Conditions, b.Conditions) && SameReference(a.ParentRef, b.ParentRef)
}
