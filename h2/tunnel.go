package h2

import (
	"rauta.io/rauta/proxy/message"
	"rauta.io/rauta/proxy/websocket"
)

// Extended CONNECT (RFC 8441): the exchange sees the upgrade that HTTP/1 has instead, a GET that asks for the protocol, so
// that one set of rules holds for both. 101 becomes 200, and DATA carries the tunnel's bytes.

const (
	statusOK             = 200
	statusSwitching      = 101
	statusNotImplemented = 501
)

// finishConnect turns a CONNECT with :protocol into an upgrade request.
func (h *headReader) finishConnect() problem {
	req := h.req
	if req.MethodID != message.MethodConnect || h.pseudo&pseudoAuthority == 0 { // RFC 8441 section 4
		return problem{0, "bad_pseudo_header"}
	}
	if h.length >= 0 { // RFC 9110 section 9.3.6: CONNECT has no content
		return problem{0, "bad_content_length"}
	}
	if !message.EqualFold(req.Bytes(h.protocol), websocket.Protocol) { // RFC 9220 section 3
		return problem{statusNotImplemented, "unknown_protocol"}
	}
	req.Method, req.MethodID = req.StoreString("GET"), message.MethodGet
	req.Upgrade = req.StoreString(websocket.Protocol)
	req.RemoveName(websocket.KeyField, message.Unknown) // whoever speaks HTTP/1 makes one of its own
	return problem{}
}

// receives reports whether a request body is due from the client before long. A tunnel is none, and the stream of a gRPC
// call takes its time.
func (s *serverStream) receives() bool {
	return !s.recvEnded && s.x != nil && !s.begun && !s.connect && !s.x.Patient()
}

// openTunnel turns the head that opens a tunnel into the one that HTTP/2 has for it.
func (s *serverStream) openTunnel(resp *message.Response) {
	resp.Status, resp.Framing = statusOK, message.Streamed
	resp.RemoveName(websocket.AcceptField, message.Unknown)
	s.tunnel, s.hold = true, false
	s.ResumeBody()
}
