package wire

import (
	"strconv"

	"rauta.io/rauta/proxy/message"
)

// Ends of the chunked coding.
const (
	// ChunkEnd follows the data of each chunk.
	ChunkEnd = "\r\n"
	// LastChunk ends a body without trailers.
	LastChunk = "0\r\n\r\n"
)

// notWritten are fields that the encoders write themselves from the typed parts of a head, or that no head of ours has.
var notWritten = [256]bool{
	message.Removed: true, message.Host: true, message.ContentLength: true, message.TransferEncoding: true,
	message.Connection: true, message.KeepAlive: true, message.ProxyConnection: true, message.Upgrade: true,
	message.Trailer: true, message.HTTP2Settings: true,
}

// AppendRequestHead appends the canonical HTTP/1.1 head of r. It has one Host, and at most one of Content-Length and
// Transfer-Encoding. TE and Expect are not written; whoever wants them adds them to Fields.
func AppendRequestHead(dst []byte, r *message.Request) []byte {
	dst = append(dst, r.Bytes(r.Method)...)
	dst = append(dst, ' ')
	dst = append(dst, r.Bytes(r.Path)...)
	if r.HasQuery {
		dst = append(dst, '?')
		dst = append(dst, r.Bytes(r.Query)...)
	}
	dst = append(dst, " HTTP/1.1\r\nHost: "...)
	dst = append(dst, r.Bytes(r.Authority)...)
	dst = append(dst, "\r\n"...)
	dst = appendFields(dst, &r.Head)
	switch r.Framing {
	case message.Sized:
		dst = appendContentLength(dst, r.Length)
	case message.Streamed, message.UntilClose:
		dst = append(dst, "Transfer-Encoding: chunked\r\n"...)
	case message.NoBody:
		// RFC 9110 section 8.6: where the method expects a body, say that there is none.
		if r.MethodID == message.MethodPost || r.MethodID == message.MethodPut || r.MethodID == message.MethodPatch {
			dst = appendContentLength(dst, 0)
		}
	}
	dst = appendUpgrade(dst, &r.Head, r.Upgrade)
	return append(dst, "\r\n"...)
}

// ResponseOptions says what about a response depends on the client and its connection.
type ResponseOptions struct {
	// Version of the client.
	Version message.Version
	// Close: we close the connection after this response.
	Close bool
	// KeepAlive10: the client speaks HTTP/1.0, asked for keep-alive, and gets it.
	KeepAlive10 bool
	// ToHead: the request was HEAD.
	ToHead bool
}

// hasBody reports whether a response with this status can have a body, given the request (RFC 9112 section 6.3).
func hasBody(r *message.Response, opt ResponseOptions) bool {
	return !opt.ToHead && r.Status >= 200 && r.Status != 204 && r.Status != 304
}

// Chunked reports whether AppendResponseHead announces the chunked coding, so that the body must be written in chunks.
func (opt ResponseOptions) Chunked(r *message.Response) bool {
	return hasBody(r, opt) && opt.Version != message.HTTP10 && (r.Framing == message.Streamed || r.Framing == message.UntilClose)
}

// Closes reports whether the connection must be closed after the response, because its head says so or its body has no
// other end.
func (opt ResponseOptions) Closes(r *message.Response) bool {
	if r.Status < 200 {
		return false
	}
	if opt.Version != message.HTTP10 {
		return opt.Close
	}
	unsized := r.Framing == message.Streamed || r.Framing == message.UntilClose
	return opt.Close || !opt.KeepAlive10 || unsized && hasBody(r, opt)
}

// AppendResponseHead appends the canonical HTTP/1.1 head of r. What opt.Chunked and opt.Closes say, it announces.
func AppendResponseHead(dst []byte, r *message.Response, opt ResponseOptions) []byte {
	dst = appendStatusLine(dst, r.Status)
	dst = appendFields(dst, &r.Head)
	switch {
	case r.Status < 200 || r.Status == 204: // RFC 9110 section 8.6: no Content-Length here
	case opt.Chunked(r):
		dst = append(dst, "Transfer-Encoding: chunked\r\n"...)
	case r.Framing == message.Sized && r.Status != 304, r.Framing == message.NoBody && r.Length >= 0 && !hasBody(r, opt):
		dst = appendContentLength(dst, r.Length)
	case r.Framing == message.NoBody && hasBody(r, opt):
		dst = appendContentLength(dst, 0)
	}
	switch {
	case r.Status == 101:
		dst = appendUpgrade(dst, &r.Head, r.Upgrade)
	case r.Status < 200:
	case opt.Closes(r):
		dst = append(dst, "Connection: close\r\n"...)
	case opt.Version == message.HTTP10:
		dst = append(dst, "Connection: keep-alive\r\n"...)
	}
	return append(dst, "\r\n"...)
}

// AppendChunkHeader appends the header of a chunk of size bytes; size must be positive, since 0 would end the body.
func AppendChunkHeader(dst []byte, size int) []byte {
	dst = strconv.AppendUint(dst, uint64(size), 16)
	return append(dst, "\r\n"...)
}

func appendFields(dst []byte, h *message.Head) []byte {
	for i := range h.Fields {
		f := &h.Fields[i]
		if notWritten[f.ID] {
			continue
		}
		dst = append(dst, h.Bytes(f.Name)...)
		dst = append(dst, ": "...)
		dst = append(dst, h.Bytes(f.Value)...)
		dst = append(dst, "\r\n"...)
	}
	return dst
}

func appendContentLength(dst []byte, n int64) []byte {
	dst = append(dst, "Content-Length: "...)
	dst = strconv.AppendInt(dst, n, 10)
	return append(dst, "\r\n"...)
}

func appendUpgrade(dst []byte, h *message.Head, protocol message.Span) []byte {
	if protocol.Len == 0 {
		return dst
	}
	dst = append(dst, "Connection: upgrade\r\nUpgrade: "...)
	dst = append(dst, h.Bytes(protocol)...)
	return append(dst, "\r\n"...)
}
