// SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause
// What the kernel knows of single requests of HTTP/1. Here a program runs for whatever arrives in a socket, so it does little:
// without a stamp in the socket's storage it returns at once, and so it does for a request that is not sampled.
//
// User space and the kernel meet in a slot, memory that both have: a request costs no system call. User space names the
// request that it awaits next; the kernel notes when its first byte came; user space notes when the response was written;
// and the kernel counts it when it next looks at the socket (more bytes, or a change of its state), because there is no
// program for sending.
#include "kernel.h"
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_tracing.h>

char LICENSE[] SEC("license") = "Dual BSD/GPL";

#define SLOTS 65536
#define CHUNK 128  // tallies in a chunk
#define CHUNKS 80  // at most
#define BUCKETS 25
#define BOUND_BITS 13 // the first bucket ends at 2^13 ns, each further one at twice the one before, the last never

enum { TALLY_NONE = 0, TALLY_OTHER = 1 };

// stamp is the kernel's side of a connection; user space makes it when it first awaits a request there.
struct stamp {
	__u32 slot;
	__u32 generation;
	__u32 stamped; // the last request that was awaited when bytes came
	__u32 counted; // the last request that was counted
	__u64 arrived; // CLOCK_MONOTONIC in ns, of the first byte of request stamped; 0: that is not known
	__u64 received; // bytes, when the kernel last looked
	__u64 received_before, sent_before; // bytes, before request stamped
};

// slot is what both sides write, each its own fields: one cache line.
struct slot {
	// User space writes these.
	__u32 generation; // of the connection that has the slot
	__u32 awaited; // number of the request to be stamped: in most cases that of the next one, before its client can send it
	__u32 written; // number of the last request whose response was written: stored after what follows
	__u32 tally; // of its route
	__u32 tally_generation;
	__u32 unused;
	__u64 since; // when the connection was there, of a first request whose bytes came before it was awaited; else 0
	__u64 ended; // when the response was given to the kernel; 0: the request is not to be counted
	// The kernel writes this, user space clears it.
	__u64 arrived; // of request awaited
	__u64 pad[2];
};

// tally is what one processor counts for one route. Its numbers are read as differences, so that they may overflow.
struct tally {
	__u64 ns;
	__u64 received;
	__u64 sent;
	__u32 buckets[BUCKETS];
	__u32 unused;
};
const struct tally *tally_in_btf __attribute__((unused)); // only a definition that is used is described in the object

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

// User space changes a generation when it gives a tally to another route: what is late then counts for TALLY_OTHER.
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, CHUNK * CHUNKS);
	__type(key, __u32);
	__type(value, __u64);
} rauta_generations SEC(".maps");

struct chunk {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, CHUNK);
	__type(key, __u32);
	__type(value, struct tally);
};

// User space adds chunks as routes come.
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY_OF_MAPS);
	__uint(max_entries, CHUNKS);
	__type(key, __u32);
	__array(values, struct chunk);
} rauta_chunks SEC(".maps");

static __always_inline struct tally *tally_of(struct slot *s)
{
	__u32 number = s->tally;
	__u64 *generation = bpf_map_lookup_elem(&rauta_generations, &number);
	if (!generation || *generation != s->tally_generation)
		number = TALLY_OTHER;
	__u32 outer = number / CHUNK, inner = number % CHUNK;
	void *chunk = bpf_map_lookup_elem(&rauta_chunks, &outer);
	return chunk ? bpf_map_lookup_elem(chunk, &inner) : NULL;
}

static __always_inline __u32 bucket_of(__u64 ns)
{
	__u64 v = (ns ? ns - 1 : 0) >> BOUND_BITS;
	if (v >= 1 << (BUCKETS - 2))
		return BUCKETS - 1;
	__u32 n = 0; // bits in v
	for (__u32 step = 16; step; step >>= 1)
		if (v >> step) {
			v >>= step;
			n += step;
		}
	return n + (__u32)v;
}

static __always_inline struct slot *slot_of(struct stamp *p)
{
	__u32 number = p->slot;
	struct slot *s = bpf_map_lookup_elem(&rauta_slots, &number);
	return s && s->generation == p->generation ? s : NULL;
}

static __always_inline __u64 sent(const struct tcp_sock *tp)
{
	return tp->bytes_acked + (tp->write_seq - tp->snd_una);
}

// count counts the request whose response has been written. received is how many bytes had come before those of the next.
// Only one processor at a time has the socket, and a program does not interrupt itself.
static __always_inline void count(struct stamp *p, struct slot *s, const struct tcp_sock *tp, __u64 received)
{
	__u64 from = s->since, received_before = 0, sent_before = 0;
	p->counted = s->written;
	if (!from && p->stamped == s->written) {
		from = p->arrived;
		received_before = p->received_before;
		sent_before = p->sent_before;
	}
	if (!from || !s->ended)
		return;
	struct tally *t = tally_of(s);
	if (!t)
		return;
	__u64 ns = s->ended > from ? s->ended - from : 0;
	__u32 bucket = bucket_of(ns);
	if (bucket < BUCKETS)
		t->buckets[bucket]++;
	t->ns += ns;
	t->received += received - received_before;
	t->sent += sent(tp) - sent_before;
}

SEC("tp_btf/sk_data_ready")
int BPF_PROG(on_bytes, const struct sock *sk)
{
	struct stamp *p = bpf_sk_storage_get(&rauta_stamps, (void *)sk, 0, 0);
	if (!p)
		return 0;
	const struct tcp_sock *tp = bpf_skc_to_tcp_sock((void *)sk);
	if (!tp)
		return 0;
	__u64 before = p->received, received = tp->bytes_received;
	p->received = received;
	struct slot *s = slot_of(p);
	if (!s)
		return 0;
	__u32 unread = tp->rcv_nxt - tp->copied_seq;
	if (s->written != p->counted)
		count(p, s, tp, before ? before : received - unread);
	__u32 awaited = s->awaited;
	if (awaited == p->stamped)
		return 0;
	p->stamped = awaited;
	p->arrived = 0;
	if (before && unread > received - before)
		return 0; // older bytes wait too, and nobody knows since when
	p->received_before = received - unread;
	p->sent_before = sent(tp);
	p->arrived = s->arrived = bpf_ktime_get_ns();
	return 0;
}

SEC("tp_btf/inet_sock_set_state")
int BPF_PROG(on_end, const struct sock *sk, int from, int to)
{
	struct stamp *p = bpf_sk_storage_get(&rauta_stamps, (void *)sk, 0, 0);
	if (!p)
		return 0;
	const struct tcp_sock *tp = bpf_skc_to_tcp_sock((void *)sk);
	struct slot *s = slot_of(p);
	if (!tp || !s || s->written == p->counted)
		return 0;
	__u64 received = p->received;
	if (!received) // nothing came since the stamp was made; what is counted as received has the client's FIN, too
		received = tp->bytes_received - (to == TCP_CLOSE_WAIT);
	count(p, s, tp, received);
	return 0;
}
