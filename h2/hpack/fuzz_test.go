package hpack

import (
	"bytes"
	"math/rand"
	"testing"

	oracle "golang.org/x/net/http2/hpack"

	"rauta.io/rauta/proxy/message"
)

// FuzzDecode compares arbitrary blocks of one connection with the oracle. Blocks are separated by a byte of length.
func FuzzDecode(f *testing.F) {
	for _, example := range examplesOfRFC() {
		if example.size != TableBytes {
			continue
		}
		var data []byte
		for _, block := range example.blocks {
			b := unhex(f, block.hex)
			data = append(append(data, byte(len(b))), b...)
		}
		f.Add(data)
	}
	f.Add([]byte("\x02\x20\x82\x04\x3f\xe1\x1f\x82\x03\x82\x20\x82"))
	f.Fuzz(func(t *testing.T, data []byte) {
		d := NewDecoder(noLimit)
		var want []oracle.HeaderField
		o := oracle.NewDecoder(TableBytes, func(f oracle.HeaderField) { want = append(want, f) })
		var b Block
		for len(data) > 0 {
			n := min(int(data[0]), len(data)-1)
			block := data[1 : 1+n]
			data = data[1+n:]
			want = want[:0]
			_, oracleErr := o.Write(block)
			if err := o.Close(); oracleErr == nil {
				oracleErr = err
			}
			err := d.Decode(&b, block, noLimit)
			if hasUpdate(block) && (err != nil) != (oracleErr != nil) {
				// The oracle takes one change of the size only, and lets it come late if the table is empty; the standard has
				// up to two at the beginning.
				return
			}
			if (err != nil) != (oracleErr != nil) {
				t.Fatalf("%x: %v, oracle %v", block, err, oracleErr)
			}
			if err != nil {
				return
			}
			if len(b.Fields) != len(want) {
				t.Fatalf("%x: %q, oracle %v", block, b.texts(), want)
			}
			for i, f := range b.Fields {
				w := want[i]
				if b.text(f) != w.Name+": "+w.Value || f.Sensitive != w.Sensitive || f.ID != message.LookupIDString(w.Name) {
					t.Fatalf("%x: %q, oracle %v", block, b.text(f), w)
				}
				if f.Verdict != factsOf([]byte(w.Name), []byte(w.Value)).verdict {
					t.Fatalf("%v: verdict %d", w, f.Verdict)
				}
			}
		}
	})
}

// hasUpdate reports whether some byte could begin a change of the table's size.
func hasUpdate(block []byte) bool {
	for _, c := range block {
		if c&maskTableSize == reprTableSize {
			return true
		}
	}
	return false
}

// FuzzLimit: whatever the limit, the table is the same.
func FuzzLimit(f *testing.F) {
	for _, example := range examplesOfRFC() {
		f.Add(unhex(f, example.blocks[0].hex), uint16(60))
	}
	f.Fuzz(func(t *testing.T, block []byte, limit uint16) {
		d, whole := NewDecoder(noLimit), NewDecoder(noLimit)
		var b, c Block
		err := d.Decode(&b, block, int(limit))
		wholeErr := whole.Decode(&c, block, noLimit)
		if err != nil && wholeErr == nil {
			t.Fatal(err)
		}
		if wholeErr != nil { // which may be in a string that nobody wants
			return
		}
		if !equal(d.table.entries(), whole.table.entries()) || d.Changes() != whole.Changes() {
			t.Fatal("the tables differ")
		}
		if n := len(b.Fields); n > len(c.Fields) || !equal(b.texts(), c.texts()[:n]) || !b.TooLarge && n < len(c.Fields) {
			t.Fatalf("%q of %q", b.texts(), c.texts())
		}
	})
}

// FuzzEncode gives fields to our encoder and the block to both decoders.
func FuzzEncode(f *testing.F) {
	f.Add("x-a", "value", int64(1))
	f.Add("Content-Type", "text/html", int64(2))
	f.Fuzz(func(t *testing.T, name, value string, seed int64) {
		r := rand.New(rand.NewSource(seed))
		e, o, d := NewEncoder(), oracle.NewDecoder(TableBytes, nil), NewDecoder(noLimit)
		var b Block
		for range 8 {
			fields := append(randomFields(r), oracle.HeaderField{Name: name, Value: value, Sensitive: r.Intn(4) == 0})
			if name == ":path" {
				return
			}
			var block []byte
			for _, f := range fields {
				block = appendAny(e, block, f)
			}
			got, err := o.DecodeFull(block)
			if err != nil || len(got) != len(fields) {
				t.Fatalf("%x: %v", block, err)
			}
			if err := d.Decode(&b, block, noLimit); err != nil {
				t.Fatalf("%x: %v", block, err)
			}
			for i, f := range fields {
				lower := string(appendLower(nil, []byte(f.Name)))
				if got[i].Name != lower || got[i].Value != f.Value || b.text(b.Fields[i]) != lower+": "+f.Value {
					t.Fatalf("%v and %q, want %v", got[i], b.text(b.Fields[i]), f)
				}
			}
		}
	})
}

func FuzzHuffman(f *testing.F) {
	f.Add([]byte("www.example.com"))
	f.Add([]byte{0xff, 0xff, 0xff, 0xff})
	f.Add([]byte{0, 1, 10, 13, 22, 0x7f, 0x80, 0xff})
	f.Fuzz(func(t *testing.T, b []byte) {
		coded := appendHuffman(nil, string(b))
		if want := oracle.AppendHuffmanString(nil, string(b)); !bytes.Equal(coded, want) || len(coded) != huffmanBytes(string(b)) {
			t.Fatalf("%q is %x, oracle %x", b, coded, want)
		}
		if got, ok := appendHuffmanDecoded(nil, coded); !ok || !bytes.Equal(got, b) {
			t.Fatalf("%x is %q, want %q", coded, got, b)
		}
		want, err := oracle.HuffmanDecodeToString(b)
		if got, ok := appendHuffmanDecoded([]byte("before"), b); ok != (err == nil) || ok && string(got) != "before"+want {
			t.Fatalf("%x is %q, %t, oracle %q, %v", b, got, ok, want, err)
		}
	})
}

// FuzzValue compares the fast check with the plain one.
func FuzzValue(f *testing.F) {
	f.Add([]byte("a value \x80 with\ttabs"))
	f.Add([]byte("\x20\x1f\x20\x7f\x80\x81\x21\x7e"))
	f.Fuzz(func(t *testing.T, b []byte) {
		n := len(b)
		want := areValueBytes(b) && (n == 0 || !isSpace(b[0]) && !isSpace(b[n-1]))
		if got := isValue(b); got != want {
			t.Errorf("%q: %t", b, got)
		}
	})
}
