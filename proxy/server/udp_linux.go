package server

import (
	"net/netip"
	"time"

	"rauta.io/rauta/proxy/loop"
)

// udpPort is an address that the plane receives datagrams on.
type udpPort struct {
	// closing ends it after the grace; nil while the configuration has the address.
	closing *time.Timer
}

// OpenUDP implements datagramPlane.
func (p *loopPlane) OpenUDP(addr netip.AddrPort) error {
	p.udpMu.Lock()
	defer p.udpMu.Unlock()
	if port := p.udp[addr]; port != nil { // it is about to close
		port.closing.Stop()
		port.closing = nil
		return nil
	}
	if !p.overlap && !p.ownsUDP(addr.Port()) {
		if err := loop.ProbeBindUDP(addr); err != nil {
			return err
		}
	}
	err := p.onEach(func(w *loopWorker) error {
		l, err := w.l4.ListenUDP(addr)
		if err == nil {
			w.datagrams[addr] = l
		}
		return err
	})
	if err != nil {
		p.endUDP(addr)
		return err
	}
	p.udp[addr] = &udpPort{}
	return nil
}

// ownsUDP says whether we receive on the port already, on whatever address: the probe could then find ourselves.
func (p *loopPlane) ownsUDP(port uint16) bool {
	for addr := range p.udp {
		if addr.Port() == port {
			return true
		}
	}
	return false
}

// CloseUDP implements datagramPlane. Datagrams have no end that could be waited for: what is under way has the grace of
// closing listeners to be answered, in which everything goes on.
func (p *loopPlane) CloseUDP(addr netip.AddrPort) {
	p.udpMu.Lock()
	defer p.udpMu.Unlock()
	port := p.udp[addr]
	if port == nil || port.closing != nil {
		return
	}
	var timer *time.Timer
	timer = time.AfterFunc(loop.CloseGraceDefault, func() {
		p.udpMu.Lock()
		defer p.udpMu.Unlock()
		if port.closing == timer { // else it was opened again meanwhile
			p.endUDP(addr)
			delete(p.udp, addr)
		}
	})
	port.closing = timer
}

// endUDP closes the sockets of all workers, at once so that no datagram meets the wrong one.
func (p *loopPlane) endUDP(addr netip.AddrPort) {
	_ = p.onEach(func(w *loopWorker) error {
		if l := w.datagrams[addr]; l != nil {
			delete(w.datagrams, addr)
			l.Close()
		}
		return nil
	})
}

// closingUDP is how many addresses still have their grace.
func (p *loopPlane) closingUDP() int {
	p.udpMu.Lock()
	defer p.udpMu.Unlock()
	n := 0
	for _, port := range p.udp {
		if port.closing != nil {
			n++
		}
	}
	return n
}
