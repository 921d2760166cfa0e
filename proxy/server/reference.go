package server

import (
	"rauta.io/rauta/fastpath/reference"
)

// Reference is the reference engine as a Plane, for Options.Plane.
func Reference(d *Deps) Plane {
	return reference.New(reference.Options{
		Live: d.Live, Registry: d.Registry, Settings: d.Settings, Limits: d.Limits, Workers: d.Workers,
		ConnectionsMax: d.ConnectionsMax, Log: d.Log,
	})
}
