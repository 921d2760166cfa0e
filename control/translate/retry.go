package translate

import (
	"fmt"
	"time"

	"k8s.io/utils/ptr"
	gatewayv1 "sigs.k8s.io/gateway-api/apis/v1"

	"rauta.io/rauta/proxy/config"
)

// retryAttemptsDefault is that of the Gateway API.
const retryAttemptsDefault = 1

// retry compiles the retry of a rule; nil is the default, also where it makes no sense: that takes nothing away from what
// the rule protects.
func (c *routeCompiler) retry(r *gatewayv1.HTTPRouteRetry, field string) *config.Retry {
	if r == nil {
		return nil
	}
	before := len(c.defects)
	out := &config.Retry{Attempts: ptr.Deref(r.Attempts, retryAttemptsDefault)}
	switch {
	case out.Attempts < 0:
		c.defect(field+".attempts", "use 0 to 100", "%d is not a number of attempts; the rule is served with the default retries", out.Attempts)
	case out.Attempts > config.RetryAttemptsMax:
		c.report.warnf(field+".attempts", "use 0 to 100", "%d attempts are more than RAUTA makes; it makes %d", out.Attempts, config.RetryAttemptsMax)
		out.Attempts = config.RetryAttemptsMax
	}
	for i, code := range r.Codes {
		if code < config.RetryCodeMin || code > config.RetryCodeMax {
			c.defect(fmt.Sprintf("%s.codes[%d]", field, i), "use 400 to 599",
				"%d is not the status of a failure; the rule is served with the default retries", code)
		}
		out.Codes = append(out.Codes, int(code))
	}
	if r.Backoff != nil {
		backoff, ok := parseDuration(string(*r.Backoff))
		out.Backoff = config.Duration(backoff)
		switch {
		case !ok:
			c.defect(field+".backoff", "write a duration such as 100ms", "%q is not a duration; the rule is served with the default retries", *r.Backoff)
		case out.Backoff > config.RetryBackoffMax:
			c.defect(field+".backoff", "make it shorter", "%s is longer than %s; the rule is served with the default retries",
				backoff, time.Duration(config.RetryBackoffMax))
		}
	}
	if len(c.defects) > before {
		return nil
	}
	return out
}
