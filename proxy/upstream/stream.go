package upstream

import (
	"rauta.io/rauta/proxy/certs"
	"rauta.io/rauta/proxy/message"
)

// Stream is one request on an upstream connection: the half that the exchange drives. An engine implements it.
// Every call is on the worker's thread. After Sink.OnEnd, Sink.OnFailure or Cancel the stream must not be used.
type Stream interface {
	// SendHead sends the request head; req.Framing says whether a body follows.
	SendHead(req *message.Request)
	// SendData sends a part of the body, or raw bytes once the stream is a tunnel. p is only valid during the call.
	// It reports whether more may follow at once; after false the caller waits for Sink.OnWritable.
	SendData(p []byte) (more bool)
	// SendEnd ends the body, or half-closes a tunnel. trailers are the fields that follow the body, nil for none; they are
	// only valid during the call, and dropped where the protocol does not carry them.
	SendEnd(trailers *message.Head)
	// PauseBody stops OnData until ResumeBody; what arrives stays in the socket. ResumeBody never calls the sink
	// before it returns.
	PauseBody()
	ResumeBody()
	// Cancel gives the stream up without a further call to the sink; bytes under way are dropped and the connection
	// is not used again (HTTP/1) or the stream is reset (HTTP/2).
	Cancel()
}

// Sink is the half that receives: the exchange. Every call is on the worker's thread.
type Sink interface {
	// OnStream delivers the stream that was asked for with Pool.Acquire; the receiver sends its request on it.
	OnStream(s Stream)
	// OnHead delivers an interim (1xx) or the final head. Its views are valid during the call. After a 101 head the
	// stream is a tunnel: OnData carries raw bytes.
	OnHead(resp *message.Response)
	// OnData delivers a part of the body; p is valid during the call.
	OnData(p []byte)
	// OnEnd: the response (or the peer's half of a tunnel) is complete. For a response the stream is over. trailers are the
	// fields that followed the body, nil for none; they are valid, and may be edited, during the call.
	OnEnd(trailers *message.Head)
	// OnWritable: SendData may go on.
	OnWritable()
	// OnFailure: the stream is over, or could not be had.
	OnFailure(f Failure)
}

// Stage is how far an attempt had come when it failed.
type Stage uint8

// Stages.
const (
	// StagePick: no endpoint could be had.
	StagePick Stage = iota
	// StageQueue: the request waited for a connection.
	StageQueue
	// StageConnect: the connection could not be made.
	StageConnect
	// StageUnsent: a connection was there, but the peer had closed it before a byte of this request could reach it.
	StageUnsent
	// StageSent: at least a part of the request was sent, and no byte of a response has come.
	StageSent
	// StageHead: a part of the response head had come.
	StageHead
	// StageBody: the response head had been delivered.
	StageBody
)

var stageNames = [...]string{"pick", "queue", "connect", "unsent", "sent", "head", "body"}

func (s Stage) String() string { return stageNames[s] }

// Cause is what went wrong.
type Cause uint8

// Causes.
const (
	CauseNoEndpoint Cause = iota
	CauseOverflow
	CauseConnectFailed
	CauseConnectTimeout
	CauseReset
	CauseEOF
	CauseTimeout
	CauseProtocol
	CauseShutdown
	// CauseTLS: the handshake with the back end failed; Failure.Detail may say why.
	CauseTLS
	// CauseNoTunnel: the back end's protocol has no tunnel for what the client wants to upgrade to.
	CauseNoTunnel
	// CauseHeadLimit: the request's head is larger than the back end says that it takes.
	CauseHeadLimit
)

var causeNames = [...]string{
	"no_endpoint", "overflow", "connect_failed", "connect_timeout", "reset", "eof", "timeout", "protocol_error", "shutdown",
	"tls_handshake_failed",
	"upgrade_not_supported", "upstream_head_limit",
}

func (c Cause) String() string { return causeNames[c] }

// Failure says why an attempt ended without a whole response.
type Failure struct {
	Stage Stage
	Cause Cause
	// Detail is a static token that narrows the cause down, such as a parser's reason; may be empty.
	Detail string
	// Err is the system's error, if there was one.
	Err error
	// Shared: another request on the same connection has failed with it. For the endpoint that is one failure, or a single
	// reset would eject it.
	Shared bool
}

// LossOf returns what the loss of a connection means whose error is err: a reset, unless the back end has said in TLS that
// it refuses.
func LossOf(err error) (cause Cause, detail string) {
	if certs.Refused(err) {
		return CauseTLS, certs.Problem(err)
	}
	return CauseReset, ""
}

// Retriable reports whether the same request may be tried again (nothing sent, whatever the method; or sent,
// for safe methods without a body, as long as no byte of a response came).
func (f Failure) Retriable(safeWithoutBody bool) bool {
	switch f.Stage {
	case StageConnect, StageUnsent:
		return true
	case StageSent:
		return safeWithoutBody && (f.Cause == CauseReset || f.Cause == CauseEOF || f.Cause == CauseTLS)
	}
	return false
}

// Conn is an upstream connection as its pool sees it. An engine implements it.
type Conn interface {
	// Start begins a stream on a connection that has room for one.
	Start(sink Sink) Stream
	// Capacity is how many streams the connection may carry at a time: 1 with HTTP/1, what the back end says with HTTP/2,
	// 0 when it is to be used for no further one. The engine tells the pool with Pool.Changed when it is another one.
	Capacity() int
	// Close ends a connection without streams.
	Close()
	// Slot is the pool's bookkeeping, embedded in the connection.
	Slot() *Slot
}

// Dialer makes connections for a pool. There is one per worker.
type Dialer interface {
	// Dial starts a connection to p's endpoint without waiting. The connection is reported once, with p.Ready or
	// p.DialFailed, possibly before Dial returns; the dialer enforces p.ConnectTimeout().
	Dial(p *Pool)
}
