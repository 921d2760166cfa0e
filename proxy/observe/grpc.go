package observe

import "sync/atomic"

// GRPCStatus is the status of a gRPC exchange; the zero value is none: the exchange was not one, or nobody said.
type GRPCStatus uint8

// grpcCodes are the names of the status codes (gRPC, "Status codes and their use in gRPC").
var grpcCodes = [...]string{
	"OK", "CANCELLED", "UNKNOWN", "INVALID_ARGUMENT", "DEADLINE_EXCEEDED", "NOT_FOUND", "ALREADY_EXISTS", "PERMISSION_DENIED",
	"RESOURCE_EXHAUSTED", "FAILED_PRECONDITION", "ABORTED", "OUT_OF_RANGE", "UNIMPLEMENTED", "INTERNAL", "UNAVAILABLE",
	"DATA_LOSS", "UNAUTHENTICATED",
}

// GRPCCode returns the status with a code; codes that the specification does not have are UNKNOWN, as clients see them.
func GRPCCode(code int) GRPCStatus {
	const unknown = 2
	if code < 0 || code >= len(grpcCodes) {
		code = unknown
	}
	return GRPCStatus(code + 1)
}

// String returns the name of the code, "" for none.
func (s GRPCStatus) String() string {
	if s == 0 {
		return ""
	}
	return grpcCodes[s-1]
}

// Code returns the code, and whether there is one.
func (s GRPCStatus) Code() (code int, ok bool) { return int(s) - 1, s != 0 }

// grpcCounts counts gRPC exchanges per code.
type grpcCounts struct {
	n [len(grpcCodes)]atomic.Uint64
}

// countGRPC is made at the first gRPC exchange of a route.
func (c *routeCell) countGRPC(s GRPCStatus) {
	n := c.grpc.Load()
	if n == nil {
		c.grpc.CompareAndSwap(nil, new(grpcCounts))
		n = c.grpc.Load()
	}
	n.n[s-1].Add(1)
}

// writeRouteGRPC writes the gRPC counters of one route that are not 0.
func (r *Registry) writeRouteGRPC(x *exposition, rt activeRoute) {
	var sum [len(grpcCodes)]uint64
	some := false
	c := rt.cells.Load()
	for i := range c.byWorker {
		cell := c.byWorker[i].Load()
		if cell == nil {
			continue
		}
		if counts := cell.grpc.Load(); counts != nil {
			some = true
			for code := range sum {
				sum[code] += counts.n[code].Load()
			}
		}
	}
	if !some {
		return
	}
	for code, n := range sum {
		if n > 0 {
			x.begin("rauta_grpc_requests_total").raw(rt.labels).raw(`,code="`).raw(grpcCodes[code]).raw(`"`).uint(n)
		}
	}
}
