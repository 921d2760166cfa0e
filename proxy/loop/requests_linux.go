package loop

import "rauta.io/rauta/proxy/observe"

// OpenRequests has the requests on the connection watched, if the kernel watches any. To be called once, before the first
// byte is read; the others do nothing without it. A connection carries one request at a time.
func (c *Conn) OpenRequests() {
	r := c.w.watch()
	if r == nil {
		c.untapped = true
		return
	}
	since := int64(0)
	if c.tls == nil {
		since = int64(c.began)
	}
	r.Open(&c.tap, c.fd, int64(c.w.Now()), since)
}

// RequestsFollow says that all that was read until now came before the first request, of which nothing is read yet.
func (c *Conn) RequestsFollow() {
	if c.tap.State != observe.TapOff {
		now := int64(c.w.Now())
		c.w.requests.Release(&c.tap)
		c.w.requests.Open(&c.tap, c.fd, now, now) // what is there came in this turn: there was nothing when it was read
	}
}

// watch returns what watches requests on this worker's connections. The kernel may come to it late.
func (w *Worker) watch() observe.Requests {
	if w.requests == nil && w.opt.Kernel != nil {
		w.requests = w.opt.Kernel.Requests(w.id)
	}
	return w.requests
}

// EndRequests ends the watch: what comes from now on are not requests, one at a time.
func (c *Conn) EndRequests() {
	c.untapped = false
	if c.tap.State != observe.TapOff {
		c.w.requests.Release(&c.tap)
	}
}

// RequestRead returns for how many nanoseconds the first byte of a request has lain in the socket; 0 if that is not known.
// It is called when that byte is at hand.
func (c *Conn) RequestRead() int64 {
	if c.tap.State != observe.TapAwaiting {
		return 0
	}
	return c.w.requests.Read(&c.tap, int64(c.w.Now()))
}

// RequestOf says which route the request that is read belongs to; nil: none.
func (c *Conn) RequestOf(rt *observe.Route) {
	if c.tap.State == observe.TapUnderWay {
		c.tap.Route = rt
	}
}

// ResponseLeaves is called before a Write that may complete a response: the next request can come before it returns.
func (c *Conn) ResponseLeaves() {
	if c.tap.State == observe.TapUnderWay || c.tap.State == observe.TapIdle && c.tap.Left <= 1 && c.w.requests.Watching() {
		c.w.requests.Leaves(&c.tap, c.fd, int64(c.w.time.read())) // the time of the turn is that of its beginning
	}
}

// ResponseLeft is called when the response has left completely, or could not yet. spoilt says that bytes of the next request
// were read already.
func (c *Conn) ResponseLeft(completely, spoilt bool) {
	spoilt = spoilt || c.ahead.bytes != nil
	t := &c.tap
	switch {
	case t.State == observe.TapOff || c.closed:
	case t.State == observe.TapIdle && !t.Armed && !spoilt && (t.Left > 1 || !c.w.requests.Watching()):
		if completely && t.Left > 0 {
			t.Left--
		}
	default:
		c.w.requests.Left(t, c.fd, int64(c.w.time.read()), completely, spoilt)
	}
}
