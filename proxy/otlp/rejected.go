package otlp

import "reflect"

// rejectedOf returns how many of a batch of spans were lost by an error of the exporter: those that the collector has
// refused if it took the others (OTLP, "Partial Success"), or else all. partly says that it is the former.
func rejectedOf(err error, batch int) (lost int, partly bool) {
	n, partly := partialSuccess(err)
	if !partly {
		return batch, false
	}
	return int(min(max(n, 0), int64(batch))), true
}

// partialSuccess finds the number in an error that is nothing worse than a partial success. Its type is hidden in each of the
// two exporters; only the name of the field says what it is, which a test with either of them holds.
func partialSuccess(err error) (rejected int64, ok bool) {
	switch e := err.(type) {
	case interface{ Unwrap() []error }:
		for _, one := range e.Unwrap() {
			n, is := partialSuccess(one)
			if !is {
				return 0, false
			}
			rejected, ok = rejected+n, true
		}
		return rejected, ok
	case interface{ Unwrap() error }:
		return partialSuccess(e.Unwrap())
	}
	v := reflect.ValueOf(err)
	if v.Kind() != reflect.Struct {
		return 0, false
	}
	f := v.FieldByName("RejectedItems")
	if !f.IsValid() || !f.CanInt() {
		return 0, false
	}
	return f.Int(), true
}
