// Package otlp exports the spans of requests to an OpenTelemetry collector, over gRPC or HTTP.
//
// It owns the connection to the collector and the names of attributes. One goroutine outside the loops takes spans from
// the rings of proxy/observe, and is the only one that ever waits for the collector: while it does, rings fill up, and what
// does not fit is dropped and counted. Nothing is kept but the rings and one batch.
package otlp
