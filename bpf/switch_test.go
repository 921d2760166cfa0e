//go:build linux && (amd64 || arm64)

package bpf

import (
	"sync"
	"time"
)

// Switch opens a window, or closes it; the other programs run when connections begin and end. It takes the place of Start,
// for tests and for the measurement of costs.
func (k *Kernel) Switch(open bool) error {
	w := k.requests.window
	w.detach()
	if !open {
		return nil
	}
	return w.attach()
}

// Windows opens and closes windows as Start does, until stop is called. phase, from 0 to 1, is how much of a window and the
// time behind it is over already.
func (k *Kernel) Windows(phase float64) (stop func()) {
	w := k.requests.window
	ended := make(chan struct{})
	var running sync.WaitGroup
	running.Go(func() {
		whole := time.Duration(float64(w.length) / w.ratio())
		into := time.Duration(phase * float64(whole))
		if into > w.length {
			if !pause(whole-into, ended) {
				return
			}
			into = 0
		}
		w.run(ended, into)
	})
	return func() {
		close(ended)
		running.Wait()
		w.detach()
	}
}

// Share is for how much of the time windows are open by now.
func (k *Kernel) Share() float64 { return k.requests.window.ratio() }

// RunTimes are how often the program of requests has run and for how long, while statistics of the kernel are on.
func (k *Kernel) RunTimes() (runs, ns uint64, err error) {
	s, err := k.requests.window.program.Stats()
	if err != nil {
		return 0, 0, err
	}
	return s.RunCount, uint64(s.Runtime), nil
}
