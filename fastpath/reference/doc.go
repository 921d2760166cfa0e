// Package reference is the plain engine: fasthttp.Server for HTTP/1.1 and x/net's http2.Server for HTTP/2 by prior
// knowledge, a goroutine per connection, over the same snapshot and the same exchange as the loop. It is the oracle that
// the loop is compared with, the base line of the load test, and the engine of systems without epoll.
//
// It owns client connections, connections to back ends, and what stands for an event loop here: a core, which is a lock
// with a clock and an exchange.Worker. Whoever holds the lock is the worker's thread; nothing blocks while it is held.
// It does not own any decision about a request: those are proxy/exchange's, pools are proxy/upstream's, and heads are
// parsed and written by fastpath/wire, so that both engines refuse and forward the same. proxy/server calls it.
//
// Bytes of HTTP/1.1 clients pass a gate before fasthttp sees them: fastpath/wire's parsers, so that fasthttp's forgiveness
// never counts.
//
// On a client connection fasthttp and http2 read requests, decode bodies, write responses and keep the connection
// alive. A connection to a back end is driven here, on top of net.Conn: fasthttp's client can neither give an attempt up, nor
// tell how far it had come, nor pass interim responses and tunnels on, and it has pools and retries of its own.
//
// It has no TLS towards clients, and none of the listeners whose connections and datagrams are forwarded without being looked
// into (TLS, TCP, UDP): control reports them, and snapshots have no ports for them. Back ends are spoken to in HTTP/1.1, with
// TLS where they want it. HTTP/2 is not: http2.Transport hides from its caller what the exchange decides by, whether a
// request was looked at, which connection it goes to and how its streams are counted; whoever wants it answers 500.
package reference
