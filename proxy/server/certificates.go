package server

import (
	"cmp"
	"maps"
	"slices"
	"strings"

	"rauta.io/rauta/proxy/config"
	"rauta.io/rauta/proxy/observe"
	"rauta.io/rauta/proxy/snapshot"
)

// certificateSeriesMax is how many certificates have a series of their own: as many as routes.
const certificateSeriesMax = 5000

// expiry is when a certificate of a listener expires, in Unix seconds.
type expiry struct {
	listener, name string
	at             int64
}

// expiries returns each certificate of each listener once, those that expire first before the others.
func expiries(s *snapshot.Snapshot) []expiry {
	seen := map[expiry]bool{}
	eachServed(s, func(listener string, names []string) {
		for _, name := range names {
			if c := s.Certificate(name); c != nil {
				seen[expiry{listener, name, c.NotAfter.Unix()}] = true
			}
		}
	})
	out := make([]expiry, 0, len(seen))
	for e := range seen {
		out = append(out, e)
	}
	slices.SortFunc(out, func(a, b expiry) int {
		return cmp.Or(cmp.Compare(a.at, b.at), strings.Compare(a.listener, b.listener), strings.Compare(a.name, b.name))
	})
	return out[:min(len(out), certificateSeriesMax)]
}

// clientExpiries returns when the certificates expire that back ends are shown, by name.
func clientExpiries(s *snapshot.Snapshot) map[string]int64 {
	out := map[string]int64{}
	for i := range s.Config.Clusters {
		if tls := s.Config.Clusters[i].TLS; tls != nil {
			if c := s.Certificate(tls.ClientCertificate); c != nil {
				out[c.Name] = c.NotAfter.Unix()
			}
		}
	}
	return out
}

// closedNames counts the hostnames of each listener with TLS that have no certificate.
func closedNames(s *snapshot.Snapshot) map[string]int {
	closed := map[string]int{}
	eachServed(s, func(listener string, names []string) {
		n := 1
		if slices.ContainsFunc(names, func(name string) bool { return s.Certificate(name) != nil }) {
			n = 0
		}
		closed[listener] += n
	})
	return closed
}

// eachServed calls f with the certificates of every hostname that a listener means to serve. A listener that names hosts
// and has no certificates besides serves nothing but its hosts.
func eachServed(s *snapshot.Snapshot, f func(listener string, certificates []string)) {
	for i := range s.Config.Listeners {
		l := &s.Config.Listeners[i]
		if l.TLS == nil {
			continue
		}
		if len(l.TLS.Certificates) > 0 || len(l.TLS.Hosts) == 0 {
			f(l.Name, served(l.TLS.Certificates, l.TLS.ClientAuth))
		}
		for j := range l.TLS.Hosts {
			f(l.Name, served(l.TLS.Hosts[j].Certificates, l.TLS.Hosts[j].ClientAuth))
		}
	}
}

// served are the certificates of a name; none where no client can be let in, because no authority is known.
func served(certificates []string, auth *config.ClientAuth) []string {
	if auth != nil && auth.CA == "" {
		return nil
	}
	return certificates
}

// stapleExpiries returns until when the OCSP staples of certificates are sent, by name.
func stapleExpiries(s *snapshot.Snapshot) map[string]int64 {
	out := map[string]int64{}
	for i := range s.Config.Certificates {
		if c := s.Certificate(s.Config.Certificates[i].Name); c != nil && c.Source.StapleUntil != 0 {
			out[c.Name] = c.Source.StapleUntil
		}
	}
	return out
}

func (s *Server) registerCertificateMetrics() {
	r := s.opt.Registry
	r.Gauges("rauta_certificate_expiry_timestamp_seconds", func(emit func(float64, ...observe.Label)) {
		for _, e := range expiries(s.live.Current()) {
			emit(float64(e.at), observe.Label{Name: "listener", Value: e.listener}, observe.Label{Name: "name", Value: e.name})
		}
	})
	r.Gauges("rauta_backend_client_certificate_expiry_timestamp_seconds", func(emit func(float64, ...observe.Label)) {
		expires := clientExpiries(s.live.Current())
		for _, name := range slices.Sorted(maps.Keys(expires)) {
			emit(float64(expires[name]), observe.Label{Name: "name", Value: name})
		}
	})
	r.Gauges("rauta_ocsp_staple_expiry_timestamp_seconds", func(emit func(float64, ...observe.Label)) {
		expires := stapleExpiries(s.live.Current())
		for _, name := range slices.Sorted(maps.Keys(expires)) {
			emit(float64(expires[name]), observe.Label{Name: "name", Value: name})
		}
	})
	r.Gauges("rauta_tls_names_closed", func(emit func(float64, ...observe.Label)) {
		closed := closedNames(s.live.Current())
		for _, listener := range slices.Sorted(maps.Keys(closed)) {
			emit(float64(closed[listener]), observe.Label{Name: "listener", Value: listener})
		}
	})
}
