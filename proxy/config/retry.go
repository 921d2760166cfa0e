package config

import (
	"errors"
	"fmt"
	"time"
)

// Bounds of a Retry.
const (
	// RetryAttemptsMax bounds Retry.Attempts: whoever wants more wants a queue.
	RetryAttemptsMax = 100
	// RetryBackoffMax bounds Retry.Backoff: no client waits longer for an answer.
	RetryBackoffMax = Duration(10 * time.Minute)
	// RetryCodeMin and RetryCodeMax bound Retry.Codes, as the Gateway API does.
	RetryCodeMin, RetryCodeMax = 400, 599
)

// Retry of a rule replaces the default, which is one further attempt after failures that are safe to repeat.
type Retry struct {
	// Attempts is how many there may be after the first one; 0 means none.
	Attempts int `json:"attempts"`
	// Codes are statuses of responses that are not passed on while another attempt may be made.
	Codes []int `json:"codes,omitempty"`
	// Backoff is the least time between two attempts; later ones wait longer. 0 means the default.
	Backoff Duration `json:"backoff,omitempty"`
}

func checkRetry(r *Retry) (field string, err error) {
	if r == nil {
		return "", nil
	}
	if r.Attempts < 0 || r.Attempts > RetryAttemptsMax {
		return "attempts", fmt.Errorf("%d is not between 0 and %d", r.Attempts, RetryAttemptsMax)
	}
	for i, code := range r.Codes {
		if code < RetryCodeMin || code > RetryCodeMax {
			return fmt.Sprintf("codes[%d]", i), fmt.Errorf("%d is not between %d and %d", code, RetryCodeMin, RetryCodeMax)
		}
	}
	if r.Backoff < 0 {
		return "backoff", errors.New("a backoff is not negative")
	}
	if r.Backoff > RetryBackoffMax {
		return "backoff", fmt.Errorf("%s is longer than %s", time.Duration(r.Backoff), time.Duration(RetryBackoffMax))
	}
	return "", nil
}
