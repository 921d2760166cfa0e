package translate

import (
	"slices"

	"rauta.io/rauta/proxy/config"
)

// permanentRedirect keeps the method (RFC 9110 section 15.4.9).
const permanentRedirect = 308

// redirects reports whether requests for a host of the Ingress have to come over HTTPS: as ingress-nginx does, by default
// those for the hosts of its tls sections, whatever has become of their Secrets.
func (c *ingressCompiler) redirects(host string) bool {
	if c.t.opt.WithoutTLS {
		return false
	}
	wanted, _ := parseSSLRedirect(c.object.Annotations[annotationSSLRedirect])
	switch wanted {
	case sslRedirectNever:
		return false
	case sslRedirectForce:
		return true
	}
	for i := range c.object.Spec.TLS {
		section := &c.object.Spec.TLS[i]
		if section.SecretName != "" && (len(section.Hosts) == 0 ||
			slices.ContainsFunc(section.Hosts, func(name string) bool { return name == host || host != "" && covers(name, host) })) {
			return true
		}
	}
	return false
}

// requireHTTPS leads to the listener that Ingresses share.
func (o *Options) requireHTTPS() *config.RequireHTTPS {
	out := &config.RequireHTTPS{Status: permanentRedirect}
	if o.HTTPSPort != DefaultHTTPSPort {
		out.Port = o.HTTPSPort
	}
	return out
}
