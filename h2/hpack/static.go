package hpack

import "rauta.io/rauta/proxy/message"

// Pseudo is a pseudo-header field (RFC 9113 section 8.3).
type Pseudo uint8

// Pseudo-header fields. PseudoOther is a name that begins with a colon and that no standard knows.
const (
	Regular Pseudo = iota // no pseudo-header field
	Authority
	Method
	Path
	Scheme
	Status
	Protocol // RFC 8441 section 4
	PseudoOther
)

// staticText has name and value of the entries of RFC 7541 appendix A, the first of which has index 1.
var staticText = [...][2]string{
	{":authority", ""}, {":method", "GET"}, {":method", "POST"}, {":path", "/"}, {":path", "/index.html"},
	{":scheme", "http"}, {":scheme", "https"}, {":status", "200"}, {":status", "204"}, {":status", "206"},
	{":status", "304"}, {":status", "400"}, {":status", "404"}, {":status", "500"}, {"accept-charset", ""},
	{"accept-encoding", "gzip, deflate"}, {"accept-language", ""}, {"accept-ranges", ""}, {"accept", ""},
	{"access-control-allow-origin", ""}, {"age", ""}, {"allow", ""}, {"authorization", ""}, {"cache-control", ""},
	{"content-disposition", ""}, {"content-encoding", ""}, {"content-language", ""}, {"content-length", ""},
	{"content-location", ""}, {"content-range", ""}, {"content-type", ""}, {"cookie", ""}, {"date", ""}, {"etag", ""},
	{"expect", ""}, {"expires", ""}, {"from", ""}, {"host", ""}, {"if-match", ""}, {"if-modified-since", ""},
	{"if-none-match", ""}, {"if-range", ""}, {"if-unmodified-since", ""}, {"last-modified", ""}, {"link", ""},
	{"location", ""}, {"max-forwards", ""}, {"proxy-authenticate", ""}, {"proxy-authorization", ""}, {"range", ""},
	{"referer", ""}, {"refresh", ""}, {"retry-after", ""}, {"server", ""}, {"set-cookie", ""},
	{"strict-transport-security", ""}, {"transfer-encoding", ""}, {"user-agent", ""}, {"vary", ""}, {"via", ""},
	{"www-authenticate", ""},
}

// staticCount is the size of the static table; the dynamic table begins behind it.
const staticCount = len(staticText)

// Indices that are written without a look-up.
const (
	indexAuthority     = 1
	indexMethodGet     = 2
	indexMethodPost    = 3
	indexPathRoot      = 4
	indexSchemeHTTP    = 6
	indexSchemeHTTPS   = 7
	indexStatus200     = 8
	indexGzipDeflate   = 16
	indexContentLength = 28
)

// staticField is an entry of the static table as the decoder copies it: name and value in one piece.
type staticField struct {
	pair    string
	nameLen uint32
	facts   facts
}

// staticFields has the entry with index i at i.
var staticFields = buildStaticFields()

func buildStaticFields() (t [staticCount + 1]staticField) {
	for i, text := range staticText {
		name := []byte(text[0])
		t[i+1] = staticField{pair: text[0] + text[1], nameLen: uint32(len(name)), facts: factsOf(name, []byte(text[1]))}
	}
	return t
}

// staticOfID has the index of the first entry with the name of a field id, 0 for none.
var staticOfID = buildStaticOfID()

func buildStaticOfID() (t [256]uint8) {
	for i := staticCount; i > 0; i-- {
		if id := staticFields[i].facts.id; id != message.Unknown {
			t[id] = uint8(i)
		}
	}
	return t
}

// staticByLength has the indices of names that have no field id, by the length of the name.
var staticByLength = buildStaticByLength()

const staticNameMax = 27 // bytes of the longest name in the static table

func buildStaticByLength() (t [staticNameMax + 1][]uint8) {
	for i := 1; i <= staticCount; i++ {
		if f := &staticFields[i]; f.facts.id == message.Unknown && f.facts.pseudo == Regular {
			t[f.nameLen] = append(t[f.nameLen], uint8(i))
		}
	}
	return t
}

// staticIndex returns the index of a name in lower case, 0 for none.
func staticIndex(id message.FieldID, name string) int {
	if id != message.Unknown {
		return int(staticOfID[id])
	}
	if len(name) > staticNameMax {
		return 0
	}
	for _, i := range staticByLength[len(name)] {
		if staticFields[i].pair == name { // none of these has a value
			return int(i)
		}
	}
	return 0
}

// pseudoOf tells which pseudo-header field a name is.
func pseudoOf(name []byte) Pseudo {
	if len(name) == 0 || name[0] != ':' {
		return Regular
	}
	switch string(name) {
	case ":authority":
		return Authority
	case ":method":
		return Method
	case ":path":
		return Path
	case ":scheme":
		return Scheme
	case ":status":
		return Status
	case ":protocol":
		return Protocol
	}
	return PseudoOther
}
