package loop

// TLS record layer, as far as the start of a connection goes.
const (
	recordHeaderBytes    = 5  // RFC 8446 section 5.1
	recordTypeHandshake  = 22 // RFC 8446 section 5.1
	handshakeHeaderBytes = 4  // RFC 8446 section 4
	typeClientHello      = 1  // RFC 8446 section 4
	recordContentMax     = 1 << 14
)

// helloFragment is the content, in bytes, of the records that crypto/tls gets a ClientHello in: see refragment. Three and
// four of them fill buffers of the allocator's sizes, and one fits into the smallest that crypto/tls makes (576).
const helloFragment = 448

// helloScan finds the end of a ClientHello, which may be spread over several records (RFC 8446 section 5.1). It keeps
// its place, so that a hello that comes byte by byte is not looked at again and again.
type helloScan struct {
	record int // where the next record begins
	have   int // bytes of the message in the records before it
	header [handshakeHeaderBytes]byte
}

// complete says whether b, which only ever grows, has all that crypto/tls needs to answer: a whole ClientHello, or
// something that can't become one.
func (s *helloScan) complete(b []byte) bool {
	for {
		record := b[s.record:]
		if len(record) > 0 && record[0] != recordTypeHandshake {
			return true
		}
		if len(record) < recordHeaderBytes {
			return false
		}
		size := recordHeaderBytes + int(record[3])<<8 + int(record[4])
		fragment := record[recordHeaderBytes:min(size, len(record))]
		if s.have < handshakeHeaderBytes {
			copy(s.header[s.have:], fragment)
		}
		have := s.have + len(fragment)
		if have > 0 && s.header[0] != typeClientHello {
			return true
		}
		length := int(s.header[1])<<16 | int(s.header[2])<<8 | int(s.header[3])
		if have >= handshakeHeaderBytes && have >= handshakeHeaderBytes+length {
			return true
		}
		if len(record) < size {
			return false
		}
		s.record += size
		s.have = have
	}
}

// refragment puts a ClientHello into small records, which a client might have done as well (RFC 8446 section 5.1): b is
// what has been gathered, and is returned as it is if it is anything else than a whole hello with what follows it.
//
// The buffer into which crypto/tls reads records stays as large as the largest one while the connection lives, and the
// record of a hello with a post-quantum key share is larger than all others of most idle connections: small ones save
// 1.7 KiB of 10 (loadtest idle-tls).
func refragment(b []byte) []byte {
	var hello []byte
	used := 0
	for whole := handshakeHeaderBytes; len(hello) < whole; {
		record := b[used:]
		if len(record) < recordHeaderBytes || record[0] != recordTypeHandshake || record[1] != b[1] || record[2] != b[2] {
			return b
		}
		size := int(record[3])<<8 + int(record[4])
		if size == 0 || size > recordContentMax || len(record) < recordHeaderBytes+size {
			return b // crypto/tls says what is wrong
		}
		hello = append(hello, record[recordHeaderBytes:recordHeaderBytes+size]...)
		used += recordHeaderBytes + size
		if len(hello) >= handshakeHeaderBytes {
			whole = handshakeHeaderBytes + int(hello[1])<<16 + int(hello[2])<<8 + int(hello[3])
			if hello[0] != typeClientHello || len(hello) > whole {
				return b
			}
		}
	}
	out := make([]byte, 0, len(b)+(len(hello)/helloFragment+1)*recordHeaderBytes)
	for len(hello) > 0 {
		n := min(len(hello), helloFragment)
		out = append(out, recordTypeHandshake, b[1], b[2], byte(n>>8), byte(n))
		out = append(out, hello[:n]...)
		hello = hello[n:]
	}
	return append(out, b[used:]...)
}

// recordCut finds the ends of records in what is received. crypto/tls gets no more than one record at a time: then it
// never holds one that nobody has asked for, and when the socket is empty there is no need to ask.
type recordCut struct {
	left   int // of the record's content
	header [recordHeaderBytes]byte
	have   int // of header
}

// next returns how many bytes at the beginning of b, which is not empty, belong to the record under way.
func (r *recordCut) next(b []byte) int {
	n := 0
	if r.left == 0 {
		n = copy(r.header[r.have:], b)
		r.have += n
		if r.have < recordHeaderBytes {
			return n
		}
		r.left, r.have = int(r.header[3])<<8|int(r.header[4]), 0
	}
	content := min(r.left, len(b)-n)
	r.left -= content
	return n + content
}
