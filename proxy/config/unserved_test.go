package config

import (
	"errors"
	"fmt"
	"testing"
)

func TestListenersThatAreNotServedAreFoundInWhatPublishingReturned(t *testing.T) {
	taken, bad := errors.New("the port is taken"), errors.New("bad address")
	c := &Config{Listeners: []Listener{{Name: "a"}, {Name: "b"}, {Name: "c"}, {Name: "d"}}}
	err := errors.Join(
		errors.Join(&Error{Part: PartRoute, Index: 0, Err: errors.New("bad route")}, &Error{Part: PartListener, Index: 3, Err: bad}),
		fmt.Errorf("sockets: %w", errors.Join(&ListenerError{Listeners: []string{"a", "b"}, Err: taken})),
	)
	got := Unserved(c, err)
	if len(got) != 3 || got["a"] != taken || got["b"] != taken || got["d"] != bad {
		t.Errorf("got %v", got)
	}
	if got := Unserved(c, errors.New("something else")); got != nil {
		t.Errorf("got %v, want nil", got)
	}
}
