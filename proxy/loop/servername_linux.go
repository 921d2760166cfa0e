package loop

// Parts of a ClientHello (RFC 8446 section 4.1.2).
const (
	helloFixedBytes     = 2 + 32 // legacy_version and random
	extensionServerName = 0      // RFC 6066 section 3
	serverNameHost      = 0      // RFC 6066 section 3
	serverNameBytesMax  = 255    // RFC 1035 section 2.3.4
)

// serverName finds the server name in b, a complete ClientHello in its records; it is empty if the client names none. ok
// is false for what is not well-formed, and for names that crypto/tls refuses: what is decided by the name must not be
// decided otherwise by whoever reads the same bytes later.
func serverName(b []byte) (name string, ok bool) {
	m, ok := helloMessage(b)
	if !ok || len(m) < helloFixedBytes {
		return "", false
	}
	r := reader(m[helloFixedBytes:])
	_, sessionID := r.vector(1)
	_, suites := r.vector(2)
	_, compressions := r.vector(1)
	if !sessionID || !suites || !compressions {
		return "", false
	}
	if len(r) == 0 {
		return "", true // no extensions
	}
	extensions, ok := r.vector(2)
	if !ok || len(r) > 0 {
		return "", false
	}
	return serverNameExtension(extensions)
}

// helloMessage puts the fragments of the ClientHello together, without its header.
func helloMessage(b []byte) (m []byte, ok bool) {
	length := -1
	for whole := false; !whole; {
		if len(b) < recordHeaderBytes || b[0] != recordTypeHandshake {
			return nil, false
		}
		size := recordHeaderBytes + int(b[3])<<8 + int(b[4])
		fragment := b[recordHeaderBytes:min(size, len(b))]
		if m == nil {
			m = fragment
		} else {
			m = append(m[:len(m):len(m)], fragment...)
		}
		if length < 0 && len(m) >= handshakeHeaderBytes {
			if m[0] != typeClientHello {
				return nil, false
			}
			length = handshakeHeaderBytes + (int(m[1])<<16 | int(m[2])<<8 | int(m[3]))
		}
		whole = length >= 0 && len(m) >= length
		b = b[min(size, len(b)):]
	}
	return m[handshakeHeaderBytes:length], true
}

// serverNameExtension reads a list of extensions, each of which may be there once.
func serverNameExtension(list reader) (name string, ok bool) {
	seen := map[int]bool{}
	for len(list) > 0 {
		kind, ok := list.number(2)
		data, ok2 := list.vector(2)
		if !ok || !ok2 || seen[kind] {
			return "", false
		}
		seen[kind] = true
		if kind != extensionServerName {
			continue
		}
		names, ok := data.vector(2)
		if !ok || len(data) > 0 || len(names) == 0 {
			return "", false
		}
		for len(names) > 0 {
			kind, ok := names.number(1)
			one, ok2 := names.vector(2)
			if !ok || !ok2 || len(one) == 0 {
				return "", false
			}
			if kind != serverNameHost {
				continue
			}
			if name != "" || len(one) > serverNameBytesMax || one[len(one)-1] == '.' {
				return "", false
			}
			name = string(one)
		}
	}
	return name, true
}

// reader takes numbers and vectors off (RFC 8446 section 3).
type reader []byte

func (r *reader) number(size int) (n int, ok bool) {
	if len(*r) < size {
		return 0, false
	}
	for _, c := range (*r)[:size] {
		n = n<<8 | int(c)
	}
	*r = (*r)[size:]
	return n, true
}

// vector takes a vector whose length has so many bytes.
func (r *reader) vector(size int) (v reader, ok bool) {
	n, ok := r.number(size)
	if !ok || len(*r) < n {
		return nil, false
	}
	v, *r = (*r)[:n], (*r)[n:]
	return v, true
}
