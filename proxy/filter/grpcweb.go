package filter

import (
	"bytes"
	"encoding/base64"
	"encoding/binary"
	"strconv"

	"rauta.io/rauta/proxy/message"
)

// grpcWeb translates gRPC-Web (github.com/grpc/grpc, doc/PROTOCOL-WEB.md) to gRPC: the messages are the same, the trailers
// are the last message of the body, and in the text form all of it is in base64.
type grpcWeb struct {
	request  message.GRPC // form of the request
	response message.GRPC // form of the response; NotGRPC if the back end sends something else
	group    [4]byte      // the begin of a group of base64 whose rest has not come
	grouped  int
	frame    []byte // trailers that have come with the head, then the frame that carries them
}

// Content types by form; the message format follows.
var grpcWebMediaTypes = [...]string{message.GRPCWeb: "application/grpc-web", message.GRPCWebText: "application/grpc-web-text"}

const (
	// grpcWebTrailers marks the frame that carries the trailers: the highest bit of a gRPC frame's flags.
	grpcWebTrailers = 0x80
	// grpcFrameHeader is the size of a frame's flags and length.
	grpcFrameHeader = 5
	// frameKeepMax is the largest frame, in bytes, that is kept for the next exchange.
	frameKeepMax = 4 << 10
)

func (g *grpcWeb) begin(req *message.Request, kind message.GRPC) {
	if cap(g.frame) > frameKeepMax {
		g.frame = nil
	}
	*g = grpcWeb{request: kind, response: message.GRPCWebAnswer(req), frame: g.frame[:0]}
	value, _ := req.Get(message.ContentType)
	_, format := message.GRPCMediaType(value)
	req.Remove(message.ContentType)
	req.Append(req.StoreString("Content-Type"), req.StoreFunc(func(b []byte) []byte {
		return append(append(b, "application/grpc"...), format...)
	}), message.ContentType)
	req.TETrailers = true // gRPC over HTTP/2, "Requests": TE must be there
	if kind == message.GRPCWebText && req.Framing == message.Sized {
		req.Framing, req.Length = message.Streamed, -1
	}
}

// RequestData implements BodyFilter.
func (g *grpcWeb) RequestData(scratch *[]byte, p []byte) (out []byte, reason string) {
	if g.request != message.GRPCWebText {
		return p, ""
	}
	*scratch, reason = g.appendDecoded((*scratch)[:0], p)
	return *scratch, reason
}

// appendDecoded decodes what makes whole groups together with what has come before.
func (g *grpcWeb) appendDecoded(dst, p []byte) (out []byte, reason string) {
	for g.grouped > 0 && len(p) > 0 {
		g.group[g.grouped] = p[0]
		g.grouped, p = g.grouped+1, p[1:]
		if g.grouped == len(g.group) {
			g.grouped = 0
			if dst, reason = appendGroups(dst, g.group[:]); reason != "" {
				return dst, reason
			}
		}
	}
	whole := len(p) &^ 3
	g.grouped += copy(g.group[g.grouped:], p[whole:])
	return appendGroups(dst, p[:whole])
}

// appendGroups decodes whole groups. Padding may be in any of them: clients encode piece by piece.
func appendGroups(dst, p []byte) ([]byte, string) {
	const reason = "bad_base64"
	if bytes.ContainsAny(p, "\r\n") { // which the package would pass over
		return dst, reason
	}
	for len(p) > 0 {
		end := len(p)
		if padding := bytes.IndexByte(p, '='); padding >= 0 {
			end = padding&^3 + 4
		}
		var err error
		if dst, err = base64.StdEncoding.AppendDecode(dst, p[:end]); err != nil {
			return dst, reason
		}
		p = p[end:]
	}
	return dst, ""
}

// RequestEnd implements BodyFilter.
func (g *grpcWeb) RequestEnd() string {
	if g.grouped > 0 {
		return "bad_base64"
	}
	return ""
}

// ResponseHead implements BodyFilter. A response of trailers only gets a body too: a script sees fields of the head only if
// CORS exposes them.
func (g *grpcWeb) ResponseHead(resp *message.Response) {
	value, _ := resp.Get(message.ContentType)
	kind, format := message.GRPCMediaType(value)
	if kind != message.PlainGRPC {
		g.response = message.NotGRPC
		return
	}
	resp.Remove(message.ContentType)
	resp.Append(resp.StoreString("Content-Type"), resp.StoreFunc(func(b []byte) []byte {
		return append(append(b, grpcWebMediaTypes[g.response]...), format...)
	}), message.ContentType)
	resp.Framing, resp.Length = message.Streamed, -1
	for i := range resp.Fields {
		f := &resp.Fields[i]
		if name := resp.Bytes(f.Name); isGRPCStatus(name) && f.ID != message.Removed {
			g.frame = appendTrailer(g.frame, name, resp.Bytes(f.Value))
			f.ID = message.Removed
		}
	}
}

// isGRPCStatus names the trailers of gRPC itself ("Responses").
func isGRPCStatus(name []byte) bool {
	return message.EqualFold(name, "grpc-status") || message.EqualFold(name, "grpc-message") ||
		message.EqualFold(name, "grpc-status-details-bin")
}

// ResponseData implements BodyFilter. Each piece is encoded by itself, padding included, as the specification allows.
func (g *grpcWeb) ResponseData(scratch *[]byte, p []byte) []byte {
	if g.response != message.GRPCWebText {
		return p
	}
	*scratch = base64.StdEncoding.AppendEncode((*scratch)[:0], p)
	return *scratch
}

// ResponseEnd implements BodyFilter.
func (g *grpcWeb) ResponseEnd(scratch *[]byte, trailers *message.Head) ([]byte, *message.Head) {
	if g.response == message.NotGRPC {
		return nil, trailers
	}
	if trailers != nil {
		for i := range trailers.Fields {
			if f := &trailers.Fields[i]; f.ID != message.Removed {
				g.frame = appendTrailer(g.frame, trailers.Bytes(f.Name), trailers.Bytes(f.Value))
			}
		}
	}
	if len(g.frame) == 0 {
		return nil, nil
	}
	*scratch = appendTrailerFrame((*scratch)[:0], g.frame, g.response)
	return *scratch, nil
}

// appendTrailer appends one line, its name in lower case.
func appendTrailer(b, name, value []byte) []byte {
	for _, c := range name {
		if 'A' <= c && c <= 'Z' {
			c |= 0x20
		}
		b = append(b, c)
	}
	b = append(append(b, ':'), value...)
	return append(b, '\r', '\n')
}

// appendTrailerFrame appends the frame that ends a body.
func appendTrailerFrame(dst, lines []byte, form message.GRPC) []byte {
	var header [grpcFrameHeader]byte
	header[0] = grpcWebTrailers
	binary.BigEndian.PutUint32(header[1:], uint32(len(lines)))
	if form != message.GRPCWebText {
		return append(append(dst, header[:]...), lines...)
	}
	// Two pieces of base64, the first one with padding: the lines need not be moved for it.
	dst = base64.StdEncoding.AppendEncode(dst, header[:])
	return base64.StdEncoding.AppendEncode(dst, lines)
}

// AppendGRPCWebStatus appends the body of a response that has nothing but a status.
func AppendGRPCWebStatus(dst []byte, code int, text string, form message.GRPC) []byte {
	var scratch [128]byte
	lines := strconv.AppendInt(append(scratch[:0], "grpc-status:"...), int64(code), 10)
	lines = append(append(append(lines, "\r\ngrpc-message:"...), text...), "\r\n"...)
	return appendTrailerFrame(dst, lines, form)
}
