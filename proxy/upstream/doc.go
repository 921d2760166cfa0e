// Package upstream is what stands behind a route: clusters, their endpoint sets, the pickers that choose an endpoint,
// the per-worker pools of connections, the retry budget and passive health.
//
// It owns the choice of an endpoint and the life of idle connections. It does not own bytes on a connection: engines
// implement Dialer, Conn and Stream. proxy/snapshot makes clusters, proxy/exchange picks and acquires, engines dial.
//
// Who may touch what:
//   - A Worker and its Pools belong to one event loop (or, in the reference engine, to one goroutine at a time); nothing
//     in them is locked or atomic.
//   - A Cluster and an Endpoint are shared. Workers only read them on the hot path; they write one atomic when a
//     connection is made or closed, and a few when something failed.
//   - SetEndpoints and NewCluster are called by whoever publishes configuration, and swap whole Sets.
//
// The clocks of all workers must have one origin (the monotonic clock of the system), because the end of an ejection is
// a time that every worker reads.
//
// A connection carries one stream at a time. A multiplexed one (HTTP/2) fits in by letting Slot count streams: such a
// connection stays in the idle list as long as it has room, Acquire starts a further stream on it, and Release takes
// one stream off it. Active already counts streams, and connections are counted at connect and close only.
package upstream
