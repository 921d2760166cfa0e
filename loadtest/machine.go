package main

import (
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"rauta.io/rauta/loadtest/peers"
)

// Machine describes where and with what the figures were taken.
type Machine struct {
	CPU      string   `json:"cpu"`
	Cores    int      `json:"cores"`
	Memory   string   `json:"memory"`
	Kernel   string   `json:"kernel"`
	Go       string   `json:"go"`
	Versions []string `json:"versions"`
	Pinning  string   `json:"pinning"`
	Method   string   `json:"method"`
}

func describeMachine(contenders []*peers.Contender, c cpus, o *options) *Machine {
	m := &Machine{
		CPU:     valueIn("/proc/cpuinfo", "model name"),
		Cores:   runtime.NumCPU(),
		Memory:  valueIn("/proc/meminfo", "MemTotal"),
		Kernel:  kernelRelease(),
		Go:      runtime.Version() + " " + runtime.GOOS + "/" + runtime.GOARCH,
		Pinning: fmt.Sprintf("generator and back end on CPU %d, one proxy worker on CPU %d", c.generator, c.proxy),
		Method: fmt.Sprintf("%d connections, %d-byte bodies, %d starts x %d rounds of %v slices in random order",
			o.connections, o.bodyBytes, o.restarts, o.rounds, o.slice),
	}
	if o.browser {
		m.Method += ", browser header fields"
	}
	for _, contender := range contenders {
		if contender.Version != "" && !slices.Contains(m.Versions, contender.Version) {
			m.Versions = append(m.Versions, contender.Version)
		}
	}
	if output, _ := exec.Command("wrk", "-v").CombinedOutput(); len(output) > 0 {
		line, _, _ := strings.Cut(string(output), "\n")
		version, _, _ := strings.Cut(line, " Copyright")
		m.Versions = append(m.Versions, version)
	}
	return m
}

func valueIn(file, name string) string {
	text, err := os.ReadFile(file)
	if err != nil {
		return "unknown"
	}
	for line := range strings.Lines(string(text)) {
		if key, value, ok := strings.Cut(line, ":"); ok && strings.TrimSpace(key) == name {
			return strings.TrimSpace(value)
		}
	}
	return "unknown"
}

func kernelRelease() string {
	var name unix.Utsname
	if unix.Uname(&name) != nil {
		return "unknown"
	}
	return unix.ByteSliceToString(name.Sysname[:]) + " " + unix.ByteSliceToString(name.Release[:])
}

func (m *Machine) markdown() string {
	var b strings.Builder
	fmt.Fprintf(&b, "- Machine: %s, %d cores, %s memory, %s, %s\n", m.CPU, m.Cores, m.Memory, m.Kernel, m.Go)
	fmt.Fprintf(&b, "- Programs: %s\n", strings.Join(m.Versions, "; "))
	fmt.Fprintf(&b, "- Method: %s; %s\n", m.Pinning, m.Method)
	return b.String()
}
