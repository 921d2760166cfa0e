package observe

// Reset is the way of an HTTP/2 RST_STREAM.
type Reset uint8

// Ways of resets. Those that RAUTA sends follow those that it gets.
const (
	ResetFromClient Reset = iota
	ResetToClient
	ResetFromBackend
	ResetToBackend
	resetCount
)

var resetNames = [resetCount]string{"from_client", "to_client", "from_backend", "to_backend"}

// StreamReset counts a RST_STREAM.
func (s *Shard) StreamReset(way Reset) { s.resets[way].Add(1) }

// sumResets adds up what all workers have counted.
func (r *Registry) sumResets() map[string]uint64 {
	sum := map[string]uint64{}
	for _, s := range r.shards {
		for way := range s.resets {
			sum[resetNames[way]] += s.resets[way].Load()
		}
	}
	return sum
}
