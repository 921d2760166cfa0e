package translate

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"rauta.io/rauta/proxy/certs"
	"rauta.io/rauta/proxy/config"
)

func encode(tb testing.TB, v any) []byte {
	text, err := json.Marshal(v)
	if err != nil {
		tb.Fatal(err)
	}
	return text
}

func TestShuffledInputGivesIdenticalBytes(t *testing.T) {
	for _, dir := range caseDirs(t) {
		objects, opt := loadCase(t, dir)
		want := encode(t, Translate(objects, opt))
		random := rand.New(rand.NewPCG(1, 2))
		for range 5 {
			shuffle(random, objects)
			if got := encode(t, Translate(objects, opt)); !bytes.Equal(got, want) {
				t.Fatalf("%s: another order of the objects gives\n%s\ninstead of\n%s", dir, got, want)
			}
		}
	}
}

func shuffle(random *rand.Rand, o *Objects) {
	mix := func(n int, swap func(i, j int)) { random.Shuffle(n, swap) }
	mix(len(o.GatewayClasses), swapper(o.GatewayClasses))
	mix(len(o.Gateways), swapper(o.Gateways))
	mix(len(o.ListenerSets), swapper(o.ListenerSets))
	mix(len(o.HTTPRoutes), swapper(o.HTTPRoutes))
	mix(len(o.GRPCRoutes), swapper(o.GRPCRoutes))
	mix(len(o.TLSRoutes), swapper(o.TLSRoutes))
	mix(len(o.TCPRoutes), swapper(o.TCPRoutes))
	mix(len(o.UDPRoutes), swapper(o.UDPRoutes))
	mix(len(o.ReferenceGrants), swapper(o.ReferenceGrants))
	mix(len(o.Ingresses), swapper(o.Ingresses))
	mix(len(o.IngressClasses), swapper(o.IngressClasses))
	mix(len(o.Services), swapper(o.Services))
	mix(len(o.EndpointSlices), swapper(o.EndpointSlices))
	mix(len(o.Namespaces), swapper(o.Namespaces))
	mix(len(o.Secrets), swapper(o.Secrets))
	mix(len(o.ConfigMaps), swapper(o.ConfigMaps))
	mix(len(o.BackendTLSPolicies), swapper(o.BackendTLSPolicies))
}

func swapper[T any](list []T) func(i, j int) {
	return func(i, j int) { list[i], list[j] = list[j], list[i] }
}

func TestTheInputIsNeverChanged(t *testing.T) {
	for _, dir := range caseDirs(t) {
		objects, opt := loadCase(t, dir)
		before := encode(t, objects)
		result := Translate(objects, opt)
		for _, r := range allRoutes(&result.Statuses) { // what comes out shares nothing with what went in
			for _, parent := range r.Parents {
				if p := parent.ParentRef.SectionName; p != nil {
					*p = "changed"
				}
			}
		}
		if after := encode(t, objects); !bytes.Equal(before, after) {
			t.Errorf("%s: the objects were\n%s\nand now are\n%s", dir, before, after)
		}
	}
}

// whole fails the test if the data plane would refuse any part of a configuration.
func whole(t *testing.T, what string, c *config.Config) {
	t.Helper()
	for _, err := range config.Validate(c) {
		t.Errorf("%s: the configuration is not valid: %v", what, err)
	}
	for _, r := range c.Routes {
		for _, rule := range r.Rules {
			for _, m := range rule.Matches {
				patterns := []string{}
				if m.Path.Kind == config.PathRegex || m.Path.Kind == config.PathGRPC {
					patterns = append(patterns, m.Path.Value)
				}
				for _, v := range append(m.Headers, m.Query...) {
					if v.Regex {
						patterns = append(patterns, v.Value)
					}
				}
				for _, p := range patterns {
					if _, err := regexp.Compile(p); err != nil {
						t.Errorf("%s: %v", what, err)
					}
				}
			}
		}
	}
}

func TestEveryConfigurationIsOneThatTheDataPlaneTakes(t *testing.T) {
	for _, dir := range caseDirs(t) {
		objects, opt := loadCase(t, dir)
		c := Translate(objects, opt).Config
		whole(t, dir, c)
		store, errs := certs.NewStore(new(certs.Store), c.Certificates)
		for i := range c.Clusters {
			if tls := c.Clusters[i].TLS; tls != nil {
				if _, err := certs.NewClient(nil, store, tls); err != nil {
					t.Errorf("%s: cluster %s: %v", dir, c.Clusters[i].Name, err)
				}
			}
		}
		if errors.Join(errs...) != nil {
			t.Errorf("%s: %v", dir, errs)
		}
	}
}

func TestConditionsAreOnesThatTheAPIServerTakes(t *testing.T) {
	reason := regexp.MustCompile(`^[A-Za-z]([A-Za-z0-9_,:]*[A-Za-z0-9_])?$`)
	check := func(dir string, list []metav1.Condition) {
		seen := map[string]bool{}
		for _, c := range list {
			if !reason.MatchString(c.Reason) || seen[c.Type] || !c.LastTransitionTime.IsZero() {
				t.Errorf("%s: bad condition %+v", dir, c)
			}
			seen[c.Type] = true
		}
	}
	for _, dir := range caseDirs(t) {
		objects, opt := loadCase(t, dir)
		s := Translate(objects, opt).Statuses
		for _, c := range s.GatewayClasses {
			check(dir, c.Status.Conditions)
		}
		for _, g := range s.Gateways {
			check(dir, g.Status.Conditions)
			for _, l := range g.Status.Listeners {
				check(dir, l.Conditions)
			}
		}
		for _, set := range s.ListenerSets {
			check(dir, set.Status.Conditions)
			for _, l := range set.Status.Listeners {
				check(dir, l.Conditions)
			}
		}
		for _, r := range allRoutes(&s) {
			for _, p := range r.Parents {
				check(dir, p.Conditions)
			}
		}
	}
}

// hostile are values that break out of templates, lines, strings and patterns.
var hostile = []string{
	`"`, "`", `}`, `;`, "\n", "\nprobe", " probe", "\r\nX: y", "$", "$(id)", "${jndi}", "\x00", "'", `\`, "{{.}}", "#", "%", "%2e%2e", "../..", "//",
	" ", "\t", "é", "\u2028", "a\x7f", "*", "?", "|", "<x>", "-- ", "&", "%00", "a:b", "a/b", "a@b", "A", "_", "",
	strings.Repeat("a", 300), strings.Repeat("(a{1000}){1000}", 2), "(", "(?P<a>", `\Q`, `\Qa`, "a)(b",
}

func TestHostileTextReachesTheConfigurationUnchangedOrNotAtAll(t *testing.T) {
	objects, opt := loadCase(t, "testdata/fuzz/every-text-field")
	known := texts(t, Translate(objects, opt))
	for _, reason := range []string{reasonInvalidFilter, reasonInvalidRule, reasonUnsupportedFilter, reasonUnsupportedAnnotation, invalidKind,
		invalidNotFound, invalidNotPermitted, invalidProtocol, invalidExternalName, "0", string(config.HashSourceIP)} { // and defaults
		known[reason] = ""
	}
	fields, reached := 0, 0
	eachText("", reflect.ValueOf(objects), func(where string, set func(string), original string) {
		fields++
		for i, bad := range hostile {
			if !sampled(fields + i) {
				continue
			}
			for _, value := range []string{bad, original + bad} {
				set(value)
				r := Translate(objects, opt)
				whole(t, fmt.Sprintf("%s=%q", where, value), r.Config)
				for got, at := range texts(t, r) {
					if _, before := known[got]; before {
						continue
					}
					reached++
					if !faithful(where, at, value, got) {
						t.Errorf("%s: %q became %q at %s", where, value, got, at)
					}
				}
			}
		}
		set(original)
	})
	if fields < 60 || reached < 1000 && !raceEnabled {
		t.Errorf("only %d text fields were tried, and %d values reached the configuration", fields, reached)
	}
}

// sampled reports whether one of many inputs is tried: with the race detector every eighth.
func sampled(n int) bool { return !raceEnabled || n%8 == 0 }

// texts returns every string of a configuration, with a place where it is.
func texts(t *testing.T, r *Result) map[string]string {
	t.Helper()
	found := map[string]string{}
	collect := func(at string, _ func(string), got string) { found[got] = at }
	eachText("config", reflect.ValueOf(r.Config), collect)
	for cluster, endpoints := range r.Endpoints {
		found[cluster] = "endpoints.name"
		eachText("endpoints", reflect.ValueOf(endpoints), collect)
	}
	return found
}

// faithful: a string of the configuration that was not there before is what was written, or a name made of it, or one
// of the few values with a form of their own.
func faithful(where, at, value, got string) bool {
	switch {
	case got == value:
		return true
	case strings.Contains(at, "headers") && got == strings.ToLower(value): // names of header matches
		return true
	case strings.Contains(at, "hashOn"):
		return strings.Contains(where, "annotations") && strings.HasSuffix(value, got)
	case strings.HasSuffix(at, ".name"), strings.HasSuffix(at, ".route"), strings.HasSuffix(at, ".cluster"):
		return strings.Contains(got, value) // identities
	case strings.Contains(at, "imeout"): // the default, or another way to write the duration
		return strings.Contains(where, "imeout")
	case strings.Contains(where, ".method.") && strings.HasSuffix(at, "path.value"): // service and method in one path
		return strings.Contains(got, value) || strings.Contains(value, `\Q`)
	case strings.Contains(at, "hostnames"): // the intersection of what was written with what stands beside it
		return strings.Contains(where, "ostname") && got == ""
	}
	return false
}

// eachText calls f for every string below v, with a function that changes it.
func eachText(where string, v reflect.Value, f func(where string, set func(string), original string)) {
	switch v.Kind() {
	case reflect.Pointer:
		if !v.IsNil() {
			eachText(where, v.Elem(), f)
		}
	case reflect.Struct:
		for i := range v.NumField() {
			if field := v.Type().Field(i); field.IsExported() {
				eachText(where+"."+strings.ToLower(field.Name[:1])+field.Name[1:], v.Field(i), f)
			}
		}
	case reflect.Slice:
		for i := range v.Len() {
			if v.Type().Elem().Kind() == reflect.Uint8 {
				return
			}
			eachText(fmt.Sprintf("%s[%d]", where, i), v.Index(i), f)
		}
	case reflect.Map:
		for _, k := range v.MapKeys() {
			if v.Type().Elem().Kind() == reflect.String {
				f(where+"."+k.String(), func(s string) { v.SetMapIndex(k, reflect.ValueOf(s).Convert(v.Type().Elem())) }, v.MapIndex(k).String())
			}
		}
	case reflect.String:
		f(where, v.SetString, v.String())
	}
}

func TestNothingOfASecretComesOut(t *testing.T) {
	objects, opt := loadCase(t, "testdata/gateway/certificate-refs")
	for _, s := range objects.Secrets {
		s.Type = corev1.SecretTypeTLS
		s.Data = map[string][]byte{"tls.crt": []byte("confidential"), "tls.key": []byte("confidential")}
		s.StringData = nil
	}
	if out := encode(t, Translate(objects, opt)); bytes.Contains(out, []byte("confidential")) || !bytes.Contains(out, []byte("has no PEM data")) {
		t.Errorf("a Secret shows, or its defect doesn't:\n%s", out)
	}
}

// allRoutes are the statuses of the routes of every kind.
func allRoutes(s *Statuses) []*RouteStatus {
	return slices.Concat(s.HTTPRoutes, s.GRPCRoutes, s.TLSRoutes, s.TCPRoutes, s.UDPRoutes)
}
