package main

import (
	"context"
	"fmt"
	"time"

	"rauta.io/rauta/loadtest/generator"
)

const (
	reloadInterval = 100 * time.Millisecond
	// reloadTime is the length of the load: some fifty changes.
	reloadTime = 5 * time.Second
)

// runReload changes the configuration of everyone who can, under saturating load. The CPU is not compared: nginx
// replaces its worker with every change.
func runReload(ctx context.Context, l *lab) ([]Row, error) {
	var lines []Row
	for _, e := range l.everyone() {
		if !e.contender.Reloads() {
			continue
		}
		line, err := l.reloadOnce(ctx, e)
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
		if err != nil {
			line.Error = err.Error()
		}
		lines = append(lines, line)
	}
	if len(lines) == 0 {
		fmt.Fprintln(l.output, "reload: no contender that can change its configuration is installed")
	}
	return lines, nil
}

func (l *lab) reloadOnce(ctx context.Context, who entrant) (Row, error) {
	line := Row{Scenario: "reload", Contender: who.label}
	e, err := l.start(ctx, who)
	if err != nil {
		return line, err
	}
	defer l.stop(e)
	command := l.pairedCommand()
	target := e.target()
	target.PIDs = nil
	command.Targets, command.Rounds, command.WarmUp, command.SliceNanos = []generator.Target{target}, 1, false, int64(reloadTime)
	// Every other request goes to the route that changes.
	for i := 0; i < len(command.Requests); i += 2 {
		command.Requests[i] = requestHead(0, 0, l.options.browser)
	}
	stop := make(chan struct{})
	changes := make(chan changed, 1)
	go func() { changes <- e.changeRepeatedly(stop) }()
	results, err := l.generator.do(ctx, &command)
	close(stop)
	made := <-changes
	if err == nil {
		err = made.err
	}
	if err != nil {
		return line, err
	}
	l.keepFailed(ctx, e, results[0])
	m := newMeasurement(who)
	m.add(results[0], 0)
	line = rows("reload", []*measurement{m})[0]
	line.CPUNanos, line.Saturation, line.Waiting = 0, 0, 0
	after, err := e.waitGeneration(ctx, made.count)
	if err != nil {
		line.Failed++
		line.Failures["the last change does not show"]++
		return line, err
	}
	line.Remark = fmt.Sprintf("%d changes, %d of them seen in answers under load, the last one %v after the load; %d reconnects",
		made.count, results[0].Generations, after.Round(time.Millisecond), results[0].Reconnects)
	if results[0].Generations == 0 {
		line.Failed++
		line.Failures["no change shows under load"]++
	}
	return line, nil
}

type changed struct {
	count int
	err   error
}

// changeRepeatedly makes one change per interval, each with the next generation, until stop is closed.
func (e *entered) changeRepeatedly(stop <-chan struct{}) changed {
	ticker := time.NewTicker(reloadInterval)
	defer ticker.Stop()
	for count := 0; ; {
		select {
		case <-stop:
			return changed{count: count}
		case <-ticker.C:
		}
		if err := e.contender.Reload(e.environment, e.process.PID, count+1); err != nil {
			return changed{count, err}
		}
		count++
	}
}
