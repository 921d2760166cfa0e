package hpack

import (
	"math/rand"
	"strconv"
	"strings"
	"testing"

	oracle "golang.org/x/net/http2/hpack"

	"rauta.io/rauta/proxy/message"
)

// pairOf is an encoder with the oracle's decoder behind it.
type pairOf struct {
	t   testing.TB
	enc *Encoder
	dec *oracle.Decoder
}

func newPair(t testing.TB) *pairOf {
	return &pairOf{t, NewEncoder(), oracle.NewDecoder(TableBytes, nil)}
}

// send encodes fields, name after value, and returns the block and what the oracle reads.
func (p *pairOf) send(fields ...string) ([]byte, []oracle.HeaderField) {
	p.t.Helper()
	block := p.enc.Begin(nil)
	for i := 0; i < len(fields); i += 2 {
		block = p.enc.AppendField(block, message.LookupIDString(fields[i]), []byte(fields[i]), []byte(fields[i+1]), false)
	}
	got, err := p.dec.DecodeFull(block)
	if err != nil {
		p.t.Fatalf("%x: %v", block, err)
	}
	if len(got) != len(fields)/2 {
		p.t.Fatalf("%v, want %q", got, fields)
	}
	for i, f := range got {
		if f.Name != strings.ToLower(fields[2*i]) || f.Value != fields[2*i+1] {
			p.t.Fatalf("%v, want %q", f, fields[2*i:2*i+2])
		}
	}
	return block, got
}

func TestAFieldThatComesAgainTakesOneByte(t *testing.T) {
	p := newPair(t)
	p.send("Content-Type", "text/html", "X-Powered-By", "something")
	if p.enc.table.count != 1 {
		t.Errorf("%q are in the table", p.enc.table.entries())
	}
	p.send("content-type", "text/html", "x-powered-by", "something")
	if block, _ := p.send("content-type", "text/html", "X-Powered-By", "something"); len(block) != 2 {
		t.Errorf("%d bytes: %x", len(block), block)
	}
}

func TestEveryNameHasASlotOfItsOwn(t *testing.T) {
	for id := range 256 {
		if message.FieldID(id).Name() != "" && id >= slotMethod {
			t.Errorf("%s has the slot of a pseudo-header field", message.FieldID(id).Name())
		}
	}
	for n := range 70 {
		if s := slotOf([]byte(strings.Repeat("~", n))); s < slotUnknown || s >= slots {
			t.Errorf("slot %d", s)
		}
	}
}

func TestAFieldWithTwoValuesIsFoundWithEither(t *testing.T) {
	p := newPair(t)
	for i := range 10 {
		block, _ := p.send("vary", "origin", "x-a", "b", "vary", "accept", "x-a", "c")
		if i >= 2 && len(block) != 4 {
			t.Errorf("%d bytes: %x", len(block), block)
		}
	}
}

func TestVolatileFieldsStayOutOfTheTable(t *testing.T) {
	p := newPair(t)
	for range 3 {
		p.send("Date", "Mon, 21 Oct 2013 20:13:21 GMT", "ETag", `"x"`, "X-Request-ID", "1", "traceparent", "00-1-1-01")
	}
	if p.enc.table.count != 0 {
		t.Errorf("%q are in the table", p.enc.table.entries())
	}
}

func TestSecretsAreNeverIndexed(t *testing.T) {
	p := newPair(t)
	for range 3 {
		_, got := p.send("Set-Cookie", "a=b", "Authorization", "Basic eA==", "Cookie", "c=d", "Proxy-Authorization", "x", "server", "y")
		for i, f := range got {
			if f.Sensitive != (i < 4) {
				t.Errorf("%v", f)
			}
		}
	}
	for range 3 {
		for _, name := range []string{"X-Api-Key", "private-token", "token", "X-CSRF-Token", "cf-access-jwt-assertion"} {
			for _, value := range []string{"secret", strings.Repeat("long", 500)} {
				if _, got := p.send(name, value); !got[0].Sensitive {
					t.Errorf("%v", got)
				}
			}
		}
	}
	for _, name := range []string{"x-a", strings.Repeat("X-Long", 20), "accept"} {
		id := message.LookupIDString(name)
		got, err := p.dec.DecodeFull(p.enc.AppendField(nil, id, []byte(name), []byte("secret"), true))
		if err != nil || !got[0].Sensitive || got[0].Name != strings.ToLower(name) {
			t.Errorf("%v, %v", got, err)
		}
	}
	if !equal(p.enc.table.entries(), []string{"server: y"}) {
		t.Errorf("%q are in the table", p.enc.table.entries())
	}
}

func TestPseudoHeaderFieldsAreWhatADecoderReads(t *testing.T) {
	p := newPair(t)
	check := func(block []byte, name, value string) {
		t.Helper()
		got, err := p.dec.DecodeFull(block)
		if err != nil || len(got) != 1 || got[0].Name != name || got[0].Value != value || got[0].Sensitive {
			t.Errorf("%x: %v, %v, want %s: %s", block, got, err, name, value)
		}
	}
	for range 3 {
		for _, method := range []string{"GET", "POST", "PUT", "get"} {
			check(p.enc.AppendMethod(nil, []byte(method)), ":method", method)
		}
		for _, path := range []string{"/", "/index.html", "/a?b=c", "*", ""} {
			check(p.enc.AppendPath(nil, []byte(path)), ":path", path)
		}
		check(p.enc.AppendScheme(nil, message.SchemeHTTP), ":scheme", "http")
		check(p.enc.AppendScheme(nil, message.SchemeHTTPS), ":scheme", "https")
		check(p.enc.AppendAuthority(nil, []byte("a.example:8080")), ":authority", "a.example:8080")
		check(p.enc.AppendProtocol(nil, []byte("websocket")), ":protocol", "websocket")
		check(p.enc.AppendContentLength(nil, 1<<63-1), "content-length", "9223372036854775807")
	}
	for status, text := range map[int]string{200: "200", 204: "204", 206: "206", 304: "304", 400: "400", 404: "404", 500: "500",
		201: "201", 103: "103", 999: "999"} {
		check(p.enc.AppendStatus(nil, status), ":status", text)
	}
	if got := p.enc.AppendStatus(nil, 404); len(got) != 1 {
		t.Errorf("404 takes %d bytes", len(got))
	}
}

func TestAChangeOfTheTableSizeIsOwedOnce(t *testing.T) {
	p := newPair(t)
	p.send("server", "x")
	p.enc.SetTableSize(1 << 20) // more than we use: nothing to say
	if block, _ := p.send("server", "x"); len(block) != 1 {
		t.Errorf("%x", block)
	}
	p.enc.SetTableSize(0)
	p.enc.SetTableSize(200)
	p.dec.SetAllowedMaxDynamicTableSize(200)
	block, _ := p.send("server", "x")
	if got := block[:4]; string(got) != "\x20\x3f\xa9\x01" { // 0, then 200 (RFC 7541 section 4.2)
		t.Errorf("%x", block)
	}
	if block, _ = p.send("server", "x"); len(block) != 1 {
		t.Errorf("%x", block)
	}
	p.enc.SetTableSize(0)
	p.dec.SetAllowedMaxDynamicTableSize(0)
	for range 3 {
		block, _ = p.send("server", "x")
	}
	if len(block) < 3 || p.enc.table.count != 0 {
		t.Errorf("%x, table %q", block, p.enc.table.entries())
	}
}

// randomFields draws fields from few, so that tables matter.
func randomFields(r *rand.Rand) (fields []oracle.HeaderField) {
	names := []string{":path", "accept", "content-type", "x-a", "x-b-c", "user-agent", "x_d", "cookie", "vary", "link", "x." + strings.Repeat("n", 70)}
	for range r.Intn(12) {
		value := strings.Repeat(string(rune('a'+r.Intn(4))), r.Intn(1<<r.Intn(11)))
		if r.Intn(8) == 0 {
			b := make([]byte, r.Intn(30))
			r.Read(b)
			value = string(b)
		}
		fields = append(fields, oracle.HeaderField{Name: names[r.Intn(len(names))], Value: value, Sensitive: r.Intn(10) == 0})
	}
	return fields
}

// appendAny encodes a field by its name.
func appendAny(e *Encoder, block []byte, f oracle.HeaderField) []byte {
	if f.Name == ":path" {
		return e.AppendPath(block, []byte(f.Value))
	}
	return e.AppendField(block, message.LookupIDString(f.Name), []byte(f.Name), []byte(f.Value), f.Sensitive)
}

func TestTablesStayInStepWhateverTheirSize(t *testing.T) {
	r := rand.New(rand.NewSource(7))
	for range 300 {
		p := newPair(t)
		ours := NewDecoder(noLimit)
		var b Block
		for range 60 {
			for r.Intn(6) == 0 {
				n := []uint32{0, 32, 100, 400, 1000, 4095, 4096, 1 << 16}[r.Intn(8)]
				p.enc.SetTableSize(n)
			}
			fields := randomFields(r)
			block := p.enc.Begin(nil)
			for _, f := range fields {
				block = appendAny(p.enc, block, f)
			}
			if err := ours.Decode(&b, block, noLimit); err != nil {
				t.Fatalf("%x: %v", block, err)
			}
			if len(b.Fields) != len(fields) {
				t.Fatalf("%d fields, want %d", len(b.Fields), len(fields))
			}
			for i, f := range fields {
				if got := b.text(b.Fields[i]); got != f.Name+": "+f.Value || f.Sensitive && f.Name != ":path" && !b.Fields[i].Sensitive {
					t.Fatalf("%q, want %v", got, f)
				}
			}
			if !equal(p.enc.table.entries(), ours.table.entries()) || p.enc.table.used != ours.table.used || p.enc.table.max != ours.table.max {
				t.Fatalf("encoder %q\ndecoder %q", p.enc.table.entries(), ours.table.entries())
			}
			if p.enc.table.used > p.enc.table.max || cap(ours.table.bytes) > 4*TableBytes || len(ours.table.ring) > 2*entriesMax {
				t.Fatalf("%d of %d, buffer %d, ring %d", p.enc.table.used, p.enc.table.max, cap(ours.table.bytes), len(ours.table.ring))
			}
		}
	}
}

// TestSequencesMayWrapAround adds more fields than a sequence can count, with old ones in between.
func TestSequencesMayWrapAround(t *testing.T) {
	p := newPair(t)
	for i := range 70_000 {
		if i%100 < 2 {
			p.send("vary", "first", "x-first", "second", "x-first", "third")
		}
		p.send("via", strconv.Itoa(i))
	}
	if p.enc.table.added < 70_000 {
		t.Error(p.enc.table.added)
	}
}

func TestPositionsMayWrapAround(t *testing.T) {
	p := newPair(t)
	p.enc.table.base, p.enc.table.added = ^uint32(0)-3000, ^uint32(0)-100
	ours := NewDecoder(noLimit)
	ours.table.base, ours.table.added = ^uint32(0)-3000, ^uint32(0)-100
	r := rand.New(rand.NewSource(3))
	var b Block
	for range 400 {
		fields := randomFields(r)
		var block []byte
		for _, f := range fields {
			block = appendAny(p.enc, block, f)
		}
		got, err := p.dec.DecodeFull(block)
		if err != nil || len(got) != len(fields) {
			t.Fatal(err)
		}
		if err := ours.Decode(&b, block, noLimit); err != nil {
			t.Fatal(err)
		}
		for i, f := range fields {
			if got[i].Value != f.Value || b.text(b.Fields[i]) != f.Name+": "+f.Value {
				t.Fatalf("%v, %q, want %v", got[i], b.text(b.Fields[i]), f)
			}
		}
	}
	if p.enc.table.added > 1<<31 || ours.table.added > 1<<31 {
		t.Error("nothing wrapped around")
	}
}
