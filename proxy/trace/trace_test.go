package trace

import (
	"encoding/hex"
	"slices"
	"strings"
	"testing"

	"rauta.io/rauta/proxy/message"
)

const (
	traceID = "0af7651916cd43dd8448eb211c80319c"
	spanID  = "b7ad6b7169203331"
	parent  = "00-" + traceID + "-" + spanID
)

// counter returns numbers that are told apart; the upper half of each is small, so that it is below every Share but 0.
func counter() func() uint64 {
	n := uint64(0)
	return func() uint64 { n++; return n<<34 | 0xabc0 }
}

func headOf(lines ...string) *message.Head {
	h := &message.Head{}
	for _, line := range lines {
		name, value, _ := strings.Cut(line, ": ")
		h.Add(name, value, message.LookupIDString(name))
	}
	return h
}

// linesOf returns the fields, with names in lower case.
func linesOf(h *message.Head) []string {
	var lines []string
	for i := range h.Fields {
		if f := &h.Fields[i]; f.ID != message.Removed {
			lines = append(lines, strings.ToLower(string(h.Bytes(f.Name)))+": "+string(h.Bytes(f.Value)))
		}
	}
	slices.Sort(lines)
	return lines
}

func TestAValidContextIsKeptAndTranslated(t *testing.T) {
	all := []Format{W3C, B3, B3Multi}
	multi := []string{"x-b3-spanid: " + spanID, "x-b3-traceid: " + traceID}
	is := func(flags, mark string) []string {
		return append([]string{"b3: " + traceID + "-" + spanID + "-" + mark, "traceparent: " + parent + "-" + flags, "x-b3-sampled: " + mark}, multi...)
	}
	for name, c := range map[string]struct {
		formats []Format
		share   uint64
		in      []string
		want    []string
	}{
		"W3C stays as it is":    {[]Format{W3C}, 0, []string{"traceparent: " + parent + "-01", "tracestate: a=b"}, []string{"traceparent: " + parent + "-01", "tracestate: a=b"}},
		"names in any case":     {[]Format{W3C}, 0, []string{"TraceParent: " + parent + "-00"}, []string{"traceparent: " + parent + "-00"}},
		"a later version":       {[]Format{W3C}, 0, []string{"traceparent: 01" + parent[2:] + "-03-more"}, []string{"traceparent: 01" + parent[2:] + "-03-more"}},
		"W3C into all":          {all, 0, []string{"traceparent: " + parent + "-01"}, is("01", "1")},
		"W3C not sampled":       {all, ShareMax, []string{"traceparent: " + parent + "-00"}, is("00", "0")},
		"the first one wins":    {all, 0, []string{"traceparent: " + parent + "-01", "b3: " + traceID[16:] + "-" + traceID[:16] + "-0"}, is("01", "1")},
		"b3 into all":           {all, ShareMax, []string{"b3: " + traceID + "-" + spanID + "-0"}, is("00", "0")},
		"b3 undecided, all":     {all, ShareMax, []string{"b3: " + traceID + "-" + spanID}, is("01", "1")},
		"b3 undecided, none":    {all, 0, []string{"b3: " + traceID + "-" + spanID}, is("00", "0")},
		"b3 with a parent":      {[]Format{B3}, 0, []string{"b3: " + traceID + "-" + spanID + "-1-" + spanID}, []string{"b3: " + traceID + "-" + spanID + "-1-" + spanID}},
		"many fields into all":  {all, 0, append([]string{"X-B3-Sampled: 1"}, multi...), is("01", "1")},
		"many fields, a word":   {[]Format{B3Multi, W3C}, 0, append([]string{"X-B3-Sampled: true"}, multi...), append([]string{"traceparent: " + parent + "-01", "x-b3-sampled: true"}, multi...)},
		"many fields undecided": {[]Format{B3Multi}, ShareMax, multi, append([]string{"x-b3-sampled: 1"}, multi...)},
		"debug":                 {all, 0, append([]string{"X-B3-Flags: 1"}, multi...), append([]string{"b3: " + traceID + "-" + spanID + "-d", "traceparent: " + parent + "-01", "x-b3-flags: 1"}, multi...)},
		"64 bits":               {[]Format{B3, W3C}, 0, []string{"b3: " + traceID[16:] + "-" + spanID + "-d"}, []string{"b3: " + traceID[16:] + "-" + spanID + "-d", "traceparent: 00-" + strings.Repeat("0", 16) + traceID[16:] + "-" + spanID + "-01"}},
		"unasked formats pass":  {[]Format{W3C}, 0, []string{"traceparent: " + parent + "-01", "b3: 0"}, []string{"b3: 0", "traceparent: " + parent + "-01"}},
	} {
		h := headOf(c.in...)
		(&Propagation{Formats: c.formats, Share: c.share}).Join(h, true, c.share, true, counter())
		slices.Sort(c.want)
		if got := linesOf(h); !slices.Equal(got, c.want) {
			t.Errorf("%s:\ngot  %q\nwant %q", name, got, c.want)
		}
	}
}

func TestWhatIsWrongIsReplacedByANewTrace(t *testing.T) {
	good := parent + "-01"
	for _, in := range [][]string{
		nil, {"traceparent: "}, {"traceparent: 00"}, {"traceparent: " + parent}, {"traceparent: " + good + "-x"}, {"traceparent: " + good + "0"},
		{"traceparent: ff" + good[2:]}, {"traceparent: 01" + good[2:] + "x"}, {"traceparent: " + strings.ToUpper(good)},
		{"traceparent: 00-" + strings.Repeat("0", 32) + "-" + spanID + "-01"}, {"traceparent: 00-" + traceID + "-0000000000000000-01"},
		{"traceparent: " + parent + "-0g"}, {"traceparent: " + good, "traceparent: " + good}, {"tracestate: a=b"},
		{"b3: "}, {"b3: 2"}, {"b3: " + traceID}, {"b3: " + traceID + "-"}, {"b3: " + traceID + "-" + spanID + "-"},
		{"b3: " + traceID + "-" + spanID + "-x"}, {"b3: " + traceID + "-" + spanID + "-1-"}, {"b3: " + traceID + "-" + spanID + "-1-" + spanID + "-"},
		{"b3: " + traceID[1:] + "-" + spanID + "-1"}, {"b3: " + strings.Repeat("0", 16) + "-" + spanID + "-1"},
		{"x-b3-traceid: " + traceID}, {"x-b3-spanid: " + spanID}, {"x-b3-traceid: " + traceID, "x-b3-spanid: x"},
	} {
		h := headOf(in...)
		c := (&Propagation{Formats: []Format{W3C, B3, B3Multi}}).Join(h, true, 0, true, counter())
		id, span := hex.EncodeToString(c.TraceID[:]), hex.EncodeToString(c.SpanID[:])
		want := []string{"b3: " + id + "-" + span + "-0", "traceparent: 00-" + id + "-" + span + "-00",
			"x-b3-sampled: 0", "x-b3-spanid: " + span, "x-b3-traceid: " + id}
		if got := linesOf(h); !slices.Equal(got, want) || id == traceID || c.TraceID == [16]byte{} || c.SpanID == [8]byte{} {
			t.Errorf("%q:\ngot  %q\nwant %q", in, got, want)
		}
	}
}

func TestADecisionHoldsForTheNewTrace(t *testing.T) {
	for in, want := range map[string]bool{"b3: 0": false, "b3: 1": true, "b3: d": true, "x-b3-sampled: 0": false, "x-b3-flags: 1": true} {
		for _, share := range []uint64{0, ShareMax} {
			p := &Propagation{Formats: []Format{W3C, B3, B3Multi}, Share: share}
			if got := p.Join(headOf(in), true, p.Share, true, counter()); got.Sampled != want {
				t.Errorf("%s, share %d: sampled is %t", in, share, got.Sampled)
			}
		}
	}
}

func TestWhoIsNotBelievedBeginsATrace(t *testing.T) {
	h := headOf("traceparent: "+parent+"-01", "tracestate: a=b")
	c := (&Propagation{Formats: []Format{W3C}}).Join(h, false, 0, true, counter())
	if got := strings.Join(linesOf(h), "\n"); c.Sampled || strings.Contains(got, traceID) || strings.Contains(got, "tracestate") ||
		!strings.HasPrefix(got, "traceparent: 00-") {
		t.Errorf("%t %s", c.Sampled, got)
	}
}

func TestTheShareIsThatOfNewTraces(t *testing.T) {
	const all = 100_000
	state := uint64(1)
	random := func() uint64 { // splitmix64
		state += 0x9e3779b97f4a7c15
		z := (state ^ state>>30) * 0xbf58476d1ce4e5b9
		z = (z ^ z>>27) * 0x94d049bb133111eb
		return z ^ z>>31
	}
	for _, percent := range []uint64{0, 50, 100} {
		p := &Propagation{Share: percent * ShareMax / 100}
		n := 0
		for range all {
			if p.Join(&message.Head{}, true, p.Share, true, random).Sampled {
				n++
			}
		}
		if want := int(percent) * all / 100; n < want-all/50 || n > want+all/50 || percent != 50 && n != want {
			t.Errorf("%d%%: %d of %d", percent, n, all)
		}
	}
}

func TestASampledRequestGetsASpanOfItsOwn(t *testing.T) {
	p := &Propagation{Formats: []Format{W3C, B3, B3Multi}, Spans: true}
	for _, in := range [][]string{
		{"traceparent: " + parent + "-01", "tracestate: a=b"}, {"b3: " + traceID + "-" + spanID + "-d"},
		{"x-b3-traceid: " + traceID, "x-b3-spanid: " + spanID, "x-b3-sampled: 1", "x-b3-parentspanid: " + spanID},
	} {
		h := headOf(in...)
		c := p.Join(h, true, p.Share, true, counter())
		if !c.Own || hex.EncodeToString(c.TraceID[:]) != traceID || hex.EncodeToString(c.ParentID[:]) != spanID || c.SpanID == c.ParentID {
			t.Fatalf("%q: %+v", in, c)
		}
		got := strings.Join(linesOf(h), "\n")
		own := hex.EncodeToString(c.SpanID[:])
		if strings.Contains(got, spanID) || strings.Count(got, own) != 3 || strings.Count(got, traceID) != 3 {
			t.Errorf("%q became\n%s", in, got)
		}
		if strings.Contains(in[0], "traceparent") != strings.Contains(got, "tracestate: a=b") {
			t.Errorf("%q: tracestate in\n%s", in, got)
		}
	}
	h := headOf("traceparent: " + parent + "-00")
	if c := p.Join(h, true, p.Share, true, counter()); c.Own || !slices.Contains(linesOf(h), "traceparent: "+parent+"-00") {
		t.Errorf("not sampled: %+v %q", c, linesOf(h))
	}
	p.Share = ShareMax
	if c := p.Join(headOf(), true, p.Share, true, counter()); !c.Own || c.ParentID != [8]byte{} || c.SpanID == [8]byte{} {
		t.Errorf("a root: %+v", c)
	}
}

func TestBackEndsSeeTheAttemptAsTheirParent(t *testing.T) {
	p := &Propagation{Formats: []Format{W3C, B3, B3Multi}, Spans: true}
	random := counter()
	for _, in := range [][]string{
		{"traceparent: " + parent + "-01", "tracestate: a=b"}, {"b3: " + traceID + "-" + spanID + "-d"},
		{"x-b3-traceid: " + traceID, "x-b3-spanid: " + spanID, "x-b3-sampled: 1"},
	} {
		h := headOf(in...)
		c := p.Join(h, true, 0, true, random)
		before := strings.Join(linesOf(h), "\n")
		old := hex.EncodeToString(c.SpanID[:])
		for range 3 {
			id := p.Attempt(h, &c, random)
			got := strings.Join(linesOf(h), "\n")
			if want := strings.ReplaceAll(before, old, hex.EncodeToString(id[:])); got != want || strings.Contains(got, old) || id == c.ParentID {
				t.Errorf("%q: got\n%s\nwant\n%s", in, got, want)
			}
		}
	}
}

func TestAnAttemptLeavesWhatAFilterHasSet(t *testing.T) {
	p := &Propagation{Formats: []Format{W3C, B3, B3Multi}, Spans: true}
	h := headOf("traceparent: " + parent + "-01")
	c := p.Join(h, true, 0, true, counter())
	h.Set("traceparent", parent+"-00", message.Traceparent)
	h.Set("b3", strings.Repeat("x", 500), message.Unknown)
	h.RemoveName(nameB3SpanID, message.Unknown)
	want := linesOf(h)
	if p.Attempt(h, &c, counter()); !slices.Equal(linesOf(h), want) {
		t.Errorf("got %q, want %q", linesOf(h), want)
	}
}

func TestFormatsAreReadByName(t *testing.T) {
	got, err := ParseFormats([]string{"b3multi", " w3c", "b3"})
	if err != nil || !slices.Equal(got, []Format{B3Multi, W3C, B3}) {
		t.Errorf("%v, %v", got, err)
	}
	for _, bad := range [][]string{{"jaeger"}, {""}, {"b3", "b3"}} {
		if _, err := ParseFormats(bad); err == nil {
			t.Errorf("%q is accepted", bad)
		}
	}
}

// TestTheNamesOfB3AreUnknownOnes: look-ups are by name, which message does for fields without an id only.
func TestTheNamesOfB3AreUnknownOnes(t *testing.T) {
	for _, name := range []string{nameB3, nameB3TraceID, nameB3SpanID, nameB3Sampled, nameB3Flags, nameB3Parent} {
		if id := message.LookupIDString(name); id != message.Unknown {
			t.Errorf("%s has the id %d", name, id)
		}
	}
}

func FuzzJoin(f *testing.F) {
	f.Add(parent+"-01", traceID+"-"+spanID+"-1-"+spanID, traceID, spanID, "1")
	f.Add("", "d", "", "", "true")
	f.Fuzz(func(t *testing.T, traceParent, b3, id, span, mark string) {
		h := headOf()
		for _, field := range [][2]string{{"traceparent", traceParent}, {nameB3, b3}, {nameB3TraceID, id}, {nameB3SpanID, span}, {nameB3Sampled, mark}} {
			h.Add(field[0], field[1], message.LookupIDString(field[0]))
		}
		p := &Propagation{Formats: []Format{B3Multi, W3C, B3}}
		first := p.Join(h, true, p.Share, true, counter())
		if second := p.Join(h, true, p.Share, true, counter()); second != first { // what is sent on is valid and says the same
			t.Errorf("%v became %v", first, second)
		}
		for _, f := range p.Formats {
			if c, says, ok := read(h, f); !ok || c.TraceID != first.TraceID || c.SpanID != first.SpanID || says >= sampled != first.Sampled {
				t.Errorf("format %d says %v %d %t, want %v", f, c, says, ok, first)
			}
		}
	})
}
