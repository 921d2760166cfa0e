package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"sync"
	"time"
)

// What makes work while changes are measured has a process of its own: requests to all routes, and objects that change all the
// time. In one process with it, measuring would wait for its turn among all these goroutines, and RAUTA be blamed for it.

// load is that process, as the one that measures sees it.
type load struct {
	command *exec.Cmd
	orders  io.WriteCloser
	answers *bufio.Scanner
}

// traffic is what the requests to all routes have come to in a phase.
type traffic struct {
	Requests, Errors int
	FirstError       string
}

// Orders, one a line.
const (
	orderQuiet = "quiet" // requests only
	orderChurn = "churn" // and objects that change
)

// startLoad starts it. It does nothing yet.
func startLoad(ctx context.Context) (*load, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, fmt.Errorf("find this program: %w", err)
	}
	w := &load{command: exec.CommandContext(ctx, self, append(os.Args[1:len(os.Args):len(os.Args)], "-only-load")...)}
	w.command.Stderr = os.Stderr
	if w.orders, err = w.command.StdinPipe(); err != nil {
		return nil, err
	}
	answers, err := w.command.StdoutPipe()
	if err != nil {
		return nil, err
	}
	w.answers = bufio.NewScanner(answers)
	if err := w.command.Start(); err != nil {
		return nil, fmt.Errorf("start the process for requests and churn: %w", err)
	}
	return w, nil
}

// phase orders one; end ends it.
func (w *load) phase(order string) error {
	_, err := fmt.Fprintln(w.orders, order)
	return err
}

// end ends the phase and says what came of its requests.
func (w *load) end() (t traffic, err error) {
	if err := w.phase(""); err != nil {
		return t, err
	}
	if !w.answers.Scan() {
		return t, errors.Join(errors.New("the process for requests and churn has ended"), w.answers.Err())
	}
	return t, json.Unmarshal(w.answers.Bytes(), &t)
}

// stop ends the process.
func (w *load) stop() error {
	return errors.Join(w.orders.Close(), w.command.Wait())
}

// obey is that process from within.
func (l *lab) obey(ctx context.Context) error {
	orders := bufio.NewScanner(os.Stdin)
	for orders.Scan() {
		work, stop := context.WithCancel(ctx)
		var result traffic
		var wg sync.WaitGroup
		wg.Go(func() { result = l.traffic(work) })
		if orders.Text() == orderChurn {
			wg.Go(func() { l.churnEvery(work, l.churn, l.churnSlice) })
			wg.Go(func() { l.churnEvery(work, l.routeRate, l.churnRoute) })
		}
		orders.Scan()
		stop()
		wg.Wait()
		if err := json.NewEncoder(os.Stdout).Encode(result); err != nil {
			return err
		}
	}
	return orders.Err()
}

// traffic asks for any routes until ctx is done.
func (l *lab) traffic(ctx context.Context) (t traffic) {
	for {
		_, err := l.get(ctx, host(rand.IntN(l.routes)), "")
		if ctx.Err() != nil {
			return t
		}
		t.Requests++
		if err != nil {
			if t.Errors++; t.FirstError == "" {
				t.FirstError = err.Error()
			}
		}
		time.Sleep(trafficPause)
	}
}

// churnEvery calls f so many times per second.
func (l *lab) churnEvery(ctx context.Context, perSecond int, f func(context.Context)) {
	if perSecond == 0 {
		return
	}
	tick := time.NewTicker(time.Second / time.Duration(perSecond))
	defer tick.Stop()
	room := make(chan struct{}, writers)
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		select {
		case room <- struct{}{}:
			go func() {
				defer func() { <-room }()
				f(ctx)
			}()
		default: // the API server is slower than that
		}
	}
}

func (l *lab) churnSlice(ctx context.Context) {
	if l.services < 2 {
		return
	}
	i := 1 + rand.IntN(l.services-1)
	var pods []string
	first := rand.IntN(1 << 20)
	for j := range l.endpoints {
		pods = append(pods, l.pod(first+j))
	}
	if err := l.api.patch(ctx, slicePath+"/"+service(i), l.slice(i, pods...)); err != nil && ctx.Err() == nil {
		fmt.Fprintln(os.Stderr, "churn:", err)
	}
}

func (l *lab) churnRoute(ctx context.Context) {
	i := l.routes - 1 - rand.IntN((l.routes+1)/2)
	name := host(i)
	change := object{"metadata": object{"annotations": object{"changes.test/at": fmt.Sprint(time.Now().UnixNano())}}, "spec": object{
		"rules": []object{{
			"matches":     []object{{"path": object{"type": "PathPrefix", "value": "/"}}, {"path": object{"type": "Exact", "value": fmt.Sprintf("/%d", rand.IntN(1000))}}},
			"backendRefs": []object{{"name": service(i % l.services), "port": 80}},
		}}}}
	if err := l.api.patch(ctx, routePath+"/"+name, change); err != nil && ctx.Err() == nil {
		fmt.Fprintln(os.Stderr, "churn:", err)
	}
}
