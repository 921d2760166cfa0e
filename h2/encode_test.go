package h2

import (
	"math/rand"
	"strings"
	"testing"

	oracle "golang.org/x/net/http2/hpack"

	"rauta.io/rauta/h2/hpack"
	"rauta.io/rauta/proxy/message"
)

// decodeBlock is the oracle.
func decodeBlock(t *testing.T, block []byte) []oracle.HeaderField {
	t.Helper()
	fields, err := oracle.NewDecoder(hpack.TableBytes, nil).DecodeFull(block)
	if err != nil {
		t.Fatalf("%x: %v", block, err)
	}
	return fields
}

func TestBlocksAreWhatADecoderReads(t *testing.T) {
	random := rand.New(rand.NewSource(1))
	for range 2000 {
		r := message.Response{Status: 100 + random.Intn(900), Length: -1}
		r.Framing = []message.Framing{message.NoBody, message.Sized, message.Streamed, message.UntilClose}[random.Intn(4)]
		if r.Framing == message.Sized {
			r.Length = random.Int63()
		}
		want := 0
		for range random.Intn(10) {
			id := message.FieldID(random.Intn(int(message.Tracestate) + 1))
			name := id.Name()
			if id == message.Unknown {
				name = "X-" + strings.Repeat("Ab", random.Intn(200))
			}
			value := strings.Repeat("v", random.Intn(1<<random.Intn(12)))
			r.Add(name, value, id)
			if !notWritten[id] {
				want++
			}
		}
		block := appendResponse(hpack.NewEncoder(), nil, &r, false)
		if len(block) > blockBytes(&r.Head) {
			t.Fatalf("%d bytes, expected %d at most", len(block), blockBytes(&r.Head))
		}
		fields := decodeBlock(t, block)
		if fields[0].Name != ":status" || len(fields[0].Value) != 3 {
			t.Fatalf("%v", fields[0])
		}
		i := 1
		for _, f := range r.Fields {
			if notWritten[f.ID] {
				continue
			}
			if got := fields[i]; got.Name != strings.ToLower(string(r.Bytes(f.Name))) || got.Value != string(r.Bytes(f.Value)) {
				t.Fatalf("%v, want %s: %s", got, r.Bytes(f.Name), r.Bytes(f.Value))
			}
			i++
		}
		for _, f := range fields[i:] {
			if f.Name != "content-length" {
				t.Errorf("unexpected %v", f)
			}
		}
	}
}

// TestTheSizeOfARequestIsWhatAnotherCodecMakesOfIt, as SETTINGS_MAX_HEADER_LIST_SIZE counts it.
func TestTheSizeOfARequestIsWhatAnotherCodecMakesOfIt(t *testing.T) {
	random := rand.New(rand.NewSource(1))
	for range 2000 {
		var r message.Request
		r.Method, r.Authority, r.Path = r.StoreString("PATCH"), r.StoreString("a.example"), r.StoreString("/some/path")
		scheme := message.Scheme(random.Intn(2))
		if r.HasQuery = random.Intn(2) == 0; r.HasQuery {
			r.Query = r.StoreString(strings.Repeat("q", random.Intn(100)))
		}
		if random.Intn(4) == 0 {
			r.Upgrade = r.StoreString("websocket")
		}
		r.TETrailers = random.Intn(2) == 0
		if random.Intn(2) == 0 {
			r.Framing, r.Length = message.Sized, random.Int63n(1<<random.Intn(60))
		}
		for range random.Intn(20) {
			id := message.FieldID(random.Intn(int(message.Tracestate) + 1))
			name := id.Name()
			if id == message.Unknown {
				name = "X-" + strings.Repeat("Ab", random.Intn(200))
			}
			r.Add(name, strings.Repeat("v", random.Intn(1<<random.Intn(12))), id)
		}
		block, _ := appendRequest(hpack.NewEncoder(), nil, &r, scheme, nil)
		want := 0
		for _, f := range decodeBlock(t, block) {
			want += int(f.Size())
		}
		if got := listBytes(&r, scheme); got != want {
			t.Fatalf("%d bytes, want %d", got, want)
		}
		if got := listBytesBound(requestBytes(&r), len(r.Fields)); got < want {
			t.Fatalf("%d bytes at most, are %d", got, want)
		}
	}
}

func TestSecretsAreNeverIndexed(t *testing.T) {
	var r message.Response
	r.Status = 200
	r.Add("Set-Cookie", "a=b", message.SetCookie)
	r.Add("Server", "x", message.Server)
	fields := decodeBlock(t, appendResponse(hpack.NewEncoder(), nil, &r, false))
	if !fields[1].Sensitive || fields[2].Sensitive {
		t.Errorf("%v", fields)
	}
}
