package h2_test

import (
	"bytes"
	"net"
	"testing"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"

	"rauta.io/rauta/internal/testrig"
)

// h2BackEnd speaks HTTP/2 by prior knowledge and answers every request at its HEADERS frame; it allocates per connection
// only.
func h2BackEnd(t testing.TB) string {
	var block, head bytes.Buffer
	enc := hpack.NewEncoder(&block)
	enc.SetMaxDynamicTableSize(0) // each block stands for itself
	for _, f := range []hpack.HeaderField{
		{Name: ":status", Value: "200"}, {Name: "content-type", Value: "text/plain"}, {Name: "server", Value: "fixed"},
		{Name: "content-length", Value: "5"},
	} {
		enc.WriteField(f)
	}
	framer := http2.NewFramer(&head, nil)
	framer.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: block.Bytes(), EndHeaders: true})
	headBytes := head.Len()
	framer.WriteData(1, true, []byte("hello"))
	response := head.Bytes()
	return testrig.Listen(t, func(c net.Conn) { answerFrames(c, response, headBytes) })
}

// answerFrames answers the requests of one connection; what came together is answered together.
func answerFrames(c net.Conn, response []byte, headBytes int) {
	defer c.Close()
	in, out := make([]byte, 64<<10), make([]byte, 0, 64<<10)
	const settings, ack = "\x00\x00\x00\x04\x00\x00\x00\x00\x00", "\x00\x00\x00\x04\x01\x00\x00\x00\x00"
	kept := 0
	for prefaced := false; ; {
		n, err := c.Read(in[kept:])
		if err != nil {
			return
		}
		data := in[:kept+n]
		out = out[:0]
		if !prefaced {
			if len(data) < len(http2.ClientPreface) {
				kept = len(data)
				continue
			}
			prefaced = true
			data = data[len(http2.ClientPreface):]
			out = append(append(out, settings...), ack...)
		}
		for len(data) >= 9 {
			size := 9 + (int(data[0])<<16 | int(data[1])<<8 | int(data[2]))
			if len(data) < size {
				break
			}
			if http2.FrameType(data[3]) == http2.FrameHeaders {
				for _, part := range [][]byte{response[:headBytes], response[headBytes:]} {
					at := len(out)
					out = append(out, part...)
					copy(out[at+5:at+9], data[5:9])
				}
			}
			data = data[size:]
		}
		kept = copy(in, data)
		if _, err := c.Write(out); err != nil {
			return
		}
	}
}
