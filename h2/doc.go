// Package h2 is the HTTP/2 engine on the loop (RFC 9113): it turns the frames of a client connection into exchanges, and
// carries the requests of exchanges to back ends.
//
// It owns connections and streams from the preface to the last frame: framing, header blocks (h2/hpack), flow control,
// the rules of a well-formed request, and the limits that keep a peer from costing more than it pays. It does not own
// what happens to a request (proxy/exchange), nor sockets, time and buffers (proxy/loop). proxy/server makes one Engine
// per worker and hands connections to it, by prior knowledge or as negotiated; all methods run on the worker's thread.
//
// All frames of one turn of the loop leave in one send: that, and not the codec, decides what a request costs.
package h2
