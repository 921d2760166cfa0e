// SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause
// What the kernel knows of our sockets. Every program returns at once for a socket that is not tagged, so that the rest of
// the host is not taxed: rauta_conns is the tag. All of this runs once per connection or in trouble, never per request.
#include "kernel.h"
#include <bpf/bpf_core_read.h>
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_tracing.h>

char LICENSE[] SEC("license") = "Dual BSD/GPL";

#define BOUNDS 19
#define CELLS 4096
#define LIMITS 3

// The upper bounds of the buckets in nanoseconds, inclusive; the loader fills them in, so that both sides have the same.
const volatile __u64 bounds[BOUNDS];

// Kernels before 5.11 keep these programs away from the storage of sockets (tier "states"). The loader then makes
// rauta_conns a hash by the cookies of sockets that connect, and clients are known by the port that they have come to.
// The verifier leaves out what is for the other way.
const volatile __u8 by_cookie;

// conn is the tag of a socket. A listener's is cloned to every socket that is accepted from it, before anybody sees it.
struct conn {
	__u32 cell;
	__u32 generation;
	__u64 opened; // CLOCK_MONOTONIC in ns: connect has begun, or the handshake of a client was complete
	// What of the socket's own counters is in the cell already.
	__u64 bytes_received;
	__u64 bytes_acked;
	__u32 sending[LIMITS];
	__u32 unused;
};

// failure says why a connect failed.
enum failure {
	FAILED_REFUSED,
	FAILED_TIMED_OUT,
	FAILED_NO_ROUTE_TO_HOST,
	FAILED_NO_NETWORK,
	FAILED_RESET,
	FAILED_GIVEN_UP, // closed by us before the kernel had an answer
	FAILED_OTHER,
	FAILED_COUNT,
};

// cell counts for all clients (number 0), all endpoints beyond the others (number 1), or one endpoint. User space changes
// generation when it gives a cell to another endpoint: sockets of the former one then count in cell 1.
struct cell {
	__u32 generation;
	__u32 unused;
	__u64 connect_ns;
	__u64 retransmits;
	__u64 resets_received;
	__u64 resets_sent;
	__u64 timeouts;
	__u64 bytes_received;
	__u64 bytes_acked;
	__u64 sending[LIMITS]; // ticks with data under way, by what has limited it: network, receive window, send buffer
	__u64 failures[FAILED_COUNT];
	__u64 connects[BOUNDS + 1];
};

// sight is what a sweep says of one socket.
struct sight {
	__u32 cell;
	__u32 generation;
	__u32 state;
	__u32 srtt_us;
	__u32 min_rtt_us;
	__u32 unread;
	__u32 unsent;
};

struct {
	__uint(type, BPF_MAP_TYPE_SK_STORAGE);
	__uint(map_flags, BPF_F_NO_PREALLOC | BPF_F_CLONE);
	__type(key, int);
	__type(value, struct conn);
} rauta_conns SEC(".maps");

struct port {
	__u32 namespace; // of the network, by the number of its inode
	__u32 number;
};

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, 1024);
	__type(key, struct port);
	__type(value, struct conn);
} rauta_ports SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, CELLS);
	__type(key, __u32);
	__type(value, struct cell);
} rauta_cells SEC(".maps");

#define ADD(field, n) __sync_fetch_and_add(&(field), (n))

static __always_inline struct conn *conn_of(const struct sock *sk)
{
	if (!by_cookie)
		return bpf_sk_storage_get(&rauta_conns, (void *)sk, 0, 0);
	__u64 cookie = sk->__sk_common.skc_cookie.counter;
	return cookie ? bpf_map_lookup_elem(&rauta_conns, &cookie) : NULL;
}

// client_of is what conn_of is not for clients when by_cookie. At the end skc_num is 0 already, and inet_sport is not.
static __always_inline struct conn *client_of(const struct sock *sk)
{
	const struct tcp_sock *tp = bpf_skc_to_tcp_sock((void *)sk);
	if (!tp)
		return NULL;
	struct port p = {
		.namespace = sk->__sk_common.skc_net.net->ns.inum,
		.number = __builtin_bswap16(tp->inet_conn.icsk_inet.inet_sport),
	};
	return bpf_map_lookup_elem(&rauta_ports, &p);
}

// forget ends the tag of a cookie; storage ends with its socket.
static __always_inline void forget(const struct sock *sk)
{
	__u64 cookie = sk->__sk_common.skc_cookie.counter;
	bpf_map_delete_elem(&rauta_conns, &cookie);
}

static __always_inline struct cell *cell_of(struct conn *c)
{
	__u32 number = c->cell;
	struct cell *m = bpf_map_lookup_elem(&rauta_cells, &number);
	if (m && m->generation == c->generation)
		return m;
	number = 1;
	return bpf_map_lookup_elem(&rauta_cells, &number);
}

// cell_of_socket is NULL for a socket without a tag.
static __always_inline struct cell *cell_of_socket(const struct sock *sk)
{
	struct conn *c = conn_of(sk);
	if (!c && by_cookie)
		c = client_of(sk);
	return c ? cell_of(c) : NULL;
}

// fold brings into the cell what the socket has counted since the last time. A sweep may read without the socket's lock and
// see a time that is a little too long; then the time stands until it is caught up with.
static __always_inline void fold(struct conn *c, struct cell *m, const struct tcp_sock *tp)
{
	__u64 received = tp->bytes_received, acked = tp->bytes_acked;
	ADD(m->bytes_received, received - c->bytes_received);
	ADD(m->bytes_acked, acked - c->bytes_acked);
	c->bytes_received = received;
	c->bytes_acked = acked;
	__u32 running = BPF_CORE_READ_BITFIELD(tp, chrono_type);
	__u32 since = (__u32)bpf_jiffies64() - tp->chrono_start;
#pragma unroll
	for (__u32 i = 0; i < LIMITS; i++) {
		__u32 ticks = tp->chrono_stat[i] + (running == i + 1 ? since : 0);
		if ((__s32)(ticks - c->sending[i]) <= 0)
			continue;
		ADD(m->sending[i], ticks - c->sending[i]);
		c->sending[i] = ticks;
	}
}

static __always_inline __u32 bucket_of(__u64 ns)
{
	__u32 n = 0;
	for (__u32 i = 0; i < BOUNDS; i++)
		n += ns > bounds[i];
	return n;
}

static __always_inline __u32 failure_of(int err)
{
	switch (err) {
	case 0:
		return FAILED_GIVEN_UP;
	case 101:
		return FAILED_NO_NETWORK;
	case 104:
		return FAILED_RESET;
	case 110:
		return FAILED_TIMED_OUT;
	case 111:
		return FAILED_REFUSED;
	case 113:
		return FAILED_NO_ROUTE_TO_HOST;
	}
	return FAILED_OTHER;
}

SEC("tp_btf/inet_sock_set_state")
int BPF_PROG(on_state, const struct sock *sk, int from, int to)
{
	struct conn *c = conn_of(sk);
	if (!c)
		return 0;
	if (to == TCP_SYN_SENT || (to == TCP_ESTABLISHED && from != TCP_SYN_SENT)) {
		c->opened = bpf_ktime_get_ns();
		return 0;
	}
	if (from != TCP_SYN_SENT)
		return 0;
	struct cell *m = cell_of(c);
	if (!m)
		return 0;
	if (to == TCP_ESTABLISHED) {
		__u64 took = bpf_ktime_get_ns() - c->opened;
		__u32 b = bucket_of(took);
		if (b <= BOUNDS)
			ADD(m->connects[b], 1);
		ADD(m->connect_ns, took);
	} else if (to == TCP_CLOSE) {
		__u32 f = failure_of(sk->sk_err);
		if (f < FAILED_COUNT)
			ADD(m->failures[f], 1);
	}
	return 0;
}

// fold_whole is fold for what is not swept and whose clients have no tags of their own: all that the socket has counted.
static __always_inline void fold_whole(const struct sock *sk, int from)
{
	struct cell *m = cell_of_socket(sk);
	const struct tcp_sock *tp = bpf_skc_to_tcp_sock((void *)sk);
	if (!m || !tp)
		return;
	struct conn nothing = {};
	fold(&nothing, m, tp);
	// From other states a reset may be sent yet, which needs the tag and forgets it.
	if (sk->sk_err || from == TCP_LAST_ACK || from == TCP_CLOSING || from == TCP_FIN_WAIT2)
		forget(sk);
}

// on_close brings in what a socket has counted between the last sweep and its end.
SEC("tp_btf/inet_sock_set_state")
int BPF_PROG(on_close, const struct sock *sk, int from, int to)
{
	if (to != TCP_CLOSE || from == TCP_SYN_SENT || from == TCP_LISTEN)
		return 0;
	if (by_cookie) {
		fold_whole(sk, from);
		return 0;
	}
	struct conn *c = conn_of(sk);
	if (!c)
		return 0;
	struct cell *m = cell_of(c);
	const struct tcp_sock *tp = bpf_skc_to_tcp_sock((void *)sk);
	if (m && tp)
		fold(c, m, tp);
	return 0;
}

SEC("tp_btf/tcp_retransmit_skb")
int BPF_PROG(on_retransmit, const struct sock *sk, const struct sk_buff *skb)
{
	struct cell *m = cell_of_socket(sk);
	if (m)
		ADD(m->retransmits, 1);
	return 0;
}

// A refused connect is a failure of it, and not counted as a reset too.
SEC("tp_btf/tcp_receive_reset")
int BPF_PROG(on_reset_received, struct sock *sk)
{
	if (sk->__sk_common.skc_state == TCP_SYN_SENT)
		return 0;
	struct cell *m = cell_of_socket(sk);
	if (m)
		ADD(m->resets_received, 1);
	return 0;
}

// A listener answers strays with resets; they belong to no connection.
SEC("tp_btf/tcp_send_reset")
int BPF_PROG(on_reset_sent, const struct sock *sk, const struct sk_buff *skb)
{
	if (!sk || sk->__sk_common.skc_state == TCP_LISTEN)
		return 0;
	struct cell *m = cell_of_socket(sk);
	if (m)
		ADD(m->resets_sent, 1);
	if (by_cookie && sk->__sk_common.skc_state == TCP_CLOSE)
		forget(sk);
	return 0;
}

SEC("tp_btf/inet_sk_error_report")
int BPF_PROG(on_error, const struct sock *sk)
{
	if (sk->sk_err != 110 || sk->__sk_common.skc_state == TCP_SYN_SENT)
		return 0;
	struct cell *m = cell_of_socket(sk);
	if (m)
		ADD(m->timeouts, 1);
	return 0;
}

static __always_inline void see(struct seq_file *seq, struct conn *c, const struct tcp_sock *tp, __u32 state)
{
	struct sight s = {
		.cell = c->cell,
		.generation = c->generation,
		.state = state,
		.srtt_us = tp->srtt_us >> 3,
		.min_rtt_us = tp->rtt_min.s[0].v,
		.unread = tp->rcv_nxt - tp->copied_seq,
		.unsent = tp->write_seq - tp->snd_nxt,
	};
	bpf_seq_write(seq, &s, sizeof(s));
	struct cell *m = cell_of(c);
	if (m)
		fold(c, m, tp);
}

// Goes over the tags, so that it sees no socket but ours. Not every kernel permits it: 6.18 with lockdown=integrity refused it
// with EPERM before it had looked at an instruction, and takes sweep_tcp. The loader tries, and asks for no state of lockdown.
SEC("iter/bpf_sk_storage_map")
int sweep(struct bpf_iter__bpf_sk_storage_map *ctx)
{
	struct sock *sk = ctx->sk;
	struct conn *c = ctx->value;
	if (!sk || !c || sk->__sk_common.skc_state == TCP_LISTEN)
		return 0;
	const struct tcp_sock *tp = bpf_skc_to_tcp_sock(sk);
	if (tp)
		see(ctx->meta->seq, c, tp, sk->__sk_common.skc_state);
	return 0;
}

// Goes over all sockets of TCP in our network namespace, and passes those without a tag.
SEC("iter/tcp")
int sweep_tcp(struct bpf_iter__tcp *ctx)
{
	struct sock_common *skc = ctx->sk_common;
	if (!skc || skc->skc_state == TCP_LISTEN)
		return 0;
	struct tcp_sock *tp = bpf_skc_to_tcp_sock(skc); // NULL for what is no whole socket: TIME_WAIT, handshakes
	if (!tp)
		return 0;
	struct conn *c = bpf_sk_storage_get(&rauta_conns, tp, 0, 0);
	if (c)
		see(ctx->meta->seq, c, tp, skc->skc_state);
	return 0;
}
