// Package proxyproto parses the header of the PROXY protocol, versions 1 and 2, in which a load balancer says whose
// connection it forwards (haproxy.org, proxy-protocol.txt, 2020/03/05).
//
// It owns the grammar only. Whether a peer may send one at all is a setting of the listener.
package proxyproto

import (
	"bytes"
	"encoding/binary"
	"net/netip"
	"strconv"
)

// Sizes in bytes.
const (
	// v1BytesMax is the longest version 1 line, CRLF included (section 2.1).
	v1BytesMax = 107
	// v2HeadBytes is the fixed part of version 2 (section 2.2).
	v2HeadBytes = 16
	// v2BytesMax bounds the addresses and TLVs of version 2; senders use a few hundred bytes.
	v2BytesMax = 4096
)

var signature = []byte("\r\n\r\n\x00\r\nQUIT\n")

// Result of Parse.
type Result uint8

// Results.
const (
	// Partial: more bytes are needed.
	Partial Result = iota
	// Done: the header is complete.
	Done
	// Bad: this is not a PROXY protocol header.
	Bad
)

// Parse parses the header at the start of b. When Done, n is its length, and source the client that it names; source is
// invalid when the sender speaks for itself (LOCAL, UNKNOWN) and the peer's own address counts.
func Parse(b []byte) (source netip.AddrPort, n int, r Result) {
	if head := min(len(b), len(signature)); bytes.Equal(b[:head], signature[:head]) && head > 0 {
		if len(b) < v2HeadBytes {
			return netip.AddrPort{}, 0, Partial
		}
		return parseV2(b)
	}
	return parseV1(b)
}

func parseV1(b []byte) (netip.AddrPort, int, Result) {
	const prefix = "PROXY "
	if head := min(len(b), len(prefix)); string(b[:head]) != prefix[:head] {
		return netip.AddrPort{}, 0, Bad
	}
	end := bytes.IndexByte(b[:min(len(b), v1BytesMax)], '\n')
	if end < 0 {
		if len(b) >= v1BytesMax {
			return netip.AddrPort{}, 0, Bad
		}
		return netip.AddrPort{}, 0, Partial
	}
	if b[end-1] != '\r' {
		return netip.AddrPort{}, 0, Bad
	}
	words := bytes.Split(b[len(prefix):end-1], []byte{' '})
	if string(words[0]) == "UNKNOWN" {
		return netip.AddrPort{}, end + 1, Done
	}
	if len(words) != 5 {
		return netip.AddrPort{}, 0, Bad
	}
	source, ok := address(words[1], words[3])
	destination, ok2 := address(words[2], words[4])
	wants4 := string(words[0]) == "TCP4"
	if !ok || !ok2 || !wants4 && string(words[0]) != "TCP6" || source.Addr().Is4() != wants4 || destination.Addr().Is4() != wants4 {
		return netip.AddrPort{}, 0, Bad
	}
	return netip.AddrPortFrom(source.Addr().Unmap(), source.Port()), end + 1, Done
}

func address(ip, port []byte) (netip.AddrPort, bool) {
	a, err := netip.ParseAddr(string(ip))
	p, err2 := strconv.ParseUint(string(port), 10, 16)
	if err != nil || err2 != nil || a.Zone() != "" || len(port) > 1 && port[0] == '0' || port[0] == '+' {
		return netip.AddrPort{}, false
	}
	return netip.AddrPortFrom(a, uint16(p)), true
}

func parseV2(b []byte) (netip.AddrPort, int, Result) {
	const (
		versionCommandLocal = 0x20
		versionCommandProxy = 0x21
		familyTCP4          = 0x11
		familyTCP6          = 0x21
	)
	length := int(binary.BigEndian.Uint16(b[14:]))
	total := v2HeadBytes + length
	if b[12] != versionCommandLocal && b[12] != versionCommandProxy || total > v2BytesMax {
		return netip.AddrPort{}, 0, Bad
	}
	if len(b) < total {
		return netip.AddrPort{}, 0, Partial
	}
	if b[12] == versionCommandLocal {
		return netip.AddrPort{}, total, Done
	}
	rest := b[v2HeadBytes:total]
	switch {
	case b[13] == familyTCP4 && length >= 12:
		a := netip.AddrFrom4([4]byte(rest[:4]))
		return netip.AddrPortFrom(a, binary.BigEndian.Uint16(rest[8:])), total, Done
	case b[13] == familyTCP6 && length >= 36:
		a := netip.AddrFrom16([16]byte(rest[:16])).Unmap()
		return netip.AddrPortFrom(a, binary.BigEndian.Uint16(rest[32:])), total, Done
	case b[13] == familyTCP4 || b[13] == familyTCP6:
		return netip.AddrPort{}, 0, Bad
	}
	return netip.AddrPort{}, total, Done // UNSPEC, UDP, Unix: nothing that we could use
}
