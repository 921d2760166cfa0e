package observe

import (
	"encoding/hex"
	"strconv"
	"time"
	"unicode/utf8"
)

// fieldBytesMax bounds what one field of a request may take of a log line, in bytes before escaping: the URI length
// that servers are asked to support at least is 8000 (RFC 9110 section 4.1), real ones stay far below this.
const fieldBytesMax = 4096

// clockText is the text of the last second that was logged; formatting a date costs more than the rest of a line.
type clockText struct {
	second int64
	text   [len("2006-01-02T15:04:05")]byte
}

// append appends a time in nanoseconds since the epoch as RFC 3339 in UTC with milliseconds.
func (c *clockText) append(dst []byte, ns int64) []byte {
	second := ns / 1e9
	if second != c.second || c.text[0] == 0 {
		c.second = second
		time.Unix(second, 0).UTC().AppendFormat(c.text[:0], "2006-01-02T15:04:05")
	}
	ms := ns / 1e6 % 1000
	dst = append(dst, c.text[:]...)
	return append(dst, '.', byte('0'+ms/100), byte('0'+ms/10%10), byte('0'+ms%10), 'Z')
}

// appendLine appends the access log line of an exchange, with all fields in a fixed order and its line feed.
func appendLine(dst []byte, rec *Record, clock *clockText) []byte {
	dst = append(dst, `{"time":"`...)
	dst = clock.append(dst, rec.ReceivedAt)
	dst = append(dst, `","client":"`...)
	if rec.Client.IsValid() {
		dst = rec.Client.WithZone("").AppendTo(dst) // a zone is a name of this machine, it says nothing elsewhere
	}
	dst = appendString(dst, `","protocol":"`, rec.Protocol)
	dst = appendString(dst, `","method":"`, rec.ReceivedMethod)
	dst = appendString(dst, `","target":"`, rec.ReceivedTarget)
	dst = appendString(dst, `","host":"`, rec.ReceivedHost)
	dst = appendString(dst, `","effective_host":"`, rec.EffectiveHost)
	dst = appendString(dst, `","effective_path":"`, rec.EffectivePath)
	dst = appendString(dst, `","effective_query":"`, rec.EffectiveQuery)
	dst = appendPlace(dst, rec)
	dst = appendString(dst, `","reason":"`, rec.Reason)
	dst = appendInt(dst, `","status":`, int64(rec.Status))
	dst = appendInt(dst, `,"backend_status":`, int64(rec.BackendStatus))
	dst = appendString(dst, `,"grpc_status":"`, rec.GRPCStatus.String())
	dst = append(dst, '"')
	dst = appendInt(dst, `,"attempts":`, int64(rec.Attempts))
	dst = appendInt(dst, `,"bytes_in":`, rec.BytesIn)
	dst = appendInt(dst, `,"bytes_out":`, rec.BytesOut)
	dst = appendStages(dst, rec)
	dst = appendString(dst, `,"user_agent":"`, rec.UserAgent)
	dst = appendString(dst, `","request_id":"`, rec.RequestID)
	if rec.ClientVerify != "" {
		dst = appendString(dst, `","client_verify":"`, rec.ClientVerify)
		dst = appendString(dst, `","client_subject":"`, rec.ClientSubject)
		dst = appendString(dst, `","client_fingerprint":"`, rec.ClientFingerprint)
	}
	return append(dst, '"', '}', '\n')
}

// appendPlace appends where the exchange went.
func appendPlace(dst []byte, rec *Record) []byte {
	route, cluster, address := "", "", rec.EndpointAddr
	if rec.Route != nil {
		route = rec.Route.name
	}
	if rec.Endpoint != nil {
		cluster = rec.Endpoint.key.Cluster
		if address == "" {
			address = rec.Endpoint.key.Address
		}
	}
	dst = appendString(dst, `","route":"`, route)
	dst = appendString(dst, `","rule":"`, rec.RuleName)
	dst = appendString(dst, `","cluster":"`, cluster)
	return appendString(dst, `","endpoint":"`, address)
}

// stageNames are the keys of the stages that end with StreamAt, SentAt, FirstByteAt and EndAt.
var stageNames = [4]string{
	`,"upstream_connect_us":`, `,"request_send_us":`, `,"response_wait_us":`, `,"response_send_us":`,
}

// appendStages appends how long each stage took in microseconds. The stage in which the exchange ended gets the time
// up to the end, the ones after it 0; a response that overtakes the request leaves no negative wait.
func appendStages(dst []byte, rec *Record) []byte {
	marks := [4]int64{rec.StreamAt, rec.SentAt, rec.FirstByteAt, rec.EndAt}
	last := 3 // the stage in which the exchange ended
	for last > 0 && marks[last-1] == 0 {
		last--
	}
	previous := int64(0)
	for stage, name := range stageNames {
		took := int64(0)
		if at := marks[stage]; stage == last && rec.Attempts > 0 {
			took = max(rec.EndAt-previous, 0)
		} else if stage < last && at > previous {
			took, previous = at-previous, at
		}
		dst = appendInt(dst, name, took/1e3)
	}
	dst = appendInt(dst, `,"duration_us":`, rec.EndAt/1e3)
	dst = append(dst, `,"stages_us":{`...)
	first := true
	for stage, ns := range rec.Stages {
		if ns == 0 && Stage(stage) < kernelStages { // unknown
			continue
		}
		if !first {
			dst = append(dst, ',')
		}
		first = false
		dst = append(append(dst, '"'), stageLabels[stage]...)
		dst = appendInt(dst, `":`, ns/1e3)
	}
	dst = append(dst, '}')
	if rec.TraceID != [16]byte{} {
		dst = append(dst, `,"trace_id":"`...)
		dst = append(hex.AppendEncode(dst, rec.TraceID[:]), '"')
	}
	return dst
}

func appendInt(dst []byte, key string, n int64) []byte {
	return strconv.AppendInt(append(dst, key...), n, 10)
}

// appendString appends a key and the escaped content of a JSON string (RFC 8259 section 7). Everything that could end
// the line, move a terminal's cursor or be invalid in a JSON text is escaped or replaced, because most of it comes
// from the client: a request must not be able to forge a line.
func appendString[T string | []byte](dst []byte, key string, s T) []byte {
	dst = append(dst, key...)
	cut := len(s) > fieldBytesMax
	if cut {
		s = s[:fieldBytesMax]
	}
	plain := 0 // s[plain:i] needs no escape
	for i := 0; i < len(s); {
		c := s[i]
		if c >= 0x20 && c < 0x7f && c != '"' && c != '\\' {
			i++
			continue
		}
		size, asIs := 1, false
		code := rune(c)
		if c >= utf8.RuneSelf {
			code, size = utf8.DecodeRuneInString(string(s[i:min(i+utf8.UTFMax, len(s))]))
			asIs = (code != utf8.RuneError || size > 1) && printable(code)
		}
		if !asIs {
			dst = append(dst, s[plain:i]...)
			dst = appendEscape(dst, code)
			plain = i + size
		}
		i += size
	}
	dst = append(dst, s[plain:]...)
	if cut {
		dst = append(dst, "..."...)
	}
	return dst
}

// printable tells the code points above ASCII that may stand for themselves: not the C1 controls, the line and
// paragraph separators, nor what turns the direction of text around.
func printable(c rune) bool {
	switch {
	case c < 0xa0, c == 0x2028, c == 0x2029, c >= 0x202a && c <= 0x202e, c >= 0x2066 && c <= 0x2069, c == 0xfeff:
		return false
	}
	return true
}

// appendEscape appends a code point of the basic plane as an escape; no other plane needs one.
func appendEscape(dst []byte, c rune) []byte {
	const hex = "0123456789abcdef"
	switch c {
	case '"', '\\':
		return append(dst, '\\', byte(c))
	case '\n':
		return append(dst, '\\', 'n')
	case '\r':
		return append(dst, '\\', 'r')
	case '\t':
		return append(dst, '\\', 't')
	}
	return append(dst, '\\', 'u', hex[c>>12&15], hex[c>>8&15], hex[c>>4&15], hex[c&15])
}
