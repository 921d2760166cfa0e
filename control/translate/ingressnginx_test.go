package translate

import (
	"slices"
	"testing"

	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

func nginxIngress(annotations map[string]string) *networkingv1.Ingress {
	o := &networkingv1.Ingress{ObjectMeta: metav1.ObjectMeta{Annotations: map[string]string{}}}
	for name, value := range annotations {
		o.Annotations[name] = value
	}
	return o
}

func TestWhatKeepsRequestsOutInIngressNginxIsNotPassedOver(t *testing.T) {
	for name, c := range map[string]struct {
		annotations map[string]string
		refused     string // the restriction, "" for none
	}{
		"nothing":                      {map[string]string{"rauta.io/hsts": "max-age=1"}, ""},
		"external authentication":      {map[string]string{nginxPrefix + "auth-url": "http://x"}, "auth-url"},
		"passwords":                    {map[string]string{nginxPrefix + "auth-type": "basic", nginxPrefix + "auth-secret": "s"}, "auth-type"},
		"a list of addresses":          {map[string]string{nginxPrefix + "whitelist-source-range": "10.0.0.0/8"}, "whitelist-source-range"},
		"an empty list":                {map[string]string{nginxPrefix + "whitelist-source-range": " "}, ""},
		"client certificates":          {map[string]string{nginxPrefix + "auth-tls-secret": "a/b"}, "auth-tls-secret"},
		"client certificates, off":     {map[string]string{nginxPrefix + "auth-tls-secret": "a/b", nginxPrefix + "auth-tls-verify-client": "off"}, ""},
		"client certificates, ours":    {map[string]string{nginxPrefix + "auth-tls-secret": "a/b", annotationClientCA: "secret/b"}, ""},
		"a firewall":                   {map[string]string{nginxPrefix + "enable-modsecurity": "true"}, "enable-modsecurity"},
		"no firewall":                  {map[string]string{nginxPrefix + "enable-modsecurity": "false"}, ""},
		"another tree of the back end": {map[string]string{nginxPrefix + "rewrite-target": "/public/$1"}, "rewrite-target"},
		"TLS to the back end":          {map[string]string{nginxPrefix + "backend-protocol": "HTTPS"}, "backend-protocol"},
		"plain text to it":             {map[string]string{nginxPrefix + "backend-protocol": "http"}, ""},
		"a snippet that denies":        {map[string]string{nginxPrefix + "configuration-snippet": "add_header A b; deny all;"}, "configuration-snippet"},
		"one in a block":               {map[string]string{nginxPrefix + "configuration-snippet": "add_header A b;\nif ($x) { return 403; }"}, "configuration-snippet"},
		"one behind a comment":         {map[string]string{nginxPrefix + "configuration-snippet": "# add_header\ndeny all;"}, "configuration-snippet"},
		"one without the semicolon":    {map[string]string{nginxPrefix + "configuration-snippet": "deny all"}, "configuration-snippet"},
		"a harmless snippet":           {map[string]string{nginxPrefix + "configuration-snippet": "# x\nadd_header A b;\n\nproxy_read_timeout 5s;\n"}, ""},
	} {
		var got []string
		for _, r := range nginxAsks(nginxIngress(c.annotations)).by {
			got = append(got, r.name)
		}
		var want []string
		if c.refused != "" {
			want = []string{c.refused}
		}
		if !slices.Equal(got, want) {
			t.Errorf("%s: refused for %v, want %v", name, got, want)
		}
	}
}

func TestAnnotationsOfIngressNginxThatHaveOursBesideThemAreNotReported(t *testing.T) {
	ask := nginxAsks(nginxIngress(map[string]string{
		nginxPrefix + "proxy-body-size": "8m", annotationMaxBodySize: "8Mi", nginxPrefix + "ssl-redirect": "false", nginxPrefix + "app-root": "/x",
	}))
	if want := []string{"app-root", "ssl-redirect (here " + annotationSSLRedirect + ")"}; !slices.Equal(ask.ignored, want) {
		t.Errorf("ignored %q, want %q", ask.ignored, want)
	}
}

// TestWhatTheTableNamesIsThere: a hint that leads nowhere is worse than none.
func TestWhatTheTableNamesIsThere(t *testing.T) {
	known := map[string]bool{}
	for _, a := range Annotations() {
		known[a.Name] = true
	}
	for short, instead := range nginxInstead {
		if name, _, ours := cutOurs(instead); ours && !known[name] {
			t.Errorf("%s leads to %s, which is no annotation", short, name)
		}
	}
	for _, r := range nginxRestrictions {
		if r.instead != "" && !known[r.instead] {
			t.Errorf("%s leads to %s, which is no annotation", r.name, r.instead)
		}
	}
}
