package translate

import (
	"bytes"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"testing"

	gatewayv1 "sigs.k8s.io/gateway-api/apis/v1"

	"rauta.io/rauta/proxy/config"
)

// bystanders is the namespace of objects that have nothing to do with those that a test spoils.
const bystanders = "bystanders"

// TestASpoiltObjectHurtsNobodyElseAndItsOwnerIsTold changes every text field of every kind of object to every hostile value
// (the classes of defects in other controllers that this is about are CVE-2021-25742, CVE-2023-5044, CVE-2025-1097,
// CVE-2025-1098, CVE-2025-24514, CVE-2026-1580, CVE-2026-24512, CVE-2026-3288 and CVE-2026-29777).
func TestASpoiltObjectHurtsNobodyElseAndItsOwnerIsTold(t *testing.T) {
	good, _ := loadCase(t, "testdata/fuzz/bystanders")
	spoilt, opt := loadCase(t, "testdata/fuzz/every-text-field")
	all := together(good, spoilt)
	want := Translate(all, opt)
	wantBystanders, wantTexts, wantTold := partOf(t, want), texts(t, want), told(t, want)
	if len(wantBystanders) < 1000 {
		t.Fatalf("the bystanders are not served:\n%s", wantBystanders)
	}
	silent := map[string]string{}
	tried, fields := 0, 0
	eachText("", reflect.ValueOf(spoilt), func(where string, set func(string), original string) {
		fields++
		for i, bad := range hostile {
			if !sampled(fields + i) {
				continue
			}
			value := bad
			if i%2 == 1 {
				value = original + bad
			}
			if value == "" {
				continue // the default is not hostile
			}
			set(value)
			tried++
			got := Translate(all, opt)
			if part := partOf(t, got); !bytes.Equal(part, wantBystanders) {
				t.Errorf("%s: %q changes what is served for others:\n%s", where, value, part)
			}
			now := texts(t, got)
			if !quietly(where) && lost(wantTexts, now) && !has(now, value) && bytes.Equal(told(t, got), wantTold) {
				silent[where] = value
			}
		}
		set(original)
	})
	if tried < 2500 && !raceEnabled {
		t.Errorf("only %d values were tried", tried)
	}
	for where, value := range silent {
		t.Errorf("%s: %q: something is not served any more, and no condition and no problem says so", where, value)
	}
}

// quietly reports whether a field may change without anybody being told.
func quietly(where string) bool {
	return strings.HasPrefix(where, ".endpointSlices") || // it belongs to nothing of ours then
		strings.Contains(where, ".method.") || strings.HasSuffix(where, "/hash-on") // a valid value has another form in the configuration
}

// lost reports whether something is missing that was there.
func lost(before, now map[string]string) bool {
	for text := range before {
		if _, still := now[text]; !still {
			return true
		}
	}
	return false
}

// has reports whether a value is part of a configuration.
func has(texts map[string]string, value string) bool {
	for text := range texts {
		if value != "" && strings.Contains(strings.ToLower(text), strings.ToLower(value)) {
			return true
		}
	}
	return false
}

// told is everything that users are told.
func told(t *testing.T, r *Result) []byte {
	return append(encode(t, r.Statuses), encode(t, r.Problems)...)
}

// partOf is what a result has for the bystanders: configuration, endpoints, statuses and problems.
func partOf(t *testing.T, r *Result) []byte {
	part := Result{Config: &config.Config{}, Endpoints: config.Endpoints{}}
	mine := func(name string) bool { return strings.Contains("/"+name, "/"+bystanders+"/") }
	for _, l := range r.Config.Listeners {
		l.Attached = slices.DeleteFunc(slices.Clone(l.Attached), func(a config.Attachment) bool { return !mine(a.Route) })
		if mine(l.Name) || len(l.Attached) > 0 {
			part.Config.Listeners = append(part.Config.Listeners, l)
		}
	}
	for _, route := range r.Config.Routes {
		if mine(route.Name) {
			part.Config.Routes = append(part.Config.Routes, route)
		}
	}
	for _, route := range r.Config.L4Routes {
		if mine(route.Name) {
			part.Config.L4Routes = append(part.Config.L4Routes, route)
		}
	}
	for _, c := range r.Config.Clusters {
		if mine(c.Name) {
			part.Config.Clusters = append(part.Config.Clusters, c)
			part.Endpoints[c.Name] = r.Endpoints[c.Name]
		}
	}
	for _, g := range r.Statuses.Gateways {
		if g.Namespace == bystanders {
			part.Statuses.Gateways = append(part.Statuses.Gateways, g)
		}
	}
	for _, route := range allRoutes(&r.Statuses) {
		if route.Namespace == bystanders {
			part.Statuses.HTTPRoutes = append(part.Statuses.HTTPRoutes, route)
		}
	}
	for _, i := range r.Statuses.Ingresses {
		if i.Namespace == bystanders {
			part.Statuses.Ingresses = append(part.Statuses.Ingresses, i)
		}
	}
	for _, p := range r.Problems {
		if p.Object.Namespace == bystanders {
			part.Problems = append(part.Problems, p)
		}
	}
	return encode(t, part)
}

// together joins objects; they stay those that they are.
func together(a, b *Objects) *Objects {
	out := &Objects{}
	to := reflect.ValueOf(out).Elem()
	for i := range to.NumField() {
		to.Field(i).Set(reflect.AppendSlice(reflect.ValueOf(a).Elem().Field(i), reflect.ValueOf(b).Elem().Field(i)))
	}
	return out
}

// TestNoReferenceCrossesNamespacesWithoutAGrant: what is granted is taken away, and with it everything that came of it
// (CVE-2026-53718, CVE-2026-71325, CVE-2026-65601, CVE-2026-41174, CVE-2026-54761).
func TestNoReferenceCrossesNamespacesWithoutAGrant(t *testing.T) {
	for _, dir := range caseDirs(t) {
		objects, opt := loadCase(t, dir)
		if len(objects.ReferenceGrants) == 0 {
			continue
		}
		granting := map[string]bool{}
		for _, g := range objects.ReferenceGrants {
			granting[g.Namespace] = true
		}
		objects.ReferenceGrants = nil
		got := Translate(objects, opt)
		for _, route := range got.Config.Routes {
			for _, rule := range route.Rules {
				for _, cluster := range clustersOf(&rule) {
					if from, to := route.Source.Namespace, namespaceOf(cluster); to != "" && to != from {
						t.Errorf("%s: %s leads to %s without a grant", dir, route.Name, cluster)
					}
				}
			}
		}
		for _, route := range got.Config.L4Routes {
			for _, b := range route.Backends {
				if from, to := route.Source.Namespace, namespaceOf(b.Cluster); to != "" && to != from {
					t.Errorf("%s: %s leads to %s without a grant", dir, route.Name, b.Cluster)
				}
			}
		}
		for _, l := range got.Config.Listeners {
			if l.TLS == nil || strings.HasPrefix(l.Name, "ingress") {
				continue
			}
			from := namespaceOf(strings.TrimPrefix(l.Name, "listenerset/"))
			for _, c := range l.TLS.Certificates {
				if to := namespaceOf(c); to != from && granting[to] {
					t.Errorf("%s: listener %s has the certificate %s without a grant", dir, l.Name, c)
				}
			}
		}
	}
}

// clustersOf are those that requests of a rule, or copies of them, are sent to.
func clustersOf(rule *config.Rule) (all []string) {
	filters := slices.Clone(rule.Filters)
	for _, b := range rule.Backends {
		all = append(all, b.Cluster)
		filters = append(filters, b.Filters...)
	}
	for _, f := range filters {
		if f.Mirror != nil {
			all = append(all, f.Mirror.Cluster)
		}
	}
	return all
}

// TestFiltersOfABackEndStayWithTheRouteThatHasThem: several routes, and rules of one, lead to the same port of the same
// Service (CVE-2026-54765).
func TestFiltersOfABackEndStayWithTheRouteThatHasThem(t *testing.T) {
	objects, opt := loadCase(t, "testdata/gateway/http-listener")
	plain := objects.HTTPRoutes[0]
	plain.Spec.Rules[0].BackendRefs = plain.Spec.Rules[0].BackendRefs[:1]
	edited := plain.DeepCopy()
	plain.Name, edited.Name = "a-plain", "b-edited"
	edited.Spec.Rules[0].BackendRefs[0].Filters = []gatewayv1.HTTPRouteFilter{{Type: gatewayv1.HTTPRouteFilterRequestHeaderModifier,
		RequestHeaderModifier: &gatewayv1.HTTPHeaderFilter{Set: []gatewayv1.HTTPHeader{{Name: "X-Tenant", Value: "b"}}}}}
	second := plain.Spec.Rules[0].DeepCopy()
	path := "/second"
	second.Matches = []gatewayv1.HTTPRouteMatch{{Path: &gatewayv1.HTTPPathMatch{Value: &path}}}
	edited.Spec.Rules = append(edited.Spec.Rules[:1], *second)
	last := plain.DeepCopy()
	last.Name = "c-plain"
	objects.HTTPRoutes = []*gatewayv1.HTTPRoute{plain, edited, last}

	found, clusters := map[string]int{}, map[string]bool{}
	for _, route := range Translate(objects, opt).Config.Routes {
		for i, rule := range route.Rules {
			if len(rule.Filters) > 0 || len(rule.Backends) != 1 {
				t.Fatalf("%s has the rule %+v", route.Source.Name, rule)
			}
			found[fmt.Sprint(route.Source.Name, i)] = len(rule.Backends[0].Filters)
			clusters[rule.Backends[0].Cluster] = true
		}
	}
	want := map[string]int{"a-plain0": 0, "b-edited0": 1, "b-edited1": 0, "c-plain0": 0}
	for name, filters := range want {
		if got, there := found[name]; got != filters || !there {
			t.Errorf("rule %s has %d filters of its back end, want %d: %v", name, got, filters, found)
		}
	}
	if len(clusters) != 1 {
		t.Errorf("the test sees nothing: the clusters are %v", clusters)
	}
}

func namespaceOf(name string) string {
	namespace, _, _ := strings.Cut(name, "/")
	return namespace
}

// TestNamesWithSeparatorsMakeNoTwoObjectsOne: a/b-c is not a-b/c, in no identity (CVE-2026-71327, CVE-2026-54765).
func TestNamesWithSeparatorsMakeNoTwoObjectsOne(t *testing.T) {
	objects, opt := loadCase(t, "testdata/fuzz/bystanders")
	copies := []*Objects{}
	for _, names := range [][2]string{{"a", "b-c"}, {"a-b", "c"}, {"a", "b.c"}, {"a-b-c", "a"}, {"a", "b-c-http"}} {
		one, _ := loadCase(t, "testdata/fuzz/bystanders")
		eachText("", reflect.ValueOf(one), func(_ string, set func(string), original string) {
			switch original {
			case bystanders:
				set(names[0])
			case "quiet", "web", "calls", "raw", "old":
				set(names[1])
			}
		})
		for _, g := range one.Gateways {
			g.Spec.GatewayClassName = bystanders
		}
		one.GatewayClasses = nil
		copies = append(copies, one)
	}
	for _, one := range copies {
		objects = together(objects, one)
	}
	got := Translate(objects, opt)
	seen := map[string]string{}
	once := func(kind, name string) {
		if seen[kind+" "+name] != "" {
			t.Errorf("two objects are %s %q", kind, name)
		}
		seen[kind+" "+name] = name
	}
	for _, r := range got.Config.Routes {
		once("route", r.Name)
	}
	for _, r := range got.Config.L4Routes {
		once("L4 route", r.Name)
	}
	for _, c := range got.Config.Clusters {
		once("cluster", c.Name)
	}
	for _, l := range got.Config.Listeners {
		once("listener", l.Name)
	}
	if want := 4 * (len(copies) + 1); len(got.Config.Routes)+len(got.Config.L4Routes) != want {
		t.Errorf("%d routes, want %d: %s", len(got.Config.Routes)+len(got.Config.L4Routes), want, fmt.Sprint(seen))
	}
}
