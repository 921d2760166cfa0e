// Package upstream is what stands behind a route: clusters, their endpoint sets, the pickers that choose an endpoint,
// the per-worker pools of connections, the retry budget and passive health.
//
// It owns the choice of an endpoint and the life of idle connections. It does not own bytes on a connection: engines
// implement Dialer, Conn and Stream. proxy/snapshot makes clusters, proxy/exchange picks and acquires, engines dial.
package upstream
