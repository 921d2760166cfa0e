// Package fastpath is the HTTP/1.1 engine on the loop, both sides: server connections that clients opened, and client
// connections to back ends.
//
// It owns how HTTP/1.1 looks on a connection: when to read and to write, framing, keep-alive, pipelining, timeouts of
// a peer that stalls, and buffers. It owns no policy: what happens to a request is decided by proxy/exchange, which it
// feeds and which calls it back. The grammar is in fastpath/wire. proxy/server makes one Engine per worker.
package fastpath
