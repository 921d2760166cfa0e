package h2

import "rauta.io/rauta/proxy/message"

// Windows and buffers, in bytes.
const (
	// streamWindow is what a client may send on one stream before we have passed it on. While the back end takes a body as
	// it comes, the window doubles up to streamWindowMax: 64 KiB for each round trip are 1.3 MB/s at 50 ms.
	streamWindow    = 64 << 10
	streamWindowMax = 1 << 20
	// bodiesBufferedMax: above that much in the buffers of a connection's paused streams, what comes takes up the
	// connection's window, so that a connection keeps no more than this and one window, whatever its streams do.
	bodiesBufferedMax = 1 << 20
	// streamWindowUpstreamMax is streamWindowMax for responses of back ends. Clients that stop reading can make RAUTA keep that
	// much each: the connection's window must stay open whatever they do, because other clients' responses need it.
	streamWindowUpstreamMax = 256 << 10
	// connWindow is what a client may send on all streams; credit comes back as soon as bytes have reached their stream,
	// so that paused streams don't hold up the others.
	connWindow = 1 << 20
	// creditPart: a window is filled up when this part of it (1/creditPart) has been used, to save frames.
	creditPart = 2
	// readChunk is the most that one read takes from a socket.
	readChunk = 64 << 10
	// bufferedHigh and bufferedLow are the watermarks of a response that waits for its stream's window: above high the
	// back end is paused, at low it goes on.
	bufferedHigh = 64 << 10
	bufferedLow  = 16 << 10
	// outFlush: that much is sent before the end of the turn. outHigh: while the socket is full, DATA waits in its
	// stream once that much is framed, so that streams still get their turns.
	outFlush = 48 << 10
	outHigh  = 32 << 10
	// quantum is how much of a stream is written before the next one has its turn.
	quantum = 16 << 10
	// pumpBytesMax bounds what is framed for one connection in one turn, so that it does not starve the others.
	pumpBytesMax = 512 << 10
)

// readsPerTurn bounds the reads of one connection in one turn.
const readsPerTurn = 4

// Bounds of header blocks. The head limit itself is in Limits.
const (
	// continuationsMax bounds the CONTINUATION frames of one block: 8 of 16 KiB exceed any head limit (attack row 29).
	continuationsMax = 8
	// cookieCrumbsMax bounds the cookies of a request, however they are spread over fields (attack row 37).
	cookieCrumbsMax = 200
	// methodBytesMax bounds the method; the longest registered one has 17 bytes.
	methodBytesMax = 32
	// headerBlockSlack is added to the head limit for the bytes of a compressed block: table updates and prefixes.
	headerBlockSlack = 4 << 10
)

// What a peer may do without effect. A peer that exceeds one of them costs more than it asks for, and is sent away with
// ENHANCE_YOUR_CALM (RFC 9113 section 10.5, attack rows 27, 28, 31).
const (
	// resetsMax of the last resetsOf streams may be reset within resetsWithin nanoseconds, whoever sends the RST_STREAM.
	resetsMax    = 100
	resetsOf     = 200
	resetsWithin = 1e9
	// glitchesMax bounds stream errors of a connection's life.
	glitchesMax = 100
	// Budgets per minute, which are also the bursts. Work that we do for the peer earns it some more, because BDP probes,
	// window updates and priorities come with streams and bytes.
	pingsPerMinute         = 60
	settingsPerMinute      = 14
	prioritiesPerMinute    = 120
	emptyFramesPerMinute   = 120
	windowUpdatesPerMinute = 600
	// windowUpdatesPerData is what a DATA frame of ours may cause: clients send one when they have read a few KiB, for the
	// stream and for the connection.
	windowUpdatesPerData = 10
	// controlFramesMax bounds the answers to control frames that wait for a peer that does not read.
	controlFramesMax = 1000
)

// Connections to back ends.
const (
	// streamsUpstreamMax bounds the streams of one connection whatever the back end allows: with more of them on few
	// connections a lost one costs too many requests.
	streamsUpstreamMax = 256
	// streamsUpstreamAssumed: a back end that names no limit has none (RFC 9113 section 6.5.2).
	streamsUpstreamAssumed = streamsUpstreamMax
	// lastStreamID: a connection is given up a while before its ids are used up (RFC 9113 section 5.1.1).
	lastStreamID = streamIDMask - 2*streamsUpstreamMax
	// cancelledProbeMin is how many streams that were given up make us ask whether the back end has heard of it.
	cancelledProbeMin = 8
)

// Limits of the engine. Times are nanoseconds.
type Limits struct {
	// HeadTimeout: from accept to the end of the first request head, and from the start of any frame or header block to
	// its end. GOAWAY.
	HeadTimeout int64
	// KeepAlive: how long a connection may idle without a stream.
	KeepAlive int64
	// BodyIdle: the longest pause within a request body. 408.
	BodyIdle int64
	// BodyRateMin in bytes per second, BodyRateGrace after which it counts. 408.
	BodyRateMin   int64
	BodyRateGrace int64
	// WriteIdle: the longest time without progress of bytes that a client does not take, of a stream or of the connection.
	WriteIdle int64
	// LingerBytes and LingerTime bound what is read and thrown away after GOAWAY, so that the client gets to see it.
	LingerBytes int64
	LingerTime  int64
	// RequestsPerConn: GOAWAY after that many; 0 means no limit.
	RequestsPerConn int
	// TargetBytes is the longest :path in bytes. 414.
	TargetBytes int
	// HeadBytes is the largest request head, in bytes, counting 32 more for each field. 431.
	HeadBytes int
	// Fields is the largest number of fields; cookie crumbs are counted apart. 431.
	Fields int
	// StrictNames refuses requests with misleading field names, which are otherwise dropped and counted.
	StrictNames bool
	// Streams is the number of streams that a client may have open. REFUSED_STREAM.
	Streams int
	// ResponseHeadBytes and ResponseFields are HeadBytes and Fields for response heads of back ends. 502.
	ResponseHeadBytes int
	ResponseFields    int
	// PingAfter: without a byte for so long while streams wait, a back end has to show that it is alive, within PongWithin.
	PingAfter  int64
	PongWithin int64
}

func (l *Limits) headBytes(mode blockMode) int {
	if mode == blockResponse {
		return l.ResponseHeadBytes
	}
	return l.HeadBytes
}

// StreamsMax is the usual limit of streams per connection: the least that RFC 9113 section 6.5.2 recommends.
const StreamsMax = 100

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
		TargetBytes:   8 << 10,
		HeadBytes:     32 << 10,
		Fields:        message.FieldsMax,
		Streams:       StreamsMax,

		ResponseHeadBytes: 64 << 10,
		ResponseFields:    message.FieldsMax,
		PingAfter:         330 * second, // gRPC servers end connections that are pinged more often than every five minutes
		PongWithin:        15 * second,
	}
}
