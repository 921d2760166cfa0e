package admin

import (
	"io"

	"rauta.io/rauta/proxy/observe"
)

// metricsPage is the metrics as the body of a response. fasthttp has it write itself to the connection, or to what compresses it, in
// pieces of 64 KB: a body that is read is copied twice, and sent in pieces of 4 KB.
type metricsPage struct {
	registry *observe.Registry
	pipe     *io.PipeReader // nil unless it is read
}

// SupportsBodyWriteTo implements fasthttp.BodyWriterTo.
func (*metricsPage) SupportsBodyWriteTo() bool { return true }

// WriteTo implements io.WriterTo.
func (p *metricsPage) WriteTo(w io.Writer) (int64, error) {
	to := &counter{w: w}
	p.registry.WritePrometheus(to)
	return to.n, to.err
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

// counter keeps what has been written, and the first error.
type counter struct {
	w   io.Writer
	n   int64
	err error
}

// Write implements io.Writer.
func (c *counter) Write(b []byte) (int, error) {
	n, err := c.w.Write(b)
	c.n += int64(n)
	if c.err == nil {
		c.err = err
	}
	return n, err
}
