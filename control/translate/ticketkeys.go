package translate

import (
	"slices"
	"strings"

	"rauta.io/rauta/proxy/config"
)

// ticketKeys reads the Secret with the keys of session tickets, in the order of its entries' names. Without any that can be
// used sessions are not shared with other processes, which costs clients full handshakes and nothing else.
func (t *translator) ticketKeys() {
	if t.opt.TicketKeys == "" {
		return
	}
	namespace, name, _ := strings.Cut(t.opt.TicketKeys, "/")
	const hint = "create it with entries of 32 to 1024 random bytes, or leave out --session-ticket-keys"
	report := reporter{object: ObjectRef{Kind: kindSecret, Namespace: namespace, Name: name}, out: &t.problems}
	s := t.secret(key{namespace, name})
	if s == nil {
		report.errorf("", hint, "the Secret with the keys of session tickets does not exist; sessions are not shared")
		return
	}
	var entries []string
	for entry := range s.Data {
		entries = append(entries, entry)
	}
	for entry := range s.StringData {
		entries = append(entries, entry)
	}
	slices.Sort(entries)
	for _, entry := range slices.Compact(entries) {
		material := secretData(s, entry)
		if err := config.CheckTicketKey(material); err != nil {
			report.errorf("data["+entry+"]", hint, "%s; it is left out", err)
			continue
		}
		t.config.TicketKeys = append(t.config.TicketKeys, config.Secret(slices.Clone(material)))
	}
	if len(t.config.TicketKeys) == 0 {
		report.errorf("data", hint, "there is no key of session tickets that can be used; sessions are not shared")
	}
}
