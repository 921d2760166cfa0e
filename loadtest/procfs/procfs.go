// Package procfs reads what a process tree has used, CPU time and resident memory, and for how long the machine was idle.
//
// It owns the parsing of /proc. It does not own processes. The generator reads CPU clocks around each slice with it,
// the scenarios read memory.
package procfs

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strconv"
)

// CPU is what the scheduler knows about a set of threads, in nanoseconds.
type CPU struct {
	Used    uint64 // running
	Waiting uint64 // ready to run, while the core was given to others
}

// Sub is the time since an earlier reading.
func (c CPU) Sub(earlier CPU) CPU { return CPU{c.Used - earlier.Used, c.Waiting - earlier.Waiting} }

// ReadCPU sums over all threads of the given processes. A thread that ended takes its time with it, so the values are
// meant for differences over short spans. They are exact for threads that sleep.
func ReadCPU(pids []int) (CPU, error) {
	var sum CPU
	for _, pid := range pids {
		folder := "/proc/" + strconv.Itoa(pid) + "/task"
		tasks, err := os.ReadDir(folder)
		if err != nil {
			return CPU{}, fmt.Errorf("reading CPU time: process %d has ended: %w", pid, err)
		}
		for _, task := range tasks {
			text, err := os.ReadFile(folder + "/" + task.Name() + "/schedstat")
			if errors.Is(err, fs.ErrNotExist) && threadGone(folder, task.Name()) {
				continue
			}
			if err != nil {
				return CPU{}, fmt.Errorf("reading CPU time (the kernel needs CONFIG_SCHED_INFO): %w", err)
			}
			var thread CPU
			if _, err := fmt.Sscan(string(text), &thread.Used, &thread.Waiting); err != nil {
				return CPU{}, fmt.Errorf("reading CPU time of process %d: %w", pid, err)
			}
			sum.Used += thread.Used
			sum.Waiting += thread.Waiting
		}
	}
	return sum, nil
}

func threadGone(folder, name string) bool {
	_, err := os.Stat(folder + "/" + name)
	return err != nil
}

// Idle is for how long processors had nothing to do for anybody here, in nanoseconds, summed over all that are online. The
// kernel keeps it exactly and tells it in steps of 10 ms, so that differences over seconds are good to some parts in a thousand.
type Idle struct {
	Nanos      uint64
	Processors int
}

// ReadIdle reads the idle time of the whole machine, with that in which it waits for disks, and that in which a hypervisor
// lets others run.
func ReadIdle() (Idle, error) {
	text, err := os.ReadFile("/proc/stat")
	if err != nil {
		return Idle{}, fmt.Errorf("reading the CPU time of the machine: %w", err)
	}
	return parseIdle(text)
}

// Positions in a line of /proc/stat, counted from the name of the processor, and the length of a tick (proc(5), USER_HZ).
const (
	machineIdle   = 4
	machineIOWait = 5
	machineSteal  = 8
	tickNanos     = 10_000_000
)

func parseIdle(text []byte) (Idle, error) {
	var sum Idle
	for line := range bytes.Lines(text) {
		fields := bytes.Fields(line)
		if len(fields) <= machineSteal || !bytes.HasPrefix(fields[0], []byte("cpu")) || len(fields[0]) == len("cpu") {
			continue // the line of all together is rounded, and no others are of processors
		}
		for _, position := range []int{machineIdle, machineIOWait, machineSteal} {
			ticks, err := strconv.ParseUint(string(fields[position]), 10, 64)
			if err != nil {
				return Idle{}, fmt.Errorf("reading the CPU time of the machine: line %q of /proc/stat: %w", bytes.TrimSpace(line), err)
			}
			sum.Nanos += ticks * tickNanos
		}
		sum.Processors++
	}
	if sum.Processors == 0 {
		return Idle{}, errors.New("reading the CPU time of the machine: /proc/stat has no line of a processor")
	}
	return sum, nil
}

// Ticks are the user and system time of the given processes in clock ticks (1/100 s): coarse, good for a split over a
// whole run.
func Ticks(pids []int) (user, system uint64, err error) {
	for _, pid := range pids {
		fields, err := statFields(pid)
		if err != nil {
			return 0, 0, err
		}
		u, err1 := strconv.ParseUint(fields[statUser], 10, 64)
		s, err2 := strconv.ParseUint(fields[statSystem], 10, 64)
		if err := errors.Join(err1, err2); err != nil {
			return 0, 0, fmt.Errorf("reading the user and system time of process %d: %w", pid, err)
		}
		user, system = user+u, system+s
	}
	return user, system, nil
}

// Positions in /proc/PID/stat, counted from the state, which follows the command's closing parenthesis (proc(5)).
const (
	statParent = 1
	statUser   = 11
	statSystem = 12
)

func statFields(pid int) ([]string, error) {
	text, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
	if err != nil {
		return nil, fmt.Errorf("process %d has ended: %w", pid, err)
	}
	return splitStat(text)
}

// splitStat leaves out the command, which may hold spaces and parentheses.
func splitStat(text []byte) ([]string, error) {
	end := bytes.LastIndexByte(text, ')')
	if end < 0 {
		return nil, fmt.Errorf("malformed stat line %q", text)
	}
	var fields []string
	for _, field := range bytes.Fields(text[end+1:]) {
		fields = append(fields, string(field))
	}
	if len(fields) <= statSystem {
		return nil, fmt.Errorf("stat line has %d fields after the command, want more than %d", len(fields), statSystem)
	}
	return fields, nil
}

// RSSBytes is the resident memory of the given processes. Pages shared between them count once per process.
func RSSBytes(pids []int) (uint64, error) {
	var sum uint64
	for _, pid := range pids {
		resident, err := StatusBytes(pid, "VmRSS")
		if err != nil {
			return 0, err
		}
		sum += resident[0]
	}
	return sum, nil
}

// StatusBytes are fields of /proc/PID/status that are sizes (proc(5)), in bytes.
func StatusBytes(pid int, names ...string) ([]uint64, error) {
	text, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/status")
	if err != nil {
		return nil, fmt.Errorf("reading memory: process %d has ended: %w", pid, err)
	}
	var sizes []uint64
	for _, name := range names {
		kib, err := statusKiB(text, name+":")
		if err != nil {
			return nil, fmt.Errorf("reading memory of process %d: %w", pid, err)
		}
		sizes = append(sizes, kib<<10)
	}
	return sizes, nil
}

func statusKiB(text []byte, name string) (uint64, error) {
	for line := range bytes.Lines(text) {
		if value, ok := bytes.CutPrefix(line, []byte(name)); ok {
			value, _ = bytes.CutSuffix(bytes.TrimSpace(value), []byte(" kB"))
			return strconv.ParseUint(string(value), 10, 64)
		}
	}
	return 0, fmt.Errorf("no %s line in status", name)
}

// Tree is the process and all its descendants.
func Tree(root int) ([]int, error) {
	entries, err := os.ReadDir("/proc")
	if err != nil {
		return nil, err
	}
	children := map[int][]int{}
	for _, entry := range entries {
		pid, err := strconv.Atoi(entry.Name())
		if err != nil {
			continue
		}
		fields, err := statFields(pid)
		if err != nil {
			continue // ended meanwhile
		}
		if parent, err := strconv.Atoi(fields[statParent]); err == nil {
			children[parent] = append(children[parent], pid)
		}
	}
	tree := []int{root}
	for next := 0; next < len(tree); next++ {
		tree = append(tree, children[tree[next]]...)
	}
	return tree, nil
}
