// Package loop is the event loop under every protocol: one Worker is one locked OS thread with its own epoll instance,
// timers, buffers, mailbox and listening sockets.
//
// It owns file descriptors from accept or connect to close, the order of work inside a turn, the clock reading of a
// turn, the buffers of a thread, and the ways to reach a worker from outside. It does not own what bytes mean
// (fastpath, h2), which connections exist for what purpose (proxy/upstream, proxy/exchange), nor which listeners
// there should be (proxy/server).
//
// Engines call it on the worker's thread; everybody else may only call Post, Send, Stop, Stats and the methods of
// Group. A Handler gets edge-triggered events: it works until a call says Again, or asks to be called again with Ready.
//
// A connection is plain or TLS (Conn.StartTLS), behind the same calls. crypto/tls computes a handshake on a goroutine of
// its own, of which only few run at a time, or on a coroutine of the worker's if it is quick; it never touches the socket.
//
// One turn is: poll; read the clock; events of connected (upstream) sockets; events of accepted sockets; accept; the
// mailbox; timers; the ready list; end-of-turn handlers; close what was closed. Connected sockets go first, so that a
// request never picks a pooled connection whose close already lies in the same batch of events.
package loop
