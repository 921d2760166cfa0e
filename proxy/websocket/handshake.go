// Package websocket is what a proxy has to know of the WebSocket protocol (RFC 6455): the two fields of its opening
// handshake, which a side that speaks HTTP/2 does without.
//
// It owns no connection and no decision: engines call it where they translate an upgrade from one protocol to the other.
package websocket

import (
	"crypto/rand"
	"crypto/sha1"
	"encoding/base64"
)

// Protocol is the upgrade token, and the value of :protocol, in lower case (RFC 6455 section 11.2, RFC 8441 section 5).
const Protocol = "websocket"

// Fields of the opening handshake in lower case (RFC 6455 section 11.3). HTTP/2 uses neither (RFC 8441 section 5).
const (
	KeyField    = "sec-websocket-key"
	AcceptField = "sec-websocket-accept"
)

const (
	// KeyBytes is the size of a key: 16 random bytes in base64 (RFC 6455 section 4.1).
	KeyBytes = 24
	// AcceptBytes is the size of an answer to it: a SHA-1 hash in base64.
	AcceptBytes = 28
	// acceptGUID is hashed behind the key (RFC 6455 section 1.3).
	acceptGUID = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
)

// NewKey makes a key for a request that has none.
func NewKey() (key [KeyBytes]byte) {
	var nonce [16]byte
	rand.Read(nonce[:]) // never fails
	base64.StdEncoding.Encode(key[:], nonce[:])
	return key
}

// Accept is what a server answers to a key (RFC 6455 section 4.2.2).
func Accept(key []byte) (accept [AcceptBytes]byte) {
	h := sha1.New()
	h.Write(key)
	h.Write([]byte(acceptGUID))
	base64.StdEncoding.Encode(accept[:], h.Sum(nil))
	return accept
}
