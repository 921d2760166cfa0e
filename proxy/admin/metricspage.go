package admin

import (
	"bufio"
	"cmp"
	"io"
	"sync"

	"github.com/klauspost/compress/gzip"

	"rauta.io/rauta/proxy/observe"
)

// metricsPage is the metrics as the body of a response. fasthttp has it write itself to the connection in pieces of 64 KB: a
// body that is read is copied twice, and sent in pieces of 4 KB. What fasthttp has to compress with hands each piece to
// another goroutine and waits for it.
type metricsPage struct {
	registry *observe.Registry
	names    []string       // of the metrics that it has; none are all
	gzip     *sync.Pool     // of gzip.Writer; nil for the page as it is
	pipe     *io.PipeReader // nil unless it is read
}

// SupportsBodyWriteTo implements fasthttp.BodyWriterTo.
func (*metricsPage) SupportsBodyWriteTo() bool { return true }

// compressedBytes is how much compressed text is gathered before it is sent.
const compressedBytes = 32 << 10

// piecesMax is how many pieces of the page may wait for the client.
const piecesMax = 4

// WriteTo implements io.WriterTo. The page is made on a goroutine of its own, while what is made of it already is compressed
// and sent: each takes half of the time (TestTenThousandActiveRoutesAreReadFromARunningProcess).
func (p *metricsPage) WriteTo(w io.Writer) (int64, error) {
	sent := &counter{w: w}
	if p.gzip == nil {
		err := p.writeTo(sent)
		return sent.n, err
	}
	out := bufio.NewWriterSize(sent, compressedBytes)
	zw := p.gzip.Get().(*gzip.Writer)
	zw.Reset(out)
	err := cmp.Or(p.writeTo(zw), zw.Close(), out.Flush())
	p.gzip.Put(zw)
	return sent.n, err
}

// newGzip returns a gzip.Writer with the level that costs about as much time as the page itself: others take longer.
func newGzip() any {
	w, err := gzip.NewWriterLevel(nil, gzip.BestSpeed)
	if err != nil {
		panic(err) // the level is not one
	}
	return w
}

// writeTo writes the page, and returns when all of it is made.
func (p *metricsPage) writeTo(w io.Writer) (err error) {
	made := pieces{full: make(chan []byte, piecesMax), empty: make(chan []byte, piecesMax)}
	for range piecesMax {
		made.empty <- nil
	}
	go func() {
		p.registry.WritePrometheus(made, p.names...)
		close(made.full)
	}()
	for piece := range made.full {
		if err == nil { // else the client has left, and what is made until the end is thrown away
			_, err = w.Write(piece)
		}
		made.empty <- piece
	}
	return err
}

// counter counts what is written.
type counter struct {
	w io.Writer
	n int64
}

// Write implements io.Writer.
func (c *counter) Write(b []byte) (int, error) {
	n, err := c.w.Write(b)
	c.n += int64(n)
	return n, err
}

// pieces hands what is written to another goroutine, in buffers that come back.
type pieces struct{ full, empty chan []byte }

// Write implements io.Writer.
func (p pieces) Write(b []byte) (int, error) {
	p.full <- append((<-p.empty)[:0], b...)
	return len(b), nil
}

// Read implements io.Reader, for whoever does not know the other way.
func (p *metricsPage) Read(b []byte) (int, error) {
	if p.pipe == nil {
		r, w := io.Pipe()
		p.pipe = r
		go func() {
			_, err := p.WriteTo(w)
			w.CloseWithError(err)
		}()
	}
	return p.pipe.Read(b)
}

// Close ends what Read has begun.
func (p *metricsPage) Close() error {
	if p.pipe == nil {
		return nil
	}
	return p.pipe.Close()
}
