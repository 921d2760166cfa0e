package status

import (
	"slices"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	gatewayv1 "sigs.k8s.io/gateway-api/apis/v1"
)

// ordered finds statuses by the names of their objects. Both are in order of namespace and name, so that the status of the
// next object is nearly always the next one; where it is not, it is searched for.
type ordered[T any] struct {
	list []T // in order
	of   func(*T) id
	next int // in list
}

// find returns the status of an object, nil if there is none.
func (s *ordered[T]) find(o metav1.Object) *T {
	wanted := id{Namespace: o.GetNamespace(), Name: o.GetName()}
	at := s.next
	if at >= len(s.list) || s.of(&s.list[at]) != wanted {
		var found bool
		at, found = slices.BinarySearchFunc(s.list, wanted, func(one T, wanted id) int { return compare(s.of(&one), wanted) })
		if !found {
			return nil
		}
	}
	s.next = at + 1
	return &s.list[at]
}

// settledRoutes remembers which routes had the status that is wanted, by kind and place in the list of objects: nobody
// changes an object, nor what is wanted, so that what is in the same memory is still right. A change of one of thousands of
// routes then costs no comparison of the others' conditions. The zero value is empty.
type settledRoutes map[string][]settledRoute

// settledRoute holds on to what was compared, so that its memory can't become that of something else.
type settledRoute struct {
	object metav1.Object                // nil: the route was not right
	want   *gatewayv1.RouteParentStatus // the first of what was wanted, nil if nothing was
}

// resize returns what is known of so many routes of a kind, for the caller to change.
func (s settledRoutes) resize(kind string, count int) []settledRoute {
	list := s[kind]
	if len(list) > count {
		clear(list[count:])
	}
	s[kind] = append(list[:min(len(list), count)], make([]settledRoute, max(0, count-len(list)))...)
	return s[kind]
}

func settledAs(o metav1.Object, want []gatewayv1.RouteParentStatus) settledRoute {
	if len(want) == 0 {
		return settledRoute{object: o}
	}
	return settledRoute{o, &want[0]}
}
