package generator

import (
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"runtime"
	"sync"
	"sync/atomic"
	"time"
)

// shakersAtOnce are the handshakes in flight. A few suffice to keep a proxy busy: each costs a hundred microseconds.
const shakersAtOnce = 8

// The reasons for which a handshake fails.
const (
	failHandshake  = "no TLS handshake"
	failNotResumed = "the session was not resumed"
)

// shakeSlice makes handshakes until the end of the slice. Unlike everything else here it runs on goroutines, because a
// handshake of crypto/tls has to block, and computing takes so long that nothing else matters.
func (l *loop) shakeSlice(t *target, end int64) error {
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(2)) // this thread answers as the back end meanwhile
	var done atomic.Uint64
	var mu sync.Mutex // of the target's result
	var running sync.WaitGroup
	for range shakersAtOnce {
		running.Go(func() {
			for l.now() < end {
				begin := l.now()
				reason := shake(t)
				now := l.now()
				mu.Lock()
				if reason != "" {
					t.fail(reason)
				} else {
					t.answered(l, now, begin)
				}
				failures := t.result.Failures[reason]
				mu.Unlock()
				if failures > failuresMax/shakersAtOnce {
					break
				}
			}
			done.Add(1)
		})
	}
	for done.Load() < shakersAtOnce {
		if err := l.turn(1); err != nil {
			return err
		}
	}
	running.Wait()
	return nil
}

// shake opens a connection, completes a handshake, and closes it with the alert that says so.
func shake(t *target) string {
	raw, err := net.Dial("tcp", fmt.Sprintf("127.0.0.1:%d", t.Port))
	if err != nil {
		return failConnect
	}
	defer raw.Close()
	raw.SetDeadline(time.Now().Add(handshakeTimeMax))
	c := tls.Client(raw, t.tls)
	if c.Handshake() != nil {
		return failHandshake
	}
	if t.tls.ClientSessionCache != nil && !c.ConnectionState().DidResume {
		return failNotResumed
	}
	c.Close()
	return ""
}

// oneSession is a client's cache that keeps the first session it gets, for use again and again.
type oneSession struct {
	mu      sync.Mutex
	session *tls.ClientSessionState
}

func (o *oneSession) Get(string) (*tls.ClientSessionState, bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.session, o.session != nil
}

func (o *oneSession) Put(_ string, session *tls.ClientSessionState) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.session == nil {
		o.session = session
	}
}

// getSession asks for something, so that the tickets, which follow the handshake, have come with the answer. Nobody
// answers it but the back end on this thread.
func (l *loop) getSession(t *target, request string) error {
	got := make(chan error, 1)
	go func() { got <- askOnce(t, request) }()
	for {
		select {
		case err := <-got:
			if _, kept := t.tls.ClientSessionCache.Get(""); err == nil && !kept {
				err = errors.New("no session ticket")
			}
			return err
		default:
		}
		if err := l.turn(1); err != nil {
			return err
		}
	}
}

func askOnce(t *target, request string) error {
	c, err := tls.Dial("tcp", fmt.Sprintf("127.0.0.1:%d", t.Port), t.tls)
	if err != nil {
		return err
	}
	defer c.Close()
	c.SetDeadline(time.Now().Add(handshakeTimeMax))
	if _, err := io.WriteString(c, request); err != nil {
		return err
	}
	_, err = c.Read(make([]byte, 1))
	return err
}
