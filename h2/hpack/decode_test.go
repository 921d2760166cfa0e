package hpack

import (
	"bytes"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"
	"testing"

	oracle "golang.org/x/net/http2/hpack"

	"rauta.io/rauta/proxy/message"
)

const noLimit = 1 << 30

// text is a field as a test shows it.
func (b *Block) text(f Field) string {
	bytesOf := func(s message.Span) string { return string(b.Arena[s.Off : s.Off+s.Len]) }
	return bytesOf(f.Name) + ": " + bytesOf(f.Value)
}

func (b *Block) texts() (list []string) {
	for _, f := range b.Fields {
		list = append(list, b.text(f))
	}
	return list
}

// entries are the fields of the table, newest first.
func (t *table) entries() (list []string) {
	for i := uint32(1); i <= t.count; i++ {
		e := t.at(i)
		pair := t.pair(e)
		list = append(list, string(pair[:e.nameLen])+": "+string(pair[e.nameLen:]))
	}
	return list
}

func decoderOf(size int) *Decoder {
	return &Decoder{table: table{max: size}, allowed: size, textMax: noLimit}
}

func unhex(t testing.TB, s string) []byte {
	t.Helper()
	b, err := hex.DecodeString(strings.ReplaceAll(s, " ", ""))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func equal(a, b []string) bool { return strings.Join(a, "\n") == strings.Join(b, "\n") }

// exchangeOfRFC is a connection of RFC 7541 appendix C.
type exchangeOfRFC struct {
	name   string
	size   int
	blocks []blockOfRFC
}

type blockOfRFC struct {
	hex    string
	fields []string
	table  []string
}

const (
	cookieOfRFC = "set-cookie: foo=ASDJKHQKBZXOQWEOPIUAXQWEOIU; max-age=3600; version=1"
	date21      = "date: Mon, 21 Oct 2013 20:13:21 GMT"
	date22      = "date: Mon, 21 Oct 2013 20:13:22 GMT"
	locationRFC = "location: https://www.example.com"
)

func examplesOfRFC() []exchangeOfRFC {
	get := func(path, scheme, authority string, more ...string) []string {
		return append([]string{":method: GET", ":scheme: " + scheme, ":path: " + path, ":authority: " + authority}, more...)
	}
	requests := func(hexes ...string) []blockOfRFC {
		const authority = ":authority: www.example.com"
		return []blockOfRFC{
			{hexes[0], get("/", "http", "www.example.com"), []string{authority}},
			{hexes[1], get("/", "http", "www.example.com", "cache-control: no-cache"),
				[]string{"cache-control: no-cache", authority}},
			{hexes[2], get("/index.html", "https", "www.example.com", "custom-key: custom-value"),
				[]string{"custom-key: custom-value", "cache-control: no-cache", authority}},
		}
	}
	responses := func(hexes ...string) []blockOfRFC {
		return []blockOfRFC{
			{hexes[0], []string{":status: 302", "cache-control: private", date21, locationRFC},
				[]string{locationRFC, date21, "cache-control: private", ":status: 302"}},
			{hexes[1], []string{":status: 307", "cache-control: private", date21, locationRFC},
				[]string{":status: 307", locationRFC, date21, "cache-control: private"}},
			{hexes[2], []string{":status: 200", "cache-control: private", date22, locationRFC, "content-encoding: gzip", cookieOfRFC},
				[]string{cookieOfRFC, "content-encoding: gzip", date22}},
		}
	}
	return []exchangeOfRFC{
		{"C.2.1", 4096, []blockOfRFC{{"400a 6375 7374 6f6d 2d6b 6579 0d63 7573 746f 6d2d 6865 6164 6572",
			[]string{"custom-key: custom-header"}, []string{"custom-key: custom-header"}}}},
		{"C.2.2", 4096, []blockOfRFC{{"040c 2f73 616d 706c 652f 7061 7468", []string{":path: /sample/path"}, nil}}},
		{"C.2.3", 4096, []blockOfRFC{{"1008 7061 7373 776f 7264 0673 6563 7265 74", []string{"password: secret"}, nil}}},
		{"C.2.4", 4096, []blockOfRFC{{"82", []string{":method: GET"}, nil}}},
		{"C.3", 4096, requests(
			"8286 8441 0f77 7777 2e65 7861 6d70 6c65 2e63 6f6d",
			"8286 84be 5808 6e6f 2d63 6163 6865",
			"8287 85bf 400a 6375 7374 6f6d 2d6b 6579 0c63 7573 746f 6d2d 7661 6c75 65")},
		{"C.4", 4096, requests(
			"8286 8441 8cf1 e3c2 e5f2 3a6b a0ab 90f4 ff",
			"8286 84be 5886 a8eb 1064 9cbf",
			"8287 85bf 4088 25a8 49e9 5ba9 7d7f 8925 a849 e95b b8e8 b4bf")},
		{"C.5", 256, responses(
			"4803 3330 3258 0770 7269 7661 7465 611d 4d6f 6e2c 2032 3120 4f63 7420 3230 3133 2032 303a 3133 3a32 3120 474d "+
				"546e 1768 7474 7073 3a2f 2f77 7777 2e65 7861 6d70 6c65 2e63 6f6d",
			"4803 3330 37c1 c0bf",
			"88c1 611d 4d6f 6e2c 2032 3120 4f63 7420 3230 3133 2032 303a 3133 3a32 3220 474d 54c0 5a04 677a 6970 7738 666f "+
				"6f3d 4153 444a 4b48 514b 425a 584f 5157 454f 5049 5541 5851 5745 4f49 553b 206d 6178 2d61 6765 3d33 3630 303b "+
				"2076 6572 7369 6f6e 3d31")},
		{"C.6", 256, responses(
			"4882 6402 5885 aec3 771a 4b61 96d0 7abe 9410 54d4 44a8 2005 9504 0b81 66e0 82a6 2d1b ff6e 919d 29ad 1718 63c7 "+
				"8f0b 97c8 e9ae 82ae 43d3",
			"4883 640e ffc1 c0bf",
			"88c1 6196 d07a be94 1054 d444 a820 0595 040b 8166 e084 a62d 1bff c05a 839b d9ab 77ad 94e7 821d d7f2 e6c7 b335 "+
				"dfdf cd5b 3960 d5af 2708 7f36 72c1 ab27 0fb5 291f 9587 3160 65c0 03ed 4ee5 b106 3d50 07")},
	}
}

func TestBlocksOfTheStandardDecodeAsItSays(t *testing.T) {
	for _, example := range examplesOfRFC() {
		d := decoderOf(example.size)
		var b Block
		for i, block := range example.blocks {
			if err := d.Decode(&b, unhex(t, block.hex), noLimit); err != nil {
				t.Fatalf("%s, block %d: %v", example.name, i+1, err)
			}
			if got := b.texts(); !equal(got, block.fields) {
				t.Errorf("%s, block %d: %q, want %q", example.name, i+1, got, block.fields)
			}
			if got := d.table.entries(); !equal(got, block.table) {
				t.Errorf("%s, table after block %d: %q, want %q", example.name, i+1, got, block.table)
			}
		}
	}
}

func TestANeverIndexedFieldIsSensitive(t *testing.T) {
	var b Block
	if err := NewDecoder(noLimit).Decode(&b, unhex(t, "1008 7061 7373 776f 7264 0673 6563 7265 74 82"), noLimit); err != nil {
		t.Fatal(err)
	}
	if !b.Fields[0].Sensitive || b.Fields[1].Sensitive {
		t.Errorf("%+v", b.Fields)
	}
}

func TestIntegersHaveTheFormOfTheStandard(t *testing.T) {
	for _, c := range []struct {
		hex    string
		prefix uint
		n      uint64
	}{{"0a", 5, 10}, {"1f9a0a", 5, 1337}, {"2a", 8, 42}, {"1f00", 5, 31}, {"ff7f", 8, 382}} { // C.1 and the edges
		if n, rest, err := readInt(unhex(t, c.hex), c.prefix); n != c.n || len(rest) > 0 || err != nil {
			t.Errorf("%s: %d, %v, want %d", c.hex, n, err, c.n)
		}
		if got := appendInt(nil, 0, c.prefix, c.n); !bytes.Equal(got, unhex(t, c.hex)) {
			t.Errorf("%d: %x, want %s", c.n, got, c.hex)
		}
	}
}

func TestWhatEndsAConnection(t *testing.T) {
	for _, c := range []struct {
		name, hex string
		want      error
	}{
		{"no octet after the prefix", "ff", errTruncated},
		{"an integer without its end", "ff80", errTruncated},
		{"an integer that is too large", "ff" + strings.Repeat("ff", 9), errInteger},
		{"an integer with endless zeros", "ff" + strings.Repeat("80", 9) + "00", errInteger},
		{"a length that is too large", "007f ffff ffff ffff ffff ff7f", errInteger},
		{"index 0", "80", errIndex},
		{"an index behind the static table", "be", errIndex},
		{"a name behind the static table", "7e 0161", errIndex},
		{"a literal without its value", "82 0003 616263", errTruncated},
		{"a literal without its name", "40", errTruncated},
		{"a value that is cut", "0001 61 05 616263", errTruncated},
		{"padding of a byte", "0001 61 82 1fff", errHuffman},
		{"padding that is not of ones", "0001 61 81 18", errHuffman},
		{"the code for the end", "0001 61 84 ffffffff", errHuffman},
		{"a table that is larger than allowed", "3fe21f", errTableSize},
		{"a change of the table behind a field", "82 20", errLateUpdate},
	} {
		var b Block
		if err := NewDecoder(noLimit).Decode(&b, unhex(t, c.hex), noLimit); !errors.Is(err, c.want) {
			t.Errorf("%s: %v, want %v", c.name, err, c.want)
		}
	}
}

func TestStringsThatAreLongerThanAHeadAreNotWaitedFor(t *testing.T) {
	d := NewDecoder(3)
	var b Block
	if err := d.Decode(&b, unhex(t, "0001 61 03 616263"), noLimit); err != nil {
		t.Error(err)
	}
	if err := d.Decode(&b, unhex(t, "0001 61 04 6162"), noLimit); !errors.Is(err, ErrTextTooLong) {
		t.Error(err)
	}
}

func TestTheTableFollowsChangesOfItsSize(t *testing.T) {
	d := NewDecoder(noLimit)
	var b Block
	decode := func(s string) {
		t.Helper()
		if err := d.Decode(&b, unhex(t, s), noLimit); err != nil {
			t.Fatal(err)
		}
	}
	decode("4001 6101 62 4001 6301 64")
	if len(d.table.entries()) != 2 {
		t.Fatal(d.table.entries())
	}
	before := d.Changes()
	decode("3f03 be") // 34 bytes: one entry is left
	if !equal(d.table.entries(), []string{"c: d"}) || !equal(b.texts(), []string{"c: d"}) || d.Changes() == before {
		t.Error(d.table.entries(), b.texts())
	}
	decode("20 3fe11f") // 0, then 4096
	if len(d.table.entries()) != 0 || d.table.max != TableBytes {
		t.Error(d.table.entries(), d.table.max)
	}
	before = d.Changes()
	decode("82 86")
	if d.Changes() != before {
		t.Error("a block of static fields changed the table")
	}
}

func TestAFieldThatIsLargerThanTheTableEmptiesIt(t *testing.T) {
	d := decoderOf(64)
	var b Block
	block := append(unhex(t, "4001 6101 62 4001 63 28"), bytes.Repeat([]byte("x"), 40)...)
	if err := d.Decode(&b, block, noLimit); err != nil {
		t.Fatal(err)
	}
	if len(d.table.entries()) != 0 || len(b.Fields) != 2 || d.table.used != 0 {
		t.Error(d.table.entries(), b.texts())
	}
}

func TestABlockAboveTheLimitKeepsTheTableRight(t *testing.T) {
	var block bytes.Buffer
	enc := oracle.NewEncoder(&block)
	for i := range 100 {
		enc.WriteField(oracle.HeaderField{Name: fmt.Sprintf("name-%d", i), Value: strings.Repeat("v", 20), Sensitive: i%3 == 0})
	}
	d, whole := NewDecoder(noLimit), NewDecoder(noLimit)
	var b, c Block
	if err := d.Decode(&b, block.Bytes(), 200); err != nil {
		t.Fatal(err)
	}
	if err := whole.Decode(&c, block.Bytes(), noLimit); err != nil {
		t.Fatal(err)
	}
	if !b.TooLarge || len(b.Fields) != 3 || len(b.Arena) > 200 || len(c.Fields) != 100 {
		t.Errorf("%d fields of %d, too large %t", len(b.Fields), len(c.Fields), b.TooLarge)
	}
	if !equal(d.table.entries(), whole.table.entries()) || len(d.table.entries()) == 0 {
		t.Error("the tables differ")
	}
	if err := d.Decode(&b, []byte{0xbe}, 0); err != nil || len(b.Fields) != 0 || !b.TooLarge {
		t.Errorf("with limit 0: %v, %d fields", err, len(b.Fields))
	}
}

func TestFieldsAreJudgedWithTheTableToo(t *testing.T) {
	for _, c := range []struct {
		name, value string
		want        Verdict
	}{
		{"accept", "a\tb", Good}, {"x", "", Good}, {"x", "\x80\xff", Good}, {"x", strings.Repeat("a", 30), Good},
		{"x_y", "v", LookAlike}, {"x_y", "\x01", BadValue}, {":path", "/", Good}, {":other", "/", Good},
		{"", "v", EmptyName}, {":", "v", EmptyName}, {"X", "v", BadName}, {"a b", "v", BadName}, {"a:b", "v", BadName},
		{"::a", "v", BadName}, {"a\x00", "v", BadName}, {"\xe4", "v", BadName}, {"a", " v", BadValue}, {"a", "v\t", BadValue},
		{"a", "v\r\nx: y", BadValue}, {"a", "\x00", BadValue}, {"a", "1234567\x7f", BadValue}, {"a", "12345678\x1f", BadValue},
		{"a", "1234567\n90123456", BadValue}, {"a", "\x80\x80\x80\x7f\x80\x80\x80\x80", BadValue}, {"A", "\n", BadName},
	} {
		literal := func(first byte) []byte {
			b := append([]byte{first, byte(len(c.name))}, c.name...)
			return append(append(b, byte(len(c.value))), c.value...)
		}
		d := NewDecoder(noLimit)
		var b Block
		// As a literal, as one that gets into the table, from there, and with the name from there and a good value.
		block := append(literal(reprWithoutIndex), literal(reprWithIndex)...)
		block = append(block, reprIndexed|62, reprWithIndex|62, 1, 'g')
		if err := d.Decode(&b, block, noLimit); err != nil {
			t.Fatal(err)
		}
		for i, f := range b.Fields[:3] {
			if f.Verdict != c.want {
				t.Errorf("%q: %q, way %d: %d, want %d", c.name, c.value, i, f.Verdict, c.want)
			}
		}
		if f := b.Fields[3]; (f.Verdict <= LookAlike) != (factsOfName([]byte(c.name)).verdict <= LookAlike) {
			t.Errorf("%q: g after %q: %d", c.name, c.value, f.Verdict)
		}
	}
}

func TestNamesHaveTheirIDs(t *testing.T) {
	for i := 1; i <= staticCount; i++ {
		var b Block
		if err := NewDecoder(noLimit).Decode(&b, []byte{reprIndexed | byte(i)}, noLimit); err != nil {
			t.Fatal(err)
		}
		text := staticText[i-1]
		f := b.Fields[0]
		if got := b.text(f); got != text[0]+": "+text[1] || f.ID != message.LookupIDString(text[0]) || f.Verdict != Good {
			t.Errorf("%d: %q, id %v", i, got, f.ID)
		}
		if (f.Pseudo != Regular) != (text[0][0] == ':') {
			t.Errorf("%q: %d", text[0], f.Pseudo)
		}
		if index := staticIndex(f.ID, text[0]); f.Pseudo == Regular && staticText[index-1][0] != text[0] {
			t.Errorf("%q has index %d", text[0], index)
		}
	}
	for name, want := range map[string]Pseudo{":authority": Authority, ":method": Method, ":path": Path, ":scheme": Scheme,
		":status": Status, ":protocol": Protocol, ":x": PseudoOther, ":": PseudoOther, "path": Regular, "": Regular} {
		if got := pseudoOf([]byte(name)); got != want {
			t.Errorf("%q: %d, want %d", name, got, want)
		}
	}
}
