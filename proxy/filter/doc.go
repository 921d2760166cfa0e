// Package filter edits the heads and bodies of requests and responses and answers directly, without I/O and without
// waiting.
//
// It owns what a configured filter does: header edits, URL rewrite, redirect, direct answer, CORS, and to bodies the
// translation of gRPC-Web. It does not own which filters apply (proxy/snapshot compiles a Chain per rule and back end), nor when (proxy/exchange calls Request
// after the match and Response on the final head), nor what the proxy itself adds to every message.
//
// A Chain is immutable and shared by all workers. A nil *Chain is the empty one.
package filter
