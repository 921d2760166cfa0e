// Package observe turns one Record per exchange into counters, histograms and an access log line, and writes them out
// in the Prometheus text format.
//
// It owns every counter of the data plane, the bound on how many series there are, and the access log's buffers and
// writer. It does not own what is measured: proxy/exchange fills the Record, proxy/loop and the engines call the Shard
// of their worker, proxy/server registers gauges and serves the exposition through proxy/admin.
//
// The request path takes no lock: each worker adds to its own Shard and its own cell of a Route or Endpoint, cells are
// made at first use, and a scrape sums the cells of all workers with atomic loads. Locks exist only where a route or
// endpoint serves for the first time, where a generation is published, and in a scrape, for as long as it takes to
// copy a slice header.
package observe
