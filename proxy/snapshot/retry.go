package snapshot

import "rauta.io/rauta/proxy/config"

// Retry says what is tried again besides what always is.
type Retry struct {
	// Attempts is how many there may be after the first one.
	Attempts int
	// Backoff is the least time between two attempts in nanoseconds, 0 for the default.
	Backoff int64

	codes [(config.RetryCodeMax-config.RetryCodeMin)/64 + 1]uint64 // bits from config.RetryCodeMin on
}

func newRetry(c *config.Retry) *Retry {
	if c == nil {
		return nil
	}
	r := &Retry{Attempts: c.Attempts, Backoff: int64(c.Backoff)}
	for _, code := range c.Codes {
		if i := code - config.RetryCodeMin; i >= 0 && code <= config.RetryCodeMax {
			r.codes[i/64] |= 1 << (i % 64)
		}
	}
	return r
}

// Has reports whether a status is one after which there may be another attempt.
func (r *Retry) Has(status int) bool {
	i := status - config.RetryCodeMin
	return i >= 0 && status <= config.RetryCodeMax && r.codes[i/64]&(1<<(i%64)) != 0
}
