package message

import (
	"strings"
	"testing"
)

func TestFieldNamesHashWithoutCollision(t *testing.T) {
	for id := Unknown + 1; id < fieldCount; id++ {
		for _, name := range []string{fieldNames[id], usualNames[id], strings.ToUpper(fieldNames[id])} {
			if got := LookupID([]byte(name)); got != id {
				t.Errorf("LookupID(%q) = %d, want %d", name, got, id)
			}
			if got := LookupIDString(name); got != id {
				t.Errorf("LookupIDString(%q) = %d, want %d", name, got, id)
			}
		}
	}
}

func TestUnknownNamesHaveNoID(t *testing.T) {
	for _, name := range []string{"", "x", "hos", "hostt", "Content_Length", "X-Forwarded-Fox", "te ", "accept-encodinG-"} {
		if got := LookupID([]byte(name)); got != Unknown {
			t.Errorf("LookupID(%q) = %s", name, got.Name())
		}
	}
}

func TestANameThatDiffersFromAKnownOneInOneByteHasNoID(t *testing.T) {
	for id := Unknown + 1; id < fieldCount; id++ {
		name := []byte(usualNames[id])
		for i, was := range name {
			for c := 0; c < 256; c++ {
				name[i] = byte(c)
				if got := LookupID(name); got != LookupIDString(string(name)) {
					t.Errorf("LookupID(%q) = %v, LookupIDString %v", name, got, LookupIDString(string(name)))
				}
				if sameLetter := c|0x20 == int(was|0x20) && 'a' <= was|0x20 && was|0x20 <= 'z' || c == int(was); LookupID(name) == id != sameLetter {
					t.Errorf("LookupID(%q) is %s: %t", name, id.Name(), !sameLetter)
				}
			}
			name[i] = was
		}
	}
}

func TestMethodsAreCaseSensitive(t *testing.T) {
	for id := MethodGet; id < methodCount; id++ {
		if got := LookupMethod([]byte(id.String())); got != id {
			t.Errorf("LookupMethod(%q) = %v", id.String(), got)
		}
		if got := LookupMethod([]byte(strings.ToLower(id.String()))); got != MethodOther {
			t.Errorf("LookupMethod(%q) = %v, want OTHER", strings.ToLower(id.String()), got)
		}
	}
}

// received makes a head whose fields were received.
func received(fields ...string) *Head {
	h := &Head{}
	for i := 0; i < len(fields); i += 2 {
		var spans [2]Span
		for j := range spans {
			spans[j] = Span{Off: uint32(len(h.Received)), Len: uint32(len(fields[i+j]))}
			h.Received = append(h.Received, fields[i+j]...)
		}
		h.Append(spans[0], spans[1], LookupIDString(fields[i]))
	}
	return h
}

func (h *Head) text() string {
	var b strings.Builder
	for _, f := range h.Fields {
		if f.ID != Removed {
			b.WriteString(string(h.Bytes(f.Name)) + "=" + string(h.Bytes(f.Value)) + ";")
		}
	}
	return b.String()
}

func TestEditsSeeReceivedAndAddedFieldsAlike(t *testing.T) {
	h := received("Host", "a", "X-One", "1", "X-Two", "2", "x-one", "3")
	h.Add("X-One", "4", Unknown)
	if got := h.text(); got != "Host=a;X-One=1;X-Two=2;x-one=3;X-One=4;" {
		t.Fatal(got)
	}
	h.RemoveName("x-one", Unknown)
	h.Set("X-Two", "5", Unknown)
	if !h.Remove(Host) || h.Remove(Host) == false && h.Has(Host) {
		t.Error("Host is still there")
	}
	if got := h.text(); got != "X-Two=5;" {
		t.Error(got)
	}
	h.AddBytes("Date", []byte("today"), Date)
	if v, ok := h.Get(Date); !ok || string(v) != "today" {
		t.Errorf("%q %v", v, ok)
	}
}

func TestACopyIsIndependent(t *testing.T) {
	h := received("Host", "a", "X-One", "1")
	h.Add("X-Two", "2", Unknown)
	var c Head
	c.Copy(h)
	h.Received[0] = '!'
	h.Add("X-Three", "3", Unknown)
	if got := c.text(); got != "Host=a;X-One=1;X-Two=2;" {
		t.Error(got)
	}
}

func TestResetEmptiesEverything(t *testing.T) {
	r := Request{Method: Span{1, 2}, MethodID: MethodGet, Version: HTTP11, Framing: Sized, Length: 3, Scheme: SchemeHTTPS,
		Authority: Span{1, 1}, Path: Span{1, 1}, Query: Span{1, 1}, HasQuery: true, ReceivedTarget: Span{1, 1}, Upgrade: Span{1, 1},
		ExpectContinue: true, Close: true, TETrailers: true}
	r.Add("Host", "a", Host)
	r.Reset()
	r.Fields, r.added = nil, nil
	if want := (Request{}); !equalRequests(&r, &want) {
		t.Errorf("%+v", r)
	}
	resp := Response{Status: 200, Version: HTTP11, Framing: Sized, Length: 1, Upgrade: Span{1, 1}, Close: true}
	resp.Reset()
	if resp.Status != 0 || resp.Version != 0 || resp.Framing != 0 || resp.Length != 0 || resp.Upgrade != (Span{}) || resp.Close {
		t.Errorf("%+v", resp)
	}
}

func equalRequests(a, b *Request) bool {
	x, y := *a, *b
	x.Head, y.Head = Head{}, Head{}
	return a.seen == b.seen && len(a.Fields) == 0 && x.Method == y.Method && x.MethodID == y.MethodID && x.Version == y.Version &&
		x.Framing == y.Framing && x.Length == y.Length && x.Scheme == y.Scheme && x.Authority == y.Authority && x.Path == y.Path &&
		x.Query == y.Query && x.HasQuery == y.HasQuery && x.ReceivedTarget == y.ReceivedTarget && x.Upgrade == y.Upgrade &&
		x.ExpectContinue == y.ExpectContinue && x.Close == y.Close && x.TETrailers == y.TETrailers
}

func TestEditsOfAPreparedHeadDoNotAllocate(t *testing.T) {
	h := received("Host", "a")
	n := testing.AllocsPerRun(100, func() {
		h.Fields = h.Fields[:1]
		h.added = h.added[:0]
		h.Add("X-Forwarded-For", "10.0.0.1", XForwardedFor)
		h.Set("X-Real-IP", "10.0.0.1", XRealIP)
	})
	if n != 0 {
		t.Errorf("%v allocations", n)
	}
}
