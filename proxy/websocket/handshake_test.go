package websocket

import (
	"encoding/base64"
	"testing"
)

func TestAcceptIsWhatTheStandardSays(t *testing.T) { // RFC 6455 section 1.3
	if got := Accept([]byte("dGhlIHNhbXBsZSBub25jZQ==")); string(got[:]) != "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=" {
		t.Errorf("%s", got[:])
	}
}

func TestKeysAreSixteenBytesAndDiffer(t *testing.T) {
	a, b := NewKey(), NewKey()
	nonce, err := base64.StdEncoding.DecodeString(string(a[:]))
	if err != nil || len(nonce) != 16 || a == b {
		t.Errorf("%s and %s: %v", a[:], b[:], err)
	}
}
