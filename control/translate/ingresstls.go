package translate

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"

	networkingv1 "k8s.io/api/networking/v1"

	"rauta.io/rauta/proxy/config"
)

// ingressTLSListener is the config.Listener of the hosts that Ingresses have certificates for.
const ingressTLSListener = "ingress-https"

// ingressHosts are the hosts of the tls sections of all Ingresses; "" stands for every host.
type ingressHosts map[string]*ingressHost

// ingressHost is who decides about the certificates of a host: the oldest Ingress that has a usable one.
type ingressHost struct {
	owner        *networkingv1.Ingress
	certificates []*certificate
	clients      *config.ClientAuth // what is asked of its clients
}

// ingressTLS reads the tls sections, the oldest Ingress first.
func (t *translator) ingressTLS(ours []*networkingv1.Ingress) ingressHosts {
	hosts := ingressHosts{}
	byAge := slices.Clone(ours)
	slices.SortStableFunc(byAge, func(a, b *networkingv1.Ingress) int { return cmp.Compare(created(a), created(b)) })
	for _, o := range byAge {
		report := t.reporter("Ingress", o)
		if t.opt.WithoutTLS && len(o.Spec.TLS) > 0 {
			report.warnf("spec.tls", "run RAUTA with the loop engine", "HTTPS is not supported by this engine; the hosts are served over HTTP only")
			continue
		}
		for i := range o.Spec.TLS {
			t.ingressSection(hosts, o, report, i)
		}
	}
	return hosts
}

func (t *translator) ingressSection(hosts ingressHosts, o *networkingv1.Ingress, report reporter, i int) {
	section := &o.Spec.TLS[i]
	field := fmt.Sprintf("spec.tls[%d]", i)
	if section.SecretName == "" {
		report.warnf(field+".secretName", certificateHint, "the section names no Secret and has no effect")
		return
	}
	k := key{o.Namespace, section.SecretName}
	c := t.certificate(k)
	if c.failure != "" {
		report.errorf(field+".secretName", certificateHint, "Secret %s/%s %s; the hosts are not served over HTTPS", k.namespace, k.name, c.failure)
	}
	claim := func(field, host string) {
		if c.failure == "" {
			reportDefects(report, field, k, c, host)
		}
		hosts.claim(o, report, field, host, c)
	}
	for j, host := range section.Hosts {
		where := fmt.Sprintf("%s.hosts[%d]", field, j)
		if problem := hostnameError(host, true); problem != "" {
			report.errorf(where, "write a name such as www.example.com or *.example.com", "the host %q %s; it is left out", host, problem)
			continue
		}
		claim(where, host)
	}
	if len(section.Hosts) == 0 {
		for _, host := range hostsOfRules(o) {
			claim(field, host)
		}
	}
}

// hostsOfRules are the hosts of a tls section that names none: those of the Ingress.
func hostsOfRules(o *networkingv1.Ingress) []string {
	var names []string
	if o.Spec.DefaultBackend != nil {
		names = append(names, "")
	}
	for i := range o.Spec.Rules {
		if host := o.Spec.Rules[i].Host; host == "" || hostnameError(host, true) == "" {
			names = append(names, host)
		}
	}
	slices.Sort(names)
	return slices.Compact(names)
}

// claim gives a host a certificate. A Secret that can't be used still makes the host one of HTTPS, where it is refused,
// unless another Ingress has a certificate for it.
func (h ingressHosts) claim(o *networkingv1.Ingress, report reporter, field, name string, c *certificate) {
	entry := h[name]
	if entry == nil {
		entry = &ingressHost{}
		h[name] = entry
	}
	switch {
	case c.failure != "" || slices.Contains(entry.certificates, c):
	case entry.owner == nil || entry.owner == o:
		entry.owner = o
		entry.certificates = append(entry.certificates, c)
	default:
		report.warnf(field, "name the host in one Ingress only", "the older Ingress %s/%s has another certificate for the host %q; this one is not used",
			entry.owner.Namespace, entry.owner.Name, name)
	}
}

// serve reports whether requests for host, which may be a wildcard or "", can come over HTTPS.
func (h ingressHosts) serve(host string) bool {
	if len(h) == 0 {
		return false
	}
	if host == "" || h[host] != nil || h[""] != nil {
		return true
	}
	if strings.HasPrefix(host, "*") {
		for name := range h {
			if covers(host, name) || covers(name, host) {
				return true
			}
		}
		return false
	}
	for rest := host; ; {
		_, parent, found := strings.Cut(rest, ".")
		if !found {
			return false
		}
		if h["*."+parent] != nil {
			return true
		}
		rest = parent
	}
}

// compile returns how the listener of the hosts terminates TLS.
func (h ingressHosts) compile() *config.TLS {
	tls := &config.TLS{}
	for _, name := range slices.Sorted(maps.Keys(h)) {
		var certificates []string
		for _, c := range h[name].certificates {
			certificates = append(certificates, c.use())
		}
		if name == "" {
			tls.Certificates, tls.ClientAuth = certificates, h[name].clients
		} else {
			tls.Hosts = append(tls.Hosts, config.TLSHost{Hostname: name, Certificates: certificates, ClientAuth: h[name].clients})
		}
	}
	return tls
}
