package exchange

import (
	"testing"
	"time"

	"rauta.io/rauta/proxy/config"
	"rauta.io/rauta/proxy/message"
)

// openTunnel has a tunnel for protocol open.
func (s *sim) openTunnel(protocol string) (*fakeClient, *fakeConn) {
	c := s.request("GET /")
	c.x.Req.Upgrade = c.x.Req.StoreString(protocol)
	c.start()
	b := s.dialer.connect()
	b.head(101, "Upgrade: "+protocol)
	return c, b
}

// closeFrame is 1001, going away.
const closeFrame = "\x88\x02\x03\xe9"

func TestTheClientOfAWebSocketIsToldThatTheTunnelCloses(t *testing.T) {
	s := newSim(t, 1, nil)
	c, b := s.openTunnel("WebSocket")
	b.data("\x81\x02hi")
	s.w.CloseTunnels()
	c.wants("head 101", "data \x81\x02hi", "data "+closeFrame)
	b.data("\x81\x02no") // nothing may follow a close frame
	c.x.OnRequestData([]byte("last words and a close frame"))
	b.sink.OnEnd(nil)
	c.wants("head 101", "data \x81\x02hi", "data "+closeFrame, "end")
	c.x.OnRequestEnd(nil)
	c.wants("head 101", "data \x81\x02hi", "data "+closeFrame, "end", "finished")
	b.wants("head GET /", "data last words and a close frame", "end", "cancel")
	if e := s.one(); e.Reason != "drained" || e.Status != 101 || e.BytesOut != 4+4 {
		t.Errorf("%+v", e)
	}
}

func TestACloseFrameDoesNotFallIntoAnother(t *testing.T) {
	s := newSim(t, 1, nil)
	c, b := s.openTunnel("websocket")
	b.data("\x01\x04ab") // the first frame of a message, not complete
	s.w.CloseTunnels()
	c.wants("head 101", "data \x01\x04ab")
	b.data("c")
	b.data("d\x80\x02ef") // a control frame may come between the frames of a message (RFC 6455 section 5.4)
	b.data("\x81\x01g")
	c.wants("head 101", "data \x01\x04ab", "data c", "data d", "data "+closeFrame)
}

func TestABackEndThatClosesItselfIsNotInterrupted(t *testing.T) {
	s := newSim(t, 1, nil)
	c, b := s.openTunnel("websocket")
	b.data("\x88\x02\x03\xe8")
	s.w.CloseTunnels()
	c.wants("head 101", "data \x88\x02\x03\xe8")
	b.sink.OnEnd(nil)
	c.x.OnRequestEnd(nil)
	c.wants("head 101", "data \x88\x02\x03\xe8", "end", "finished")
}

func TestTheEndsOfOtherTunnelsSeeTheEnd(t *testing.T) {
	s := newSim(t, 1, nil)
	c, b := s.openTunnel("x")
	s.w.CloseTunnels()
	b.data("dropped")
	c.x.OnRequestData([]byte("dropped"))
	c.wants("head 101", "end")
	b.wants("head GET /", "end")
	c.x.OnRequestEnd(nil)
	b.sink.OnEnd(nil)
	c.wants("head 101", "end", "finished")
	b.wants("head GET /", "end", "cancel")
}

func TestATunnelThatDoesNotCloseIsCut(t *testing.T) {
	for _, protocol := range []string{"websocket", "x"} {
		for _, half := range []string{"neither", "client", "back end"} {
			t.Run(protocol+", "+half, func(t *testing.T) {
				s := newSim(t, 1, nil)
				c, b := s.openTunnel(protocol)
				switch half {
				case "client":
					c.x.OnRequestEnd(nil)
				case "back end":
					b.sink.OnEnd(nil)
				}
				s.w.CloseTunnels()
				for range 3 { // traffic does not put it off
					s.advance(TunnelCloseTime/4 - aBit)
					if c.over {
						t.Fatalf("%q", c.events)
					}
					b.data("x")
				}
				s.advance(TunnelCloseTime/4 + 4*aBit)
				if !c.over || !b.gone || c.events[len(c.events)-2] != "end" && half != "back end" {
					t.Errorf("the client saw %q", c.events)
				}
				if e := s.one(); e.Reason != "drained" {
					t.Errorf("%+v", e)
				}
			})
		}
	}
}

func TestATunnelThatOpensDuringTheEndClosesAtOnce(t *testing.T) {
	s := newSim(t, 1, nil)
	s.w.CloseTunnels()
	c, _ := s.openTunnel("websocket")
	c.wants("head 101", "data "+closeFrame)
}

func TestTunnelsAreClosedANumberAtATime(t *testing.T) {
	s := newSim(t, 1, nil)
	var clients []*fakeClient
	for range tunnelsClosedAtOnce + 10 {
		c, _ := s.openTunnel("websocket")
		clients = append(clients, c)
	}
	told := func() (n int) {
		for _, c := range clients {
			n += len(c.events) - 1
		}
		return n
	}
	s.w.CloseTunnels()
	if n := told(); n != tunnelsClosedAtOnce {
		t.Errorf("%d were told", n)
	}
	s.w.CloseTunnels()
	s.w.CloseTunnels()
	if n := told(); n != len(clients) {
		t.Errorf("%d of %d were told", n, len(clients))
	}
}

func TestASilentTunnelClosesWhereItsRuleSaysSo(t *testing.T) {
	s := newSim(t, 1, rule(func(r *config.Rule) { r.Timeouts.TunnelIdle = config.Duration(time.Minute) }))
	c, b := s.openTunnel("websocket")
	for range 3 { // either end keeps it alive
		s.advance(time.Minute - aBit)
		b.data("\x89\x00")
		s.advance(time.Minute - aBit)
		c.x.OnRequestData([]byte("pong"))
	}
	if got := c.events[len(c.events)-1]; got != "data \x89\x00" {
		t.Fatalf("%q", c.events)
	}
	s.advance(time.Minute + aBit)
	if got := c.events[len(c.events)-1]; got != "data "+closeFrame {
		t.Fatalf("%q", c.events)
	}
	s.advance(TunnelCloseTime + aBit)
	if e := s.one(); !c.over || !b.gone || e.Reason != "tunnel_idle_timeout" {
		t.Errorf("%+v after %q", e, c.events)
	}
}

// TestAnAnsweredTunnelMayNotOpen: a client that asked with CONNECT takes any 2xx for an open tunnel (RFC 9110 section 9.3.6).
func TestAnAnsweredTunnelMayNotOpen(t *testing.T) {
	for status, want := range map[int]string{200: "head 502", 204: "head 502", 299: "head 502", 302: "head 302", 404: "head 404"} {
		s := newSim(t, 1, nil)
		c := s.request("GET /")
		c.x.Req.Version = message.HTTP2
		c.x.Req.Upgrade = c.x.Req.StoreString("websocket")
		c.start()
		s.dialer.connect().head(status)
		if c.events[0] != want {
			t.Errorf("%d: %q", status, c.events)
		}
	}
}
