package generator

import "bytes"

// headFields is what the generator needs of a head.
type headFields struct {
	length     int // Content-Length, -1 when missing or malformed
	chunked    bool
	close      bool
	forwarded  bool   // has X-Forwarded-For
	upgrade    bool   // asks for a WebSocket
	key        string // Sec-WebSocket-Key
	generation int64
}

// parseHead scans the lines after the first. The head ends with the CRLF of its last line.
func parseHead(head []byte) headFields {
	fields := headFields{length: -1, generation: -1}
	head = head[bytes.IndexByte(head, '\n')+1:]
	for len(head) > 0 {
		end := bytes.IndexByte(head, '\n')
		if end < 0 {
			break
		}
		line := head[:end]
		head = head[end+1:]
		// The first letter decides, so that most lines cost one comparison.
		switch line[0] | 0x20 {
		case 'c':
			if value, ok := fieldValue(line, "content-length"); ok {
				fields.length = int(decimal(value))
			} else if value, ok := fieldValue(line, "connection"); ok {
				fields.close = bytes.EqualFold(value, []byte("close"))
			}
		case 's':
			if value, ok := fieldValue(line, "sec-websocket-key"); ok {
				fields.key = string(value)
			}
		case 't':
			if _, ok := fieldValue(line, "transfer-encoding"); ok {
				fields.chunked = true
			}
		case 'u':
			if value, ok := fieldValue(line, "upgrade"); ok {
				fields.upgrade = bytes.EqualFold(value, []byte("websocket"))
			}
		case 'x':
			if value, ok := fieldValue(line, "x-forwarded-for"); ok {
				fields.forwarded = len(value) > 0
			} else if value, ok := fieldValue(line, GenerationField); ok {
				fields.generation = decimal(value)
			}
		}
	}
	return fields
}

func fieldValue(line []byte, name string) ([]byte, bool) {
	if len(line) <= len(name) || line[len(name)] != ':' || !bytes.EqualFold(line[:len(name)], []byte(name)) {
		return nil, false
	}
	return bytes.TrimSpace(line[len(name)+1:]), true
}

// decimal reads up to 15 digits, which no size or generation here reaches; -1 for anything else.
func decimal(text []byte) int64 {
	if len(text) == 0 || len(text) > 15 {
		return -1
	}
	var value int64
	for _, digit := range text {
		if digit < '0' || digit > '9' {
			return -1
		}
		value = value*10 + int64(digit-'0')
	}
	return value
}

// pattern is the content of bodies in both directions. Its period is a prime, so that a lost or doubled block of any
// buffer size shows.
func pattern(size int) []byte {
	const period = 251
	body := make([]byte, size)
	for i := range body {
		body[i] = byte('!' + i%period%90)
	}
	return body
}
