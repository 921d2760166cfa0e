package translate

import (
	"fmt"
	"math/rand/v2"
	"regexp/syntax"
	"runtime"
	"strings"
	"testing"

	gatewayv1 "sigs.k8s.io/gateway-api/apis/v1"
)

// randomPattern writes a pattern of every construct.
func randomPattern(random *rand.Rand, depth int) string {
	atoms := []string{"a", "abc", ".", "[a-z]", `\pL`, "[^x]", `\d`, "(?i:k)", "^", "$", `\b`, "", `(?:)`, "(?i:str)"}
	if depth == 0 {
		return atoms[random.IntN(len(atoms))]
	}
	one, two := func() string { return randomPattern(random, depth-1) }, random.IntN(4)
	switch random.IntN(8) {
	case 0:
		return "(?:" + one() + ")*"
	case 1:
		return "(?:" + one() + ")+?"
	case 2:
		return "(?:" + one() + ")?"
	case 3:
		return fmt.Sprintf("(?:%s){%d,%d}", one(), two, two+random.IntN(4))
	case 4:
		return fmt.Sprintf("(?:%s){%d,}", one(), two)
	case 5:
		return "(" + one() + ")"
	case 6:
		return "(?:" + one() + "|" + one() + ")"
	}
	return one() + one()
}

// sizes returns how many instructions a pattern is said to have, and how many it has.
func sizes(t *testing.T, pattern string) (said, real int) {
	t.Helper()
	parsed, err := syntax.Parse(pattern, syntax.Perl)
	if err != nil {
		t.Fatal(pattern, err)
	}
	said = instructionsOf(parsed)
	program, err := syntax.Compile(parsed.Simplify())
	if err != nil {
		t.Fatal(pattern, err)
	}
	return said, len(program.Inst)
}

func TestTheSizeOfAPatternIsKnownWithoutCompilingIt(t *testing.T) {
	random := rand.New(rand.NewPCG(3, 4))
	for range 20_000 {
		pattern := randomPattern(random, 1+random.IntN(4))
		if said, real := sizes(t, pattern); said < real {
			t.Fatalf("%q has %d instructions, %d are said", pattern, real, said)
		}
	}
	for _, pattern := range []string{`/v[0-9]+/users/([^/]+)(/.*)?`, `/(?i:static|assets|images)/.*\.(png|jpe?g|gif)`, `[a-z0-9-]{1,63}(\.[a-z0-9-]{1,63}){0,3}`,
		strings.Repeat("/a|/b/c|", 200) + "/d", `Bearer [A-Za-z0-9._~+/-]+=*`, `.*`, strings.Repeat(".*a", 1000)} {
		if said, real := sizes(t, pattern); said > real+real/10+3 {
			t.Errorf("%.40q has %d instructions, %d are said", pattern, real, said)
		}
	}
}

// TestTheRegularExpressionsOfOneRouteCostABoundedAmountTogether has as many and as large ones as a route can: compiled, they
// were a gigabyte.
func TestTheRegularExpressionsOfOneRouteCostABoundedAmountTogether(t *testing.T) {
	const bytesMax = 64 << 20
	objects, opt := loadCase(t, "testdata/gateway/http-listener")
	bad, good := objects.HTTPRoutes[0], objects.HTTPRoutes[0].DeepCopy()
	bad.Name, good.Name = "bad", "good"
	rule, number := bad.Spec.Rules[0], 0
	rule.Matches, bad.Spec.Rules = nil, nil
	dear := func() string {
		number++
		return strings.Repeat(fmt.Sprintf("[^%d]{999}", number%10), 4) + fmt.Sprint(number)
	}
	for range 16 {
		one := *rule.DeepCopy()
		for range 8 {
			kind, value := gatewayv1.PathMatchRegularExpression, "/"+dear()
			m := gatewayv1.HTTPRouteMatch{Path: &gatewayv1.HTTPPathMatch{Type: &kind, Value: &value}}
			for i := range 16 {
				header, query := gatewayv1.HeaderMatchRegularExpression, gatewayv1.QueryParamMatchRegularExpression
				name := gatewayv1.HTTPHeaderName(fmt.Sprint("x", i))
				m.Headers = append(m.Headers, gatewayv1.HTTPHeaderMatch{Type: &header, Name: name, Value: dear()})
				m.QueryParams = append(m.QueryParams, gatewayv1.HTTPQueryParamMatch{Type: &query, Name: name, Value: dear()})
			}
			one.Matches = append(one.Matches, m)
		}
		bad.Spec.Rules = append(bad.Spec.Rules, one)
	}
	last := *rule.DeepCopy()
	bad.Spec.Rules = append(bad.Spec.Rules, last)
	objects.HTTPRoutes = append(objects.HTTPRoutes, good)

	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	got := Translate(objects, opt)
	runtime.ReadMemStats(&after)
	if grown := after.TotalAlloc - before.TotalAlloc; grown > bytesMax {
		t.Errorf("%d bytes were allocated, %d are permitted", grown, bytesMax)
	}
	rules := map[string]int{}
	for _, r := range got.Config.Routes {
		rules[r.Source.Name] = len(r.Rules)
	}
	if rules["bad"] != 1 || rules["good"] != len(good.Spec.Rules) {
		t.Errorf("rules that are served: %v", rules)
	}
	for _, r := range got.Statuses.HTTPRoutes {
		text := string(encode(t, r))
		if told := strings.Contains(text, "expand to more than 20000 instructions together"); told != (r.Name == "bad") {
			t.Errorf("%s is told %.300s", r.Name, text)
		}
	}
}
