package upstream

import (
	"errors"
	"fmt"
	"syscall"
	"testing"

	"rauta.io/rauta/proxy/config"
	"rauta.io/rauta/proxy/observe"
)

func TestAFailedConnectIsCountedByWhatTheSystemCallsIt(t *testing.T) {
	for want, f := range map[string]Failure{
		"ECONNREFUSED":         {Cause: CauseConnectFailed, Err: fmt.Errorf("connect: %w", syscall.ECONNREFUSED)},
		"EHOSTUNREACH":         {Cause: CauseConnectFailed, Err: syscall.EHOSTUNREACH},
		"connect_failed":       {Cause: CauseConnectFailed, Err: errors.New("other")},
		"connect_timeout":      {Cause: CauseConnectTimeout, Err: syscall.ETIMEDOUT},
		"tls_without_h2":       {Cause: CauseTLS, Detail: "tls_without_h2"},
		"tls_handshake_failed": {Cause: CauseTLS},
	} {
		if got := connectReason(f); got != want {
			t.Errorf("%+v counts as %q, want %q", f, got, want)
		}
	}
}

func TestTheNamespaceOfAPodIsThatOfItsService(t *testing.T) {
	for cluster, c := range map[string]struct {
		info config.Endpoint
		want observe.Target
	}{
		"a/svc:80": {config.Endpoint{Pod: "p", Node: "n", Zone: "z"}, observe.Target{Pod: "p", Namespace: "a", Node: "n", Zone: "z"}},
		"b/svc:80": {config.Endpoint{Zone: "z"}, observe.Target{Zone: "z"}},
	} {
		if got := targetOf(cluster, &c.info); got != c.want {
			t.Errorf("%+v, want %+v", got, c.want)
		}
	}
}
