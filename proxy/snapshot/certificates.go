package snapshot

import (
	"fmt"
	"slices"

	"rauta.io/rauta/proxy/certs"
	"rauta.io/rauta/proxy/config"
)

// certificates parses what is new. A certificate that can't be used leaves the listeners that name it without it, and a
// listener without any refuses every handshake.
func (c *compiler) certificates() {
	if c.whole && c.since.SameSecrets {
		last, own := c.prev.Config, c.next.Config
		own.Certificates, own.TicketKeys, own.TicketKeySets = last.Certificates, last.TicketKeys, last.TicketKeySets
		c.next.certificates = c.prev.certificates
		return
	}
	c.next.Config.Certificates = slices.Clone(c.next.Config.Certificates)
	store, errs := certs.NewStore(c.prev.certificates, c.next.Config.Certificates)
	for i, err := range errs {
		one := &c.next.Config.Certificates[i]
		if c.bad[place{part: config.PartCertificate, index: i}] != nil {
			continue
		}
		if err == nil {
			*one = store.Lookup(one.Name).Source // equal, and shares its memory
		} else {
			path := fmt.Sprintf("certificates[%q]", one.Name)
			c.problem(&config.Error{Part: config.PartCertificate, Index: i, Path: path, Err: err})
		}
	}
	for i, key := range c.next.Config.TicketKeys {
		if c.bad[place{part: config.PartTicketKey, index: i}] == nil {
			store.TicketKeys = append(store.TicketKeys, key)
		}
	}
	store.TicketKeySets = make(map[string][]config.Secret, len(c.next.Config.TicketKeySets))
	for i := range c.next.Config.TicketKeySets {
		if c.bad[place{part: config.PartTicketKeySet, index: i}] == nil {
			set := &c.next.Config.TicketKeySets[i]
			store.TicketKeySets[set.Name] = set.Keys
		}
	}
	c.next.certificates = store
}
