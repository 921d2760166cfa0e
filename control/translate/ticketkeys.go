package translate

import (
	"fmt"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"

	"rauta.io/rauta/proxy/config"
)

// ticketKeys reads the Secret with the keys of session tickets of all listeners that name none of their own.
func (t *translator) ticketKeys() {
	slices.SortFunc(t.config.TicketKeySets, func(a, b config.TicketKeySet) int { return strings.Compare(a.Name, b.Name) })
	if t.opt.TicketKeys == "" {
		return
	}
	namespace, name, _ := strings.Cut(t.opt.TicketKeys, "/")
	const hint = "create it with entries of 32 to 1024 random bytes, or leave out --session-ticket-keys"
	k := key{namespace, name}
	if s := t.secret(k); s != nil {
		t.config.TicketKeys = t.ticketKeysIn(s, hint)
		return
	}
	report := reporter{object: ObjectRef{Kind: kindSecret, Namespace: namespace, Name: name}, out: &t.problems}
	report.errorf("", hint, "the Secret with the keys of session tickets %s; sessions are not shared", t.missing(kindSecret, k))
}

// ticketKeysOf reads the Secret that a listener names, in the namespace of the object that it is written in.
func (t *translator) ticketKeysOf(l *listener, field, value string) (set string, err error) {
	if value == "" || strings.Contains(value, "/") {
		return "", fmt.Errorf("%q must be the name of a Secret in the namespace of the %s", value, l.kind)
	}
	k := key{l.owner.GetNamespace(), value}
	set = k.namespace + "/" + k.name
	const hint = "create it with entries of 32 to 1024 random bytes, or remove the option"
	s := t.secret(k)
	if s == nil {
		l.report.errorf(l.field+"."+field, hint, "Secret %s %s; sessions of the listener are not shared", set, t.missing(kindSecret, k))
	}
	if !t.ticketKeySet[k] {
		t.ticketKeySet[k] = true
		one := config.TicketKeySet{Name: set}
		if s != nil {
			one.Keys = t.ticketKeysIn(s, hint)
		}
		t.config.TicketKeySets = append(t.config.TicketKeySets, one)
	}
	return set, nil
}

// ticketKeysIn returns the keys in a Secret, in the order of its entries' names. Without any that can be used sessions are
// not shared with other processes, which costs clients full handshakes and nothing else.
func (t *translator) ticketKeysIn(s *corev1.Secret, hint string) (keys []config.Secret) {
	report := reporter{object: ObjectRef{Kind: kindSecret, Namespace: s.Namespace, Name: s.Name}, out: &t.problems}
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
		keys = append(keys, config.Secret(slices.Clone(material)))
	}
	if len(keys) == 0 {
		report.errorf("data", hint, "there is no key of session tickets that can be used; sessions are not shared")
	}
	return keys
}
