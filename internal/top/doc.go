// Package top shows live what a node does: by route and by back end, the rate, failures, latencies, requests under way, and
// in which stages their time went.
//
// It reads the metrics of one node again and again and shows the differences. Readings and tables know nothing of the
// terminal; the screen only lays out. It decides nothing and changes nothing on the node. cmd/rauta calls it.
package top
