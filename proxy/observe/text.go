package observe

import (
	"io"
	"math"
	"slices"
	"sort"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/VictoriaMetrics/metrics"
)

// expositionBytes is how much text is gathered before it is written, in bytes.
const expositionBytes = 64 << 10

// exposition builds the text format. Single values go through the writer helpers of VictoriaMetrics/metrics; the
// series of routes are appended by hand, because 10,000 routes are 240,000 lines, and formatting each with fmt would
// cost more than the scrape may take.
type exposition struct {
	w     io.Writer
	buf   []byte
	err   error
	table map[string]Metric
	only  selection
	// scratch is where labels and the beginnings of lines are put together, digits where a count is.
	scratch []byte
	digits  [32]byte
}

func newExposition(w io.Writer, only selection) *exposition {
	x := &exposition{w: w, only: only, buf: make([]byte, 0, expositionBytes+4096), table: map[string]Metric{}}
	for _, m := range Metrics() {
		x.table[m.Name] = m
	}
	return x
}

// Write appends; it is what the helpers of VictoriaMetrics/metrics write to.
func (x *exposition) Write(p []byte) (int, error) {
	x.buf = append(x.buf, p...)
	x.flushAt(expositionBytes)
	return len(p), nil
}

func (x *exposition) flush() { x.flushAt(1) }

func (x *exposition) flushAt(size int) {
	if len(x.buf) < size {
		return
	}
	if x.err == nil {
		_, x.err = x.w.Write(x.buf)
	}
	x.buf = x.buf[:0]
}

// family writes the header of a metric of the table, false if the page is not to have it: then it gets no lines either.
func (x *exposition) family(name string) bool { return x.familyOf(name, "untyped") }

// familyOf writes the header of a metric; kind is used when the table does not have it.
func (x *exposition) familyOf(name, kind string) bool {
	if x.only.of(name) == 0 {
		return false
	}
	m, ok := x.table[name]
	if ok {
		kind = m.Type
		x.raw("# HELP ").raw(name).raw(" ").raw(escapeHelp(m.Help)).raw("\n")
	}
	x.raw("# TYPE ").raw(name).raw(" ").raw(kind).raw("\n")
	return true
}

// escapeHelp escapes a help text, in which quotes stand for themselves.
func escapeHelp(s string) string {
	return strings.NewReplacer(`\`, `\\`, "\n", `\n`).Replace(s)
}

// scalar writes a metric of one series.
func (x *exposition) scalar(name string, value float64) {
	if x.family(name) {
		x.single(name, value)
	}
}

// integerMax is where float64 stops to hold every integer.
const integerMax = 1 << 53

// single writes one line; whole numbers without an exponent, for whoever reads them.
func (x *exposition) single(series string, value float64) {
	if value >= 0 && value < integerMax && value == math.Trunc(value) {
		metrics.WriteGaugeUint64(x, series, uint64(value))
		return
	}
	metrics.WriteGaugeFloat64(x, series, value)
}

// byLabel writes a counter with one label, in the order of its values.
func (x *exposition) byLabel(name, label string, values map[string]uint64) {
	if x.family(name) {
		x.counters(name, "", label, values)
	}
}

// counters writes the lines of byLabel; labels come before the label, with a comma at their end.
func (x *exposition) counters(name, labels, label string, values map[string]uint64) {
	keys := make([]string, 0, len(values))
	for k := range values {
		keys = append(keys, k)
	}
	sort.Strings(keys)
	for _, k := range keys {
		metrics.WriteCounterUint64(x, name+"{"+labels+x.label("", label, k)+"}", values[k])
	}
}

// histogram writes the cumulative buckets, sum and count of one label set. With skipEmpty, a histogram that counted
// nothing is left out.
func (x *exposition) histogram(name, labels string, sum *histogramSum, skipEmpty bool) {
	total := uint64(0)
	for _, n := range sum.buckets {
		total += n
	}
	if total == 0 && skipEmpty {
		return
	}
	x.buckets(name, labels, boundLabels[:], sum.buckets[:], sum.sumNs)
}

// bucketLineMax bounds what a line of a bucket has beside its beginning: the bound and the count, in bytes.
const bucketLineMax = 64

// buckets writes the lines of a histogram, which are most of a page. It makes room for all of them at once
// (BenchmarkScrapeOfTenThousandRoutes).
func (x *exposition) buckets(name, labels string, bounds []string, counts []uint64, sumNs uint64) {
	has := x.only.of(name)
	total := uint64(0)
	if has&bucketLines != 0 {
		total = x.bucketLines(name, labels, bounds, counts)
	} else {
		for _, n := range counts {
			total += n
		}
	}
	if has&sumLines != 0 {
		x.raw(name).raw("_sum").braced(labels)
		x.buf = append(strconv.AppendFloat(x.buf, float64(sumNs)/1e9, 'g', -1, 64), '\n')
	}
	if has&countLines != 0 {
		x.raw(name).raw("_count").braced(labels)
		x.buf = append(strconv.AppendUint(x.buf, total, 10), '\n')
	}
	x.flushAt(expositionBytes)
}

// bucketLines writes a line for each bound, and returns the count of all.
func (x *exposition) bucketLines(name, labels string, bounds []string, counts []uint64) uint64 {
	x.scratch = append(append(append(x.scratch[:0], name...), "_bucket{"...), labels...)
	if labels != "" {
		x.scratch = append(x.scratch, ',')
	}
	x.scratch = append(x.scratch, `le="`...)
	x.buf = slices.Grow(x.buf, len(counts)*(len(x.scratch)+bucketLineMax))
	total, digits := uint64(0), append(x.digits[:0], '0', '\n')
	for i, n := range counts {
		if n != 0 { // most lines have the count of the one before
			total += n
			digits = append(strconv.AppendUint(x.digits[:0], total, 10), '\n')
		}
		line := x.buf[len(x.buf):cap(x.buf)]
		end := copy(line, x.scratch)
		end += copy(line[end:], bounds[i])
		end += copy(line[end:], `"} `)
		end += copy(line[end:], digits)
		x.buf = x.buf[:len(x.buf)+end]
	}
	return total
}

// braced appends labels, if there are any, and the space before the value.
func (x *exposition) braced(labels string) {
	if labels != "" {
		x.raw("{").raw(labels).raw("}")
	}
	x.raw(" ")
}

// infoSeries returns a name with labels.
func (x *exposition) infoSeries(name string, labels []Label) string {
	if len(labels) == 0 {
		return name
	}
	return name + "{" + x.labels(labels) + "}"
}

// labels returns them as they stand between the braces.
func (x *exposition) labels(labels []Label) string {
	text := ""
	for _, l := range labels {
		text = x.label(text, l.Name, l.Value)
	}
	return text
}

// label returns labels with one more.
func (x *exposition) label(labels, name, value string) string {
	x.scratch = append(x.scratch[:0], labels...)
	if labels != "" {
		x.scratch = append(x.scratch, ',')
	}
	x.scratch = append(append(x.scratch, name...), `="`...)
	return string(append(appendLabelValue(x.scratch, value), '"'))
}

// begin starts a series with labels; uint ends it.
func (x *exposition) begin(name string) *exposition { return x.raw(name).raw("{") }

func (x *exposition) raw(s string) *exposition {
	x.buf = append(x.buf, s...)
	return x
}

func (x *exposition) escape(s string) *exposition {
	x.buf = appendLabelValue(x.buf, s)
	return x
}

// uint closes the labels and ends the line.
func (x *exposition) uint(n uint64) {
	x.buf = strconv.AppendUint(append(x.buf, '}', ' '), n, 10)
	x.buf = append(x.buf, '\n')
	x.flushAt(expositionBytes)
}

// appendLabelValue escapes a label value: backslash, quote and line feed, and what is not UTF-8 is replaced, because
// one wrong byte makes Prometheus refuse the whole scrape.
func appendLabelValue(dst []byte, s string) []byte {
	if !utf8.ValidString(s) {
		s = strings.ToValidUTF8(s, "\uFFFD")
	}
	if !strings.ContainsAny(s, "\\\"\n") {
		return append(dst, s...)
	}
	for i := 0; i < len(s); i++ {
		switch c := s[i]; c {
		case '\\', '"':
			dst = append(dst, '\\', c)
		case '\n':
			dst = append(dst, '\\', 'n')
		default:
			dst = append(dst, c)
		}
	}
	return dst
}
