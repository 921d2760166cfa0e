package fastpath

import (
	"rauta.io/rauta/fastpath/wire"
	"rauta.io/rauta/proxy/loop"
)

// Sizes in bytes.
const (
	// readChunk is the most that one read takes from a socket. It bounds what has to be kept for a peer that stalls in
	// the middle of it.
	readChunk = 64 << 10
	// readChunkMax: the same for a response whose client takes everything at once.
	readChunkMax = loop.ReadBufferBytes
	// joinMax: what is at most this large is copied behind what is already waiting, so that it leaves in one send; two
	// sends cost 10% more than one (DESIGN section 1, BenchmarkProxyKeepAlive).
	joinMax = 16 << 10
	// bufferedHigh and bufferedLow are the watermarks of one direction of one exchange: above high the source is
	// paused, at low it goes on.
	bufferedHigh = 64 << 10
	bufferedLow  = 16 << 10
	// headRoom is reserved for a head before it is written; larger heads grow the buffer.
	headRoom = 4 << 10
)

// readsPerTurn bounds the reads of one connection in one turn, so that a fast peer does not starve the others.
const readsPerTurn = 4

// Limits of the engine. Times are nanoseconds.
type Limits struct {
	// HeadTimeout: from accept, or from the first byte of a later request, to the end of the head. 408, close.
	HeadTimeout int64
	// KeepAlive: how long a connection may idle between requests.
	KeepAlive int64
	// BodyIdle: the longest pause within a request body. 408, close.
	BodyIdle int64
	// BodyRateMin in bytes per second, BodyRateGrace after which it counts. 408, close.
	BodyRateMin   int64
	BodyRateGrace int64
	// WriteIdle: the longest time without progress of bytes that a client does not take.
	WriteIdle int64
	// LingerBytes and LingerTime bound what is read and thrown away after an early response, or one that broke off, so that
	// the client gets to see what was sent (RFC 9112 section 9.6).
	LingerBytes int64
	LingerTime  int64
	// RequestsPerConn: close after that many; 0 means no limit.
	RequestsPerConn int
	// Request and Response bound the heads.
	Request  wire.Limits
	Response wire.Limits
}

// DefaultLimits are secure defaults for a proxy at the edge.
func DefaultLimits() Limits {
	const second = 1e9
	return Limits{
		HeadTimeout:   10 * second,
		KeepAlive:     75 * second, // longer than the 60 s of cloud load balancers, so that they close first
		BodyIdle:      30 * second,
		BodyRateMin:   240,
		BodyRateGrace: 10 * second,
		WriteIdle:     30 * second,
		LingerBytes:   256 << 10,
		LingerTime:    5 * second,
		Request:       wire.DefaultRequestLimits(),
		Response:      wire.DefaultResponseLimits(),
	}
}
