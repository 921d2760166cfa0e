package h2

import "encoding/binary"

// Preface is what a client sends first (RFC 9113 section 3.4).
const Preface = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"

// frameType is a type of frame (RFC 9113 section 6).
type frameType uint8

const (
	frameData frameType = iota
	frameHeaders
	framePriority
	frameRSTStream
	frameSettings
	framePushPromise
	framePing
	frameGoAway
	frameWindowUpdate
	frameContinuation
)

// Flags (RFC 9113 section 6); a value means different things on different types.
const (
	flagEndStream  = 0x1
	flagAck        = 0x1
	flagEndHeaders = 0x4
	flagPadded     = 0x8
	flagPriority   = 0x20
)

// errCode is an error code (RFC 9113 section 7).
type errCode uint32

const (
	codeNo              errCode = 0x0
	codeProtocol        errCode = 0x1
	codeInternal        errCode = 0x2
	codeFlowControl     errCode = 0x3
	codeStreamClosed    errCode = 0x5
	codeFrameSize       errCode = 0x6
	codeRefusedStream   errCode = 0x7
	codeCancel          errCode = 0x8
	codeCompression     errCode = 0x9
	codeEnhanceYourCalm errCode = 0xb
)

// Settings (RFC 9113 section 6.5.2).
const (
	settingHeaderTableSize       = 0x1
	settingEnablePush            = 0x2
	settingMaxConcurrentStreams  = 0x3
	settingInitialWindowSize     = 0x4
	settingMaxFrameSize          = 0x5
	settingMaxHeaderListSize     = 0x6
	settingEnableConnectProtocol = 0x8 // RFC 8441 section 3
	settingBytes                 = 6
)

const (
	frameHeaderBytes = 9
	// frameBytesMax is the largest payload that we accept and send, in bytes: the least that RFC 9113 section 4.2 asks for.
	frameBytesMax = 16 << 10
	// windowMax bounds a flow-control window in bytes (RFC 9113 section 6.9.1).
	windowMax = 1<<31 - 1
	// windowDefault is the initial window of streams and connections in bytes (RFC 9113 section 6.9.2).
	windowDefault = 65535
	streamIDMask  = 1<<31 - 1
)

type frameHeader struct {
	length int
	typ    frameType
	flags  uint8
	stream uint32
}

// parseFrameHeader reads a header (RFC 9113 section 4.1); b has frameHeaderBytes.
func parseFrameHeader(b []byte) frameHeader {
	_ = b[frameHeaderBytes-1]
	return frameHeader{
		length: int(b[0])<<16 | int(b[1])<<8 | int(b[2]), typ: frameType(b[3]), flags: b[4],
		stream: binary.BigEndian.Uint32(b[5:]) & streamIDMask,
	}
}

func appendFrameHeader(dst []byte, length int, typ frameType, flags uint8, stream uint32) []byte {
	return append(dst, byte(length>>16), byte(length>>8), byte(length), byte(typ), flags,
		byte(stream>>24), byte(stream>>16), byte(stream>>8), byte(stream))
}

func appendSetting(dst []byte, id uint16, value uint32) []byte {
	return binary.BigEndian.AppendUint32(binary.BigEndian.AppendUint16(dst, id), value)
}

func appendRSTStream(dst []byte, stream uint32, code errCode) []byte {
	return binary.BigEndian.AppendUint32(appendFrameHeader(dst, 4, frameRSTStream, 0, stream), uint32(code))
}

func appendWindowUpdate(dst []byte, stream, n uint32) []byte {
	return binary.BigEndian.AppendUint32(appendFrameHeader(dst, 4, frameWindowUpdate, 0, stream), n)
}

func appendGoAway(dst []byte, last uint32, code errCode) []byte {
	dst = appendFrameHeader(dst, 8, frameGoAway, 0, 0)
	return binary.BigEndian.AppendUint32(binary.BigEndian.AppendUint32(dst, last), uint32(code))
}

// cutPadding takes the padding off a DATA or HEADERS payload (RFC 9113 section 6.1); false: it is as long as the payload.
func cutPadding(flags uint8, payload []byte) ([]byte, bool) {
	if flags&flagPadded == 0 {
		return payload, true
	}
	if len(payload) == 0 || int(payload[0]) >= len(payload) {
		return nil, false
	}
	return payload[1 : len(payload)-int(payload[0])], true
}
