package server

// Usage is what connections hold at the moment, over all workers. Whatever has happened before, all of it is zero once
// no client is connected; only Upstream keeps the idle connections of the pools.
type Usage struct {
	// Clients is the number of client connections, Exchanges that of requests that have begun to arrive and are not over.
	Clients, Exchanges int
	// Flows is the number of UDP clients that are remembered, until they have been silent for long enough.
	Flows int
	// Buffers that the loops have given out.
	Buffers int
	// Upstream is the number of connections to back ends, those being opened included.
	Upstream int
}

// metered is a Plane that knows its Usage.
type metered interface{ Usage() Usage }

// Usage asks every worker; ok is false when the engine can't tell.
func (s *Server) Usage() (u Usage, ok bool) {
	plane, ok := s.plane.(metered)
	if !ok {
		return Usage{}, false
	}
	return plane.Usage(), true
}
