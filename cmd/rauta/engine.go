package main

import (
	"maps"
	"slices"

	"rauta.io/rauta/proxy/server"
)

// engineLoop is the default of --engine.
const engineLoop = "loop"

// planes are the values of --engine, each with what server.Options.Plane is then: nil for the event loops of
// proxy/server.
func planes() map[string]func(*server.Deps) server.Plane {
	return map[string]func(*server.Deps) server.Plane{engineLoop: nil, "reference": server.Reference}
}

func engines() []string { return slices.Sorted(maps.Keys(planes())) }
