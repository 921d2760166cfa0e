// Package hpack is header compression for HTTP/2 (RFC 7541), both ways: blocks into views over one arena, as
// message.Head wants them, and the fields of a head into blocks.
//
// It owns the two tables of a connection, the Huffman code, the rules of names and values (RFC 9113 section 8.2.1), which
// are looked at once for a field in the table, and the choice of what an encoder adds to its table. It does not own what a
// head must consist of, nor its limits: those are the engine's (package h2), which is its only user. Nothing here
// allocates once a connection's tables have their size.
package hpack
