package observe

import (
	"bytes"
	"math"
	"os"
	"runtime/metrics"
	"strconv"
	"syscall"
	"time"
)

// runtimeSource names what a runtime metric is called in runtime/metrics.
type runtimeSource struct{ name, source string }

// runtimeSources returns the runtime's metrics that are exposed. They are read through runtime/metrics, because
// runtime.ReadMemStats, which the process metrics of VictoriaMetrics/metrics call, stops the world.
func runtimeSources() []runtimeSource {
	return []runtimeSource{
		{"go_goroutines", "/sched/goroutines:goroutines"},
		{"go_gomaxprocs", "/sched/gomaxprocs:threads"},
		{"go_heap_objects_bytes", "/memory/classes/heap/objects:bytes"},
		{"go_memory_total_bytes", "/memory/classes/total:bytes"},
		{"go_memory_released_bytes", "/memory/classes/heap/released:bytes"},
		{"go_memory_limit_bytes", "/gc/gomemlimit:bytes"},
		{"go_gc_heap_goal_bytes", "/gc/heap/goal:bytes"},
		{"go_gc_cycles_total", "/gc/cycles/total:gc-cycles"},
		{"go_heap_allocs_bytes_total", "/gc/heap/allocs:bytes"},
		{"go_heap_allocs_objects_total", "/gc/heap/allocs:objects"},
		{"go_gc_cpu_seconds_total", "/cpu/classes/gc/total:cpu-seconds"},
		{"go_mutex_wait_seconds_total", "/sync/mutex/wait/total:seconds"},
		{"go_gc_pauses_seconds", "/sched/pauses/total/gc:seconds"},
		{"go_sched_latencies_seconds", "/sched/latencies:seconds"},
	}
}

// writeRuntime writes the metrics of the Go runtime; one that this runtime lacks is left out.
func writeRuntime(x *exposition) {
	sources := runtimeSources()
	samples := make([]metrics.Sample, len(sources))
	for i, s := range sources {
		samples[i].Name = s.source
	}
	metrics.Read(samples)
	for i, s := range sources {
		switch v := samples[i].Value; v.Kind() {
		case metrics.KindUint64:
			x.scalar(s.name, float64(v.Uint64()))
		case metrics.KindFloat64:
			x.scalar(s.name, v.Float64())
		case metrics.KindFloat64Histogram:
			if x.family(s.name) {
				sum := foldRuntime(v.Float64Histogram())
				x.histogram(s.name, "", &sum, false)
			}
		}
	}
}

// foldRuntime puts the hundreds of buckets of a runtime histogram into ours: each goes where its upper end belongs, so
// that no time is made to look shorter. The sum is estimated from the lower ends.
func foldRuntime(h *metrics.Float64Histogram) histogramSum {
	var sum histogramSum
	for i, n := range h.Counts {
		if n == 0 {
			continue
		}
		low, high := h.Buckets[i], h.Buckets[i+1]
		bucket := 0
		for bucket < boundsCount && high*1e9 > float64(boundsNs[bucket]) {
			bucket++
		}
		sum.buckets[bucket] += n
		if low > 0 && !math.IsInf(low, 1) {
			sum.sumNs += uint64(low * 1e9 * float64(n))
		}
	}
	return sum
}

// writeProcess writes what the system knows about the process; what it does not tell is left out.
func writeProcess(x *exposition, started float64) {
	var usage syscall.Rusage
	if syscall.Getrusage(syscall.RUSAGE_SELF, &usage) == nil {
		user, system := seconds(usage.Utime), seconds(usage.Stime)
		x.scalar("process_cpu_seconds_total", user+system)
		x.scalar("process_cpu_user_seconds_total", user)
		x.scalar("process_cpu_system_seconds_total", system)
	}
	if stat, ok := readStat("/proc/self/stat"); ok {
		x.scalar("process_resident_memory_bytes", stat.residentBytes)
		x.scalar("process_virtual_memory_bytes", stat.virtualBytes)
		x.scalar("process_threads", stat.threads)
	}
	if started > 0 {
		x.scalar("process_start_time_seconds", started)
	}
	// Since Linux 6.2 the size of the folder is the number of descriptors; listing it would walk every connection.
	if info, err := os.Stat("/proc/self/fd"); err == nil && info.Size() > 0 {
		x.scalar("process_open_fds", float64(info.Size()))
	}
	var limit syscall.Rlimit
	if syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit) == nil {
		x.scalar("process_max_fds", float64(limit.Cur))
	}
}

func seconds(t syscall.Timeval) float64 { return float64(t.Sec) + float64(t.Usec)/1e6 }

// processStat is a part of proc_pid_stat(5).
type processStat struct {
	threads, startedSeconds, virtualBytes, residentBytes float64
}

// userHZ is the unit of times in /proc in ticks per second; the kernel's ABI fixes it.
const userHZ = 100

// readStat reads fields 20 (threads), 22 (start), 23 (virtual) and 24 (resident) of a stat file. They are counted from
// the last ")", because the command name before it may hold anything.
func readStat(path string) (processStat, bool) {
	data, err := os.ReadFile(path)
	if err != nil {
		return processStat{}, false
	}
	fields := bytes.Fields(data[bytes.LastIndexByte(data, ')')+1:])
	const first, last = 3, 24 // numbers of fields[0] and of the last one needed
	if len(fields) <= last-first {
		return processStat{}, false
	}
	number := func(field int) float64 {
		n, err := strconv.ParseFloat(string(fields[field-first]), 64)
		if err != nil {
			return 0
		}
		return n
	}
	return processStat{
		threads:        number(20),
		startedSeconds: number(22) / userHZ,
		virtualBytes:   number(23),
		residentBytes:  number(24) * float64(os.Getpagesize()),
	}, true
}

// processStart returns when the process started, as Unix time in seconds with the clock's precision of 10 ms, or 0 when
// the system does not tell. It is read once: computed again it would differ by the error of reading two clocks, which
// monitoring takes for a restart.
func processStart() float64 {
	stat, ok := readStat("/proc/self/stat")
	data, err := os.ReadFile("/proc/uptime")
	if !ok || err != nil {
		return 0
	}
	text, _, _ := bytes.Cut(data, []byte(" "))
	uptime, err := strconv.ParseFloat(string(text), 64)
	if err != nil {
		return 0
	}
	start := float64(time.Now().UnixMilli())/1e3 - uptime + stat.startedSeconds
	return math.Round(start*userHZ) / userHZ
}
