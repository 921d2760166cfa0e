// Package bpf shows the kernel's side of RAUTA's sockets.
//
// It owns the programs in src, their compiled form, which of them this kernel takes (Tier), the tags on sockets, and the
// metrics that come of them. It routes nothing and is needed for nothing: whatever fails here costs numbers and a line of
// text. It does not own the sockets (proxy/loop, which calls it through observe.Kernel) nor the exposition (proxy/observe).
// cmd/rauta opens one Kernel for each process.
//
// The objects are committed, so that RAUTA is built without clang; `make bpf` compiles them anew.
package bpf
