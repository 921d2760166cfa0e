//go:build linux && (amd64 || arm64)

package bpf_test

import (
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"
	"time"
	"unsafe"

	"github.com/cilium/ebpf"
	"golang.org/x/sys/unix"

	"rauta.io/rauta/loadtest/generator"
	"rauta.io/rauta/loadtest/procfs"
)

// costRecord is what happened in one slice of a load, in nanoseconds.
type costRecord struct {
	Load     string  `json:"load"`
	Block    int64   `json:"block"` // by the clock: what is compared has the same
	Arm      string  `json:"arm"`
	Requests uint64  `json:"requests"`
	Proxy    uint64  `json:"proxyNanos"`             // CPU time of the process, with that of opening and closing windows
	Others   uint64  `json:"othersNanos,omitempty"`  // CPU time of clients and back end, with what the kernel does for them
	Machine  int64   `json:"machineNanos,omitempty"` // for which processors worked, whoever it was for
	Share    float64 `json:"share,omitempty"`        // of the time in windows, as the default has it
}

// costLoads are requests a second, 0 for as many as possible.
func costLoads() map[string]float64 { return map[string]float64{"saturated": 0, "10,000/s": 10_000} }

// The blocks of arms. What is there twice shows how far two equal things lie apart.
const (
	armOff, armOffAgain           = "closed", "closed again"
	armOpen, armOpenAgain         = "open", "open again"
	armAuto, armAutoAgain         = "auto", "auto again"
	armLongOff, armLongOffAgain   = "closed for long", "closed for long again"
	armAll                        = "open for long"
	armNothing, armNothingAgain   = "no programs", "no programs again"
	armClosed                     = "programs, closed"
	windowsInRow, turnsInRow      = 5, 2 // blocks of windows, and of the default
	costPlanesSlice               = 50 * time.Millisecond
	costPlanesShare, costRunTimes = 6, 3 * time.Second // one sixth of the time
)

// meter reads clocks and the number of answers.
type meter struct {
	t        *testing.T
	load     *load
	plane    *plane
	name     string
	progress *uint64
	file     io.Writer
	seen     map[string]*seenBy // by arm: what the kernel has counted in long slices
}

// reading is what clocks say.
type reading struct {
	wall, proxy, others int64
	idle                procfs.Idle
	requests            uint64
}

// cpuClock is the number of the CPU clock of a process (clock_getcpuclockid(3)).
func cpuClock(pid int) int32 { return ^int32(pid)<<3 | 2 }

func (m *meter) read() (r reading) {
	m.t.Helper()
	for _, clock := range []struct {
		id   int32
		into *int64
	}{{unix.CLOCK_MONOTONIC, &r.wall}, {cpuClock(m.load.pid), &r.others}, {unix.CLOCK_PROCESS_CPUTIME_ID, &r.proxy}} {
		var ts unix.Timespec
		if err := unix.ClockGettime(clock.id, &ts); err != nil {
			m.t.Fatal(err)
		}
		*clock.into = ts.Nano()
	}
	var err error
	if r.idle, err = procfs.ReadIdle(); err != nil {
		m.t.Fatal(err)
	}
	r.requests = atomic.LoadUint64(m.progress)
	return r
}

// block measures each arm once, in random order.
func (m *meter) block(length time.Duration, arms ...string) {
	m.t.Helper()
	block := time.Now().UnixNano()
	for _, i := range rand.Perm(len(arms)) {
		counted := m.countedBefore(arms[i])
		before := m.read()
		stop := m.watch(arms[i])
		time.Sleep(length - time.Duration(m.now()-before.wall))
		if err := stop(); err != nil {
			m.t.Fatal(err)
		}
		after := m.read()
		r := costRecord{
			Load: m.name, Block: block, Arm: arms[i], Requests: after.requests - before.requests,
			Proxy: uint64(after.proxy - before.proxy), Others: uint64(after.others - before.others),
			Machine: (after.wall-before.wall)*int64(after.idle.Processors) - int64(after.idle.Nanos-before.idle.Nanos),
		}
		if arms[i] == armAuto || arms[i] == armAutoAgain {
			r.Share = m.plane.kernel.Share()
		}
		m.keep(r)
		counted(r.Requests)
	}
}

func (m *meter) now() int64 {
	var ts unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_MONOTONIC, &ts); err != nil {
		m.t.Fatal(err)
	}
	return ts.Nano()
}

func (m *meter) keep(r costRecord) {
	m.t.Helper()
	text, err := json.Marshal(r)
	if err == nil {
		_, err = m.file.Write(append(text, '\n'))
	}
	if err != nil {
		m.t.Fatal(err)
	}
}

// watch has requests watched in the way of an arm until stop is called.
func (m *meter) watch(arm string) (stop func() error) {
	m.t.Helper()
	k := m.plane.kernel
	switch arm {
	case armOpen, armOpenAgain, armAll:
		if err := k.Switch(true); err != nil {
			m.t.Fatal(err)
		}
		return func() error { return k.Switch(false) }
	case armAuto, armAutoAgain:
		end := k.Windows(rand.Float64())
		return func() error { end(); return nil }
	}
	return func() error { return nil }
}

// under measures under one load.
func (m *meter) under(name string, perSecond float64, length time.Duration) {
	m.t.Helper()
	path := filepath.Join(m.t.TempDir(), "progress")
	command := m.load.command(m.plane)
	command.SliceNanos, command.Progress = int64(length), path
	if perSecond > 0 {
		command.Kind, command.PerSecond = generator.Rate, perSecond
	}
	end := time.Now().Add(length)
	result := m.load.begin(command)
	time.Sleep(costWarm)
	m.name, m.progress = name, mapWord(m.t, path)
	const row = windowsInRow*4*costWindow + turnsInRow*5*costTurn
	for time.Until(end) > row+time.Second {
		for range windowsInRow {
			m.block(costWindow, armOff, armOpen, armOffAgain, armOpenAgain)
		}
		for range turnsInRow {
			m.block(costTurn, armLongOff, armAuto, armLongOffAgain, armAutoAgain, armAll)
		}
	}
	result()
}

func mapWord(t *testing.T, path string) *uint64 {
	t.Helper()
	file, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	memory, err := unix.Mmap(int(file.Fd()), 0, 8, unix.PROT_READ, unix.MAP_SHARED)
	if err != nil {
		t.Fatal(err)
	}
	return (*uint64)(unsafe.Pointer(unsafe.SliceData(memory)))
}

// planes measures what it costs between windows that there are programs at all, next to data planes without any.
func (m *meter) planes(without []*plane, length time.Duration) {
	m.t.Helper()
	planes := append([]*plane{m.plane}, without...)
	command := m.load.command(planes...)
	command.WarmUp, command.SliceNanos = true, int64(costPlanesSlice)
	command.Rounds = int(length / (costPlanesSlice * time.Duration(len(planes))))
	arms := []string{armClosed, armNothing, armNothingAgain}
	began := time.Now().UnixNano()
	for i, r := range m.load.begin(command)() {
		for _, s := range r.Samples {
			m.keep(costRecord{Load: "saturated", Block: began + int64(s.Round), Arm: arms[i], Requests: s.Requests, Proxy: s.CPUNanos})
		}
	}
}

// runTimes has the kernel itself say how long the program runs. The clock that it reads for that is in it.
func (m *meter) runTimes(name string, perSecond float64) string {
	m.t.Helper()
	statistics, err := ebpf.EnableStats(uint32(unix.BPF_STATS_RUN_TIME))
	if err != nil {
		return "no statistics: " + err.Error()
	}
	defer statistics.Close()
	text := ""
	for _, arm := range []string{armOpen, armAuto} {
		runsBefore, nsBefore, err1 := m.plane.kernel.RunTimes()
		stop := m.watch(arm)
		command := m.load.command(m.plane)
		command.SliceNanos = int64(costRunTimes)
		if perSecond > 0 {
			command.Kind, command.PerSecond = generator.Rate, perSecond
		}
		requests := m.load.begin(command)()[0].Requests
		err2 := stop()
		runs, ns, err3 := m.plane.kernel.RunTimes()
		if err1 != nil || err2 != nil || err3 != nil {
			m.t.Fatal(err1, err2, err3)
		}
		n := runs - runsBefore
		text += fmt.Sprintf("%s, %s: the program ran %.2f times per request, %.0f ns each, windows %.3f of the time\n", name, arm,
			float64(n)/float64(requests), float64(ns-nsBefore)/float64(max(n, 1)), m.plane.kernel.Share())
	}
	return text
}

func TestWhatWatchingCosts(t *testing.T) {
	if *costFor == 0 {
		if *costInto == "" {
			t.Skip("it is a measurement: runs with make loadtest-ebpf")
		}
		t.Log("\n" + costReport(t, *costInto))
		return
	}
	if runtime.NumCPU() < 2 {
		t.Skip("two CPU cores are needed: one for the load, one for the proxy")
	}
	file, err := os.OpenFile(*costInto, os.O_CREATE|os.O_APPEND|os.O_RDWR, 0o644)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	l := startLoad(t)
	m := &meter{t: t, load: l, plane: startPlane(t, armClosed, auto, l.backend), file: file}
	accuracy := ""
	without := []*plane{startPlane(t, armNothing, unwatched, l.backend), startPlane(t, armNothingAgain, unwatched, l.backend)}
	pinAll(t, os.Getpid(), 1)
	between := *costFor / costPlanesShare
	m.planes(without, between)
	runTimes := ""
	loads := costLoads()
	each := (*costFor-between)/time.Duration(len(loads)) - 2*costRunTimes
	for name, perSecond := range loads {
		m.seen = map[string]*seenBy{armAuto: {}, armAll: {}}
		m.under(name, perSecond, each)
		for _, arm := range []string{armAuto, armAll} {
			accuracy += fmt.Sprintf("| %s | %s | %s |\n", name, arm, m.seen[arm])
		}
		runTimes += m.runTimes(name, perSecond)
	}
	t.Logf("\n%s\n| load | watched | requests | counted | share of them | p50 in us | p90 | p99 |\n%s|\n%s\n%s", costReport(t, *costInto),
		strings.Repeat("| --- ", 8), accuracy, runTimes)
}
