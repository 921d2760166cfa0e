// SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause
// What the kernel knows of single requests of HTTP/1: when their first byte came. Here a program runs for whatever arrives in
// any socket of the host, so it does little, and it is not always attached: what is not attached costs nothing, and a look
// that finds nothing to do costs nearly as much as one that does.
//
// User space and the kernel meet in a slot, memory that both have: a request costs no system call. User space names the
// request that it awaits next, and the kernel notes when its first byte came. User space knows the rest.
//
// A time that is attached is a window, and has a number, its epoch. What comes while no program is attached is not seen, so
// that a stamp must be known to be of the first bytes of its request: older ones may lie in the socket unread.
#include "kernel.h"
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_tracing.h>

char LICENSE[] SEC("license") = "Dual BSD/GPL";

#define SLOTS 65536
#define PROCESSORS 64 // that count apart; what is beyond shares

// stamp is the kernel's side of a connection; user space makes it when it first awaits a request there.
struct stamp {
	__u32 slot;
	__u32 generation;
	__u32 awaited; // the last request that was awaited when bytes came
	__u32 seen; // rcv_nxt, when the kernel last looked
	__u32 segments; // with data, likewise
	__u32 unused;
};

// slot is what both sides write, each its own fields: one cache line.
struct slot {
	// User space writes these.
	__u32 generation; // of the connection that has the slot
	__u32 awaited; // number of the request to be stamped: in most cases that of the next one, before its client can send it
	__u32 epoch; // of the window in which it was first awaited; written before awaited, as the next
	__u32 fresh; // number of the last awaited request before which the socket was found to be empty
	// The kernel writes these.
	__u64 arrived; // CLOCK_MONOTONIC in ns, of the first byte of request stamped
	__u32 stamped; // number of the last request whose arrival is known; written after arrived
	__u32 unused;
	__u64 pad[4];
};

struct {
	__uint(type, BPF_MAP_TYPE_SK_STORAGE);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, int);
	__type(value, struct stamp);
} rauta_stamps SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, SLOTS);
	__type(key, __u32);
	__type(value, struct slot);
} rauta_slots SEC(".maps");

// looks is what one processor has counted: a cache line of its own.
struct looks {
	__u64 n;
	__u64 pad[7];
};

struct window {
	__u32 epoch; // user space writes it before it attaches
	__u32 unused;
	__u64 pad[7];
	struct looks looks[PROCESSORS]; // at arrivals in whatever socket: the cost of watching goes by them
};

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct window);
} rauta_window SEC(".maps");

static __always_inline struct slot *slot_of(struct stamp *p)
{
	__u32 number = p->slot;
	struct slot *s = bpf_map_lookup_elem(&rauta_slots, &number);
	return s && s->generation == p->generation ? s : NULL;
}

SEC("tp_btf/sk_data_ready")
int BPF_PROG(on_bytes, const struct sock *sk)
{
	__u32 only = 0;
	struct window *w = bpf_map_lookup_elem(&rauta_window, &only);
	if (!w)
		return 0;
	w->looks[bpf_get_smp_processor_id() % PROCESSORS].n++;
	if (!sk->sk_bpf_storage)
		return 0; // most sockets of others have none of any kind
	struct stamp *p = bpf_sk_storage_get(&rauta_stamps, (void *)sk, 0, 0);
	if (!p)
		return 0;
	const struct tcp_sock *tp = bpf_skc_to_tcp_sock((void *)sk);
	struct slot *s = slot_of(p);
	if (!tp || !s)
		return 0;
	__u32 came = tp->rcv_nxt - p->seen, segments = tp->data_segs_in - p->segments;
	p->seen += came;
	p->segments += segments;
	__u32 awaited = s->awaited;
	if (awaited == p->awaited)
		return 0;
	p->awaited = awaited;
	// Do older bytes lie there, of which nobody knows since when? In the window in which the request was first awaited they
	// do not if the socket was empty then. Else nothing more may be unread than came since the last look, and all of that
	// must have come now: in the same window every arrival was looked at, in a later one it must be a single segment.
	__u32 unread = tp->rcv_nxt - tp->copied_seq;
	if (s->epoch == w->epoch ? s->fresh != awaited && unread > came : segments != 1 || unread > came)
		return 0;
	s->arrived = bpf_ktime_get_ns();
	*(volatile __u32 *)&s->stamped = awaited;
	return 0;
}
