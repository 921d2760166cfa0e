package status

import (
	"errors"
	"strings"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// errStale says that the API server has a status for a newer generation than ours: a newer Update is on its way, to this
// replica or to another one that leads by now.
var errStale = errors.New("a newer generation of the object has a status already")

// foreign reports whether conditions of a type belong to somebody else: types without a domain belong to the controller of
// the object, all others to whoever owns the domain (Gateway API, GatewayStatus.conditions).
func foreign(kind string) bool { return strings.ContainsAny(kind, "/.") }

// sameCondition compares all but the time.
func sameCondition(a, b *metav1.Condition) bool {
	return a.Status == b.Status && a.ObservedGeneration == b.ObservedGeneration && a.Reason == b.Reason && a.Message == b.Message
}

func findCondition(list []metav1.Condition, kind string) *metav1.Condition {
	for i := range list {
		if list[i].Type == kind {
			return &list[i]
		}
	}
	return nil
}

// conditionsSettled reports whether nothing needs to be written.
func conditionsSettled(have, want []metav1.Condition) bool {
	for i := range want {
		if h := findCondition(have, want[i].Type); h == nil || !sameCondition(h, &want[i]) {
			return false
		}
	}
	for i := range have {
		if !foreign(have[i].Type) && findCondition(want, have[i].Type) == nil {
			return false
		}
	}
	return true
}

// mergeConditions returns want with the times of have where status, reason and message are the same, in the order of have,
// among the conditions of others.
func mergeConditions(have, want []metav1.Condition, now time.Time) ([]metav1.Condition, error) {
	out := make([]metav1.Condition, 0, len(want))
	for i := range have {
		h := &have[i]
		if foreign(h.Type) {
			out = append(out, *h)
			continue
		}
		w := findCondition(want, h.Type)
		if w == nil || findCondition(out, h.Type) != nil {
			continue
		}
		if h.ObservedGeneration > w.ObservedGeneration {
			return nil, errStale
		}
		merged := *w
		merged.LastTransitionTime = metav1.NewTime(now)
		if h.Status == w.Status && h.Reason == w.Reason && h.Message == w.Message && !h.LastTransitionTime.IsZero() {
			merged.LastTransitionTime = h.LastTransitionTime
		}
		out = append(out, merged)
	}
	for i := range want {
		if findCondition(out, want[i].Type) == nil {
			merged := want[i]
			merged.LastTransitionTime = metav1.NewTime(now)
			out = append(out, merged)
		}
	}
	return out, nil
}
