package h2

import "rauta.io/rauta/proxy/exchange"

// taking is an exchange that is over, but whose response the client's socket may not have taken: up to is the place in the
// output behind its last byte.
type taking struct {
	x  *exchange.Exchange
	up uint64
}

// takingsMax bounds the lists that an engine keeps for reuse: as many as connections that send in one turn.
const takingsMax = 256

// await keeps an exchange whose last frame has just been framed until the socket has taken it. It reports false if there is
// nothing to wait for.
func (c *serverConn) await(x *exchange.Exchange) bool {
	if !c.out.mayMeetFullSocket() {
		return false
	}
	if c.taking == nil {
		c.taking = c.e.getTakings()
	}
	c.taking = append(c.taking, taking{x, c.out.place()})
	return true
}

// tookOutput implements role: it tells the exchanges whose last byte the socket has taken.
func (c *serverConn) tookOutput() {
	if len(c.taking) == 0 {
		return
	}
	n, taken := 0, c.out.taken()
	for ; n < len(c.taking) && c.taking[n].up <= taken; n++ {
		c.taking[n].x.OnTaken("")
	}
	c.forgetTaking(n)
}

// loseTaking tells those whose client is gone before.
func (c *serverConn) loseTaking(reason string) {
	c.tookOutput()
	for i := range c.taking {
		c.taking[i].x.OnTaken(reason)
	}
	c.forgetTaking(len(c.taking))
}

// forgetTaking takes the first n off the list. An idle connection keeps none.
func (c *serverConn) forgetTaking(n int) {
	if n == 0 {
		return
	}
	left := copy(c.taking, c.taking[n:])
	clear(c.taking[left:])
	c.taking = c.taking[:left]
	if left == 0 {
		c.e.putTakings(c.taking)
		c.taking = nil
	}
}

func (e *Engine) getTakings() []taking {
	last := len(e.takings) - 1
	if last < 0 {
		return make([]taking, 0, 8)
	}
	t := e.takings[last]
	e.takings[last] = nil
	e.takings = e.takings[:last]
	return t
}

func (e *Engine) putTakings(t []taking) {
	if len(e.takings) < takingsMax && cap(t) <= 2*StreamsMax {
		e.takings = append(e.takings, t)
	}
}
