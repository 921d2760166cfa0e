package control

import "rauta.io/rauta/control/translate"

// Update is what a change of the cluster has led to. Nobody changes what it refers to any more.
type Update struct {
	// Objects are what was translated: the statuses in them are what the API server had then.
	Objects *translate.Objects
	// Result has the statuses and problems. It is what this replica serves, with the exception of Unserved.
	Result *translate.Result
	// Unserved says of listeners, by config.Listener.Name, why this replica does not serve them although Result has them: a
	// port may be taken. Nil if everything is served.
	Unserved map[string]error
	// Err is everything that the data plane has left out, those listeners among it.
	Err error
}

// Sink takes Updates, in order. It must not wait: what comes of an Update is its own affair, and an Update that has not
// been dealt with when the next one arrives is obsolete.
type Sink interface {
	Published(Update)
}
