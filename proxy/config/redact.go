package config

import (
	"slices"
	"strings"
)

// Redact returns a copy of a configuration that may be shown: values of header edits that carry credentials and private
// keys are replaced. What needs no change is shared with c.
func Redact(c *Config) *Config {
	out := *c
	out.Routes = make([]*Route, len(c.Routes))
	for i := range out.Routes {
		route := *c.Routes[i]
		rules := slices.Clone(route.Rules)
		for j := range rules {
			rules[j].Filters = RedactFilters(rules[j].Filters)
			rules[j].Backends = slices.Clone(rules[j].Backends)
			for k := range rules[j].Backends {
				rules[j].Backends[k].Filters = RedactFilters(rules[j].Backends[k].Filters)
			}
		}
		route.Rules = rules
		out.Routes[i] = &route
	}
	out.Certificates = slices.Clone(c.Certificates)
	for i := range out.Certificates {
		one := &out.Certificates[i]
		one.Chain, one.Key = CertificatesOnly([]byte(one.Chain)), Secret(redacted)
	}
	out.Listeners = slices.Clone(c.Listeners)
	for i := range out.Listeners {
		out.Listeners[i].TLS = redactTLS(out.Listeners[i].TLS)
	}
	out.TicketKeys = redactKeys(c.TicketKeys)
	out.TicketKeySets = slices.Clone(c.TicketKeySets)
	for i := range out.TicketKeySets {
		out.TicketKeySets[i].Keys = redactKeys(out.TicketKeySets[i].Keys)
	}
	out.Clusters = slices.Clone(c.Clusters)
	for i := range out.Clusters {
		if tls := out.Clusters[i].TLS; tls != nil {
			shown := *tls
			shown.CA = CertificatesOnly([]byte(tls.CA))
			out.Clusters[i].TLS = &shown
		}
	}
	return &out
}

func redactKeys(keys []Secret) []Secret {
	out := slices.Clone(keys)
	for i := range out {
		out[i] = Secret(redacted)
	}
	return out
}

// redactTLS drops what was put beside the certificates of authorities.
func redactTLS(t *TLS) *TLS {
	if t == nil {
		return nil
	}
	out := *t
	out.ClientAuth = redactClientAuth(t.ClientAuth)
	out.Hosts = slices.Clone(t.Hosts)
	for i := range out.Hosts {
		out.Hosts[i].ClientAuth = redactClientAuth(out.Hosts[i].ClientAuth)
	}
	return &out
}

func redactClientAuth(a *ClientAuth) *ClientAuth {
	if a == nil {
		return nil
	}
	out := *a
	out.CA = CertificatesOnly([]byte(a.CA))
	return &out
}

// RedactFilters is Redact for a list of filters.
func RedactFilters(filters []Filter) []Filter {
	out := slices.Clone(filters)
	for i := range out {
		out[i].RequestHeaders = redactEdit(out[i].RequestHeaders)
		out[i].ResponseHeaders = redactEdit(out[i].ResponseHeaders)
	}
	return out
}

func redactEdit(e *HeaderEdit) *HeaderEdit {
	if e == nil {
		return nil
	}
	out := *e
	out.Set = redactHeaders(e.Set)
	out.Add = redactHeaders(e.Add)
	return &out
}

func redactHeaders(headers []Header) []Header {
	out := slices.Clone(headers)
	for i := range out {
		if isCredential(out[i].Name) {
			out[i].Value = redacted
		}
	}
	return out
}

// credentialWords are in the names of fields that authenticate: Authorization, Cookie, X-Api-Key, X-Auth-Token and kin.
// Hiding one value too many is harmless.
const credentialWords = "auth cookie key token secret passw credential"

func isCredential(name string) bool {
	name = strings.ToLower(name)
	for word := range strings.FieldsSeq(credentialWords) {
		if strings.Contains(name, word) {
			return true
		}
	}
	return false
}
