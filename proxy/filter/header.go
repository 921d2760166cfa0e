package filter

import (
	"strings"

	"rauta.io/rauta/proxy/config"
	"rauta.io/rauta/proxy/message"
)

// headerEdit is a config.HeaderEdit with ids looked up.
type headerEdit struct {
	remove []field
	set    []field
	add    []field
	// authority replaces the request's Authority: an edit that sets Host.
	authority string
}

// field is one header field. lower is the name in lower case for comparing, name is as written by the user: some back
// ends still care about case, and engines lower it where the protocol demands.
type field struct {
	name, lower, value string
	id                 message.FieldID
}

func newField(name, value string) field {
	return field{name: name, lower: strings.ToLower(name), value: value, id: message.LookupIDString(name)}
}

func newHeaderEdit(e *config.HeaderEdit) *headerEdit {
	h := new(headerEdit)
	for _, name := range e.Remove {
		h.remove = append(h.remove, newField(name, ""))
	}
	for _, s := range e.Set {
		f := newField(s.Name, s.Value)
		switch {
		case f.id == message.Host:
			if h.authority == "" {
				h.authority = f.value
			}
		case !contains(h.set, f.lower): // of equal names the first counts (Gateway API, HTTPHeaderFilter.set)
			h.set = append(h.set, f)
		}
	}
	for _, a := range e.Add {
		h.add = append(h.add, newField(a.Name, a.Value))
	}
	return h
}

func contains(fs []field, lower string) bool {
	for i := range fs {
		if fs[i].lower == lower {
			return true
		}
	}
	return false
}

func (e *headerEdit) request(req *message.Request) {
	e.apply(&req.Head)
	if e.authority != "" {
		req.Authority = req.StoreString(e.authority)
	}
}

func (e *headerEdit) apply(h *message.Head) {
	for i := range e.remove {
		f := &e.remove[i]
		h.RemoveName(f.lower, f.id)
	}
	for i := range e.set {
		f := &e.set[i]
		h.RemoveName(f.lower, f.id)
		h.Add(f.name, f.value, f.id)
	}
	for i := range e.add {
		f := &e.add[i]
		h.Add(f.name, f.value, f.id)
	}
}
