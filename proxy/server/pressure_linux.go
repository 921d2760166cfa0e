package server

import "rauta.io/rauta/proxy/exchange"

// SetPressure implements pressured.
func (p *loopPlane) SetPressure(level Pressure, connections int) {
	if level == PressureRefuse {
		connections = 1 // the least that a group can be told: who is connected stays, nobody joins
	}
	p.onEach(func(w *loopWorker) error {
		w.exchange.Shed = exchange.Shed(level)
		return nil
	})
	p.group.SetConnectionsMax(connections)
}
