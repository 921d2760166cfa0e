package hpack

import (
	"bytes"
	"fmt"
	"testing"

	oracle "golang.org/x/net/http2/hpack"

	"rauta.io/rauta/proxy/message"
)

// browserFields are what a browser sends; n makes path and traceparent new ones.
func browserFields(n int) []oracle.HeaderField {
	return []oracle.HeaderField{
		{Name: ":method", Value: "GET"}, {Name: ":scheme", Value: "https"}, {Name: ":authority", Value: "api.example.com"},
		{Name: ":path", Value: fmt.Sprintf("/api/v1/items/%06d?full=1", n), Sensitive: n > 0},
		{Name: "user-agent", Value: "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko)"},
		{Name: "accept", Value: "application/json, text/plain, */*"}, {Name: "accept-encoding", Value: "gzip, deflate, br"},
		{Name: "accept-language", Value: "en-GB,en;q=0.9"}, {Name: "cookie", Value: "session=8f7d2c1b9e; theme=dark"},
		{Name: "x-request-id", Value: "fixed"},
		{Name: "traceparent", Value: fmt.Sprintf("00-%032x-%016x-01", n*7919, n*104729), Sensitive: n > 0},
	}
}

// browserBlocks returns what fills the table, and blocks after that: all of them the same, or with two new values each.
func browserBlocks(varied bool) (first []byte, blocks [][]byte) {
	var b bytes.Buffer
	enc := oracle.NewEncoder(&b)
	for i := range 257 {
		b.Reset()
		n := 0
		if varied {
			n = i
		}
		for _, f := range browserFields(n) {
			enc.WriteField(f)
		}
		if i == 0 {
			first = bytes.Clone(b.Bytes())
		} else {
			blocks = append(blocks, bytes.Clone(b.Bytes()))
		}
	}
	return first, blocks
}

// eachKind runs a benchmark for indexed and for varied blocks.
func eachKind(b *testing.B, run func(b *testing.B, first []byte, blocks [][]byte)) {
	for _, kind := range []string{"indexed", "varied"} {
		first, blocks := browserBlocks(kind == "varied")
		b.Run(kind, func(b *testing.B) {
			b.ReportAllocs()
			run(b, first, blocks)
		})
	}
}

func BenchmarkDecode(b *testing.B) {
	eachKind(b, func(b *testing.B, first []byte, blocks [][]byte) {
		d := NewDecoder(noLimit)
		var block Block
		if err := d.Decode(&block, first, noLimit); err != nil {
			b.Fatal(err)
		}
		for i := 0; b.Loop(); i++ {
			if err := d.Decode(&block, blocks[i&255], noLimit); err != nil || len(block.Fields) != 11 {
				b.Fatal(err)
			}
		}
	})
}

func BenchmarkDecodeOracle(b *testing.B) {
	eachKind(b, func(b *testing.B, first []byte, blocks [][]byte) {
		n := 0
		d := oracle.NewDecoder(TableBytes, func(f oracle.HeaderField) { n += len(f.Value) })
		d.Write(first)
		for i := 0; b.Loop(); i++ {
			if _, err := d.Write(blocks[i&255]); err != nil {
				b.Fatal(err)
			}
			d.Close()
		}
	})
}

// responseFields are what a back end answers.
func responseFields() (h message.Head) {
	for _, f := range [][2]string{
		{"Date", "Mon, 21 Oct 2013 20:13:21 GMT"}, {"Content-Type", "application/json; charset=utf-8"}, {"Server", "backend/1.2"},
		{"Cache-Control", "private, max-age=0"}, {"Vary", "accept-encoding, origin"}, {"X-Request-Id", "5f2b9c1e-7d44-4b8f"},
		{"X-Frame-Options", "SAMEORIGIN"}, {"Strict-Transport-Security", "max-age=63072000; includeSubDomains"},
	} {
		h.Add(f[0], f[1], message.LookupIDString(f[0]))
	}
	return h
}

func appendHead(e *Encoder, dst []byte, h *message.Head) []byte {
	dst = e.AppendStatus(e.Begin(dst), 200)
	for i := range h.Fields {
		f := &h.Fields[i]
		dst = e.AppendField(dst, f.ID, h.Bytes(f.Name), h.Bytes(f.Value), false)
	}
	return dst
}

func BenchmarkEncode(b *testing.B) {
	h, e := responseFields(), NewEncoder()
	var dst []byte
	b.ReportAllocs()
	for b.Loop() {
		dst = appendHead(e, dst[:0], &h)
	}
	b.ReportMetric(float64(len(dst)), "bytes")
}

func BenchmarkEncodeOracle(b *testing.B) {
	h := responseFields()
	var dst bytes.Buffer
	e := oracle.NewEncoder(&dst)
	var fields []oracle.HeaderField
	for i := range h.Fields {
		f := &h.Fields[i]
		name := bytes.ToLower(h.Bytes(f.Name))
		fields = append(fields, oracle.HeaderField{Name: string(name), Value: string(h.Bytes(f.Value))})
	}
	b.ReportAllocs()
	for b.Loop() {
		dst.Reset()
		e.WriteField(oracle.HeaderField{Name: ":status", Value: "200"})
		for _, f := range fields {
			e.WriteField(f)
		}
	}
	b.ReportMetric(float64(dst.Len()), "bytes")
}

func BenchmarkHuffmanDecode(b *testing.B) {
	text := "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko)"
	coded := appendHuffman(nil, text)
	var dst []byte
	b.SetBytes(int64(len(text)))
	for b.Loop() {
		dst, _ = appendHuffmanDecoded(dst[:0], coded)
	}
}

func TestBlocksAllocateNothing(t *testing.T) {
	for _, varied := range []bool{false, true} {
		first, blocks := browserBlocks(varied)
		d := NewDecoder(noLimit)
		var block Block
		if err := d.Decode(&block, first, noLimit); err != nil {
			t.Fatal(err)
		}
		i := 0
		n := testing.AllocsPerRun(200, func() {
			if err := d.Decode(&block, blocks[i], noLimit); err != nil {
				t.Fatal(err)
			}
			i++
		})
		if n != 0 {
			t.Errorf("decoding allocates %v times", n)
		}
	}
	h, e := responseFields(), NewEncoder()
	h.Add("X-Longer-Than-Thirty-Two-Bytes-In-Its-Name", "and a value that is longer than thirty-two bytes", message.Unknown)
	var dst []byte
	for range 3 {
		dst = appendHead(e, dst[:0], &h)
	}
	if n := testing.AllocsPerRun(200, func() { dst = appendHead(e, dst[:0], &h) }); n != 0 {
		t.Errorf("encoding allocates %v times", n)
	}
}

func TestATableThatTurnsOverAllocatesNothing(t *testing.T) {
	e, d := NewEncoder(), NewDecoder(noLimit)
	var dst []byte
	var block Block
	value := bytes.Repeat([]byte("a"), 900)
	n := 0
	turnOver := func() {
		for range 100 {
			n++
			value[n%len(value)]++
			dst = e.AppendField(dst[:0], message.ContentType, nil, value[n%500:], false)
			if err := d.Decode(&block, dst, noLimit); err != nil {
				t.Fatal(err)
			}
		}
	}
	turnOver()
	if allocs := testing.AllocsPerRun(20, turnOver); allocs != 0 {
		t.Errorf("%v allocations", allocs)
	}
	if !equal(e.table.entries(), d.table.entries()) || d.table.changes < 1000 {
		t.Errorf("%d changes", d.table.changes)
	}
}
