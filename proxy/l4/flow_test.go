//go:build linux

package l4

import (
	"net"
	"net/netip"
	"testing"

	"rauta.io/rauta/proxy/config"
	"rauta.io/rauta/proxy/list"
)

func addrOf(c net.Conn) netip.AddrPort { return c.LocalAddr().(*net.UDPAddr).AddrPort() }

// alive reports which of some clients still have their flow.
func (r *rig) alive(addrs ...netip.AddrPort) (out []bool) {
	known := map[netip.AddrPort]bool{}
	r.on(func() {
		for _, l := range []*list.List[flow]{&r.engine.flows.silent, &r.engine.flows.answered} {
			for n := l.Front(); n != nil; n = n.Next() {
				known[n.Item.key.remote] = true
			}
		}
	})
	for _, a := range addrs {
		out = append(out, known[a])
	}
	return out
}

func TestAtTheLimitTheFlowThatWasSilentLongestGoes(t *testing.T) {
	r := newRig(t, []string{echo(t)}, func(o *Options, _ *config.L4Route) { o.FlowsMax = 3 })
	a, b, c, d := r.client(), r.client(), r.client(), r.client()
	r.ask(a)
	r.ask(b)
	r.ask(c)
	r.ask(a) // now b is the oldest
	r.ask(d)
	got := r.alive(addrOf(a), addrOf(b), addrOf(c), addrOf(d))
	for i, want := range []bool{true, false, true, true} {
		if got[i] != want {
			t.Errorf("client %d has a flow: %v", i, got[i])
		}
	}
}

// TestFlowsThatNobodyAnswersGoBeforeThoseOfRealClients: a flood with made-up sources must not push clients out.
func TestFlowsThatNobodyAnswersGoBeforeThoseOfRealClients(t *testing.T) {
	r := newRig(t, []string{echo(t)}, func(o *Options, _ *config.L4Route) { o.FlowsMax = 4 })
	a, b := r.client(), r.client()
	r.ask(a)
	r.ask(b)
	r.tell(r.client(), 3)
	for range 20 {
		c := r.client()
		r.tell(c, 4)
		r.until(func() bool { n := r.engine.flows.silent.Front(); return n != nil && n.Item.key.remote == addrOf(c) })
	}
	if got := r.alive(addrOf(a), addrOf(b)); !got[0] || !got[1] {
		t.Errorf("clients that were answered have flows: %v", got)
	}
}

func TestRetiringAnEndpointEndsItsFlowsOnly(t *testing.T) {
	r := newRig(t, []string{echo(t), echo(t)}, nil)
	for range 20 {
		r.ask(r.client())
	}
	r.on(func() {
		gone := r.engine.flows.oldest().endpoint
		r.engine.Retire(gone)
		if r.engine.Flows() == 0 || r.engine.Flows() == 20 {
			t.Errorf("%d of 20 flows are left", r.engine.Flows())
		}
		for n := r.engine.flows.answered.Front(); n != nil; n = n.Next() {
			if n.Item.endpoint == gone {
				t.Error("a flow to the endpoint is left")
			}
		}
		if gone.Connections() != 0 {
			t.Errorf("%d connections are counted at the endpoint that is gone", gone.Connections())
		}
	})
}

// TestADatagramThatClaimsToComeFromTheListenerIsDropped: its answer would be the next question.
func TestADatagramThatClaimsToComeFromTheListenerIsDropped(t *testing.T) {
	r := newRig(t, []string{echo(t)}, nil)
	r.on(func() {
		local := r.addr.Addr()
		for _, remote := range []netip.AddrPort{r.addr, netip.AddrPortFrom(netip.MustParseAddr("127.0.0.9"), 0)} {
			if f, reason := r.udp.open(flowKey{remote, local}); f != nil || reason != reasonLoop {
				t.Errorf("from %s: %v, %q", remote, f, reason)
			}
		}
		if _, reason := r.udp.open(flowKey{netip.AddrPortFrom(netip.MustParseAddr("127.0.0.9"), r.addr.Port()), local}); reason != "" {
			t.Errorf("from the same port of another address: %q", reason)
		}
	})
}

func TestADatagramCostsOneReceiveAndOneSend(t *testing.T) {
	const rounds = 200
	r := newRig(t, []string{echo(t)}, nil)
	c := r.client()
	r.ask(c)
	before := r.w.Stats().Transfers.Load()
	for range rounds {
		r.ask(c)
	}
	r.on(func() {})
	if n := r.w.Stats().Transfers.Load() - before; n > 4*rounds+2 {
		t.Errorf("%d receives and sends for %d datagrams there and back", n, rounds)
	}
}

func TestADatagramOfAKnownFlowAllocatesNothing(t *testing.T) {
	r := newRig(t, []string{echo(t)}, nil)
	c := r.client()
	r.ask(c)
	buf := make([]byte, 10)
	if n := testing.AllocsPerRun(200, func() {
		c.Write(buf[:1])
		c.Read(buf)
	}); n >= 1 {
		t.Errorf("%v allocations for a datagram and its answer, the client's and the echo's included", n)
	}
}
