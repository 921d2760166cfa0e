package main

import "rauta.io/rauta/proxy/server"

// engineLoop is the default of --engine: the event loops of proxy/server.
const engineLoop = "loop"

// engines are the values of --engine.
func engines() []string { return []string{engineLoop} }

// plane returns what server.Options.Plane is for an engine.
func plane(string) func(*server.Deps) server.Plane { return nil }
