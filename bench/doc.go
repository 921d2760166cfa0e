// Package bench holds micro-benchmarks of whole paths through the data plane, and the gates on what they may cost in
// allocations and system calls. Benchmarks of one package stand in that package; comparisons with other proxies are in
// loadtest.
package bench
