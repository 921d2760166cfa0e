package fastpath

import (
	"rauta.io/rauta/proxy/message"
	"rauta.io/rauta/proxy/websocket"
)

// openWebSocket gives a request that came without one a key (RFC 8441 section 5), and returns what the back end must
// answer to it. A retry gets another key.
func openWebSocket(req *message.Request) *[websocket.AcceptBytes]byte {
	key := websocket.NewKey()
	req.RemoveName(websocket.KeyField, message.Unknown)
	req.AddBytes("Sec-WebSocket-Key", key[:], message.Unknown)
	accept := websocket.Accept(key[:])
	return &accept
}

// accepts reports whether a 101 answers the key (RFC 6455 section 4.1).
func accepts(head *message.Response, want *[websocket.AcceptBytes]byte) bool {
	i := head.Lookup(websocket.AcceptField, message.Unknown, 0)
	return i >= 0 && string(head.Bytes(head.Fields[i].Value)) == string(want[:])
}
