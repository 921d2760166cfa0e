package exchange

// HostOf is the host that a request with this authority is matched by, for explain: lower case, without port and
// without a trailing dot. It is nil when no listener can have such a name.
func HostOf(authority []byte) []byte { return new(Worker).hostOf(authority) }
