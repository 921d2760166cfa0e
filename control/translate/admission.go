package translate

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"rauta.io/rauta/proxy/config"
)

// The API server can refuse what Translate would have to report: in the moment in which somebody writes it, and without a
// webhook that could be away. ValidatingAdmissionPolicies are expressions of CEL. They are in the table of annotations, so
// that what they are about cannot drift; test/cluster compares what they and validate say about values.
//
// In these expressions @ stands for the value.
const (
	celObject    = `[a-z0-9]([a-z0-9-]*[a-z0-9])?(\\.[a-z0-9]([a-z0-9-]*[a-z0-9])?)*`
	celName      = `@.size() <= 253 && @.matches("^` + celObject + `$")`
	celAuthority = `@.size() <= 263 && @.matches("^(configmap|secret)/` + celObject + `$")`
	celHostname  = celName + ` && @.split(".").all(label, label.size() <= 63) && !isIP(@)`
	celBytes     = `isQuantity(@) && quantity(@).isInteger() && quantity(@).asInteger() >= 0`
	celHashOn    = `@ in ["source-ip", "path"] || @.matches("^(header|cookie):[!#$%&'*+.^_` + "`" + `|~0-9A-Za-z-]{1,256}$")`
	celCIDRs     = `@.split(",").size() <= 64 && @.split(",").all(c, isCIDR(c.trim()) && cidr(c.trim()) == cidr(c.trim()).masked())`

	// celAge is a number up to ten years of seconds.
	celAge  = `0*([0-9]{1,8}|[12][0-9]{8}|3(0[0-9]{7}|1[0-5][0-9]{6}|16([01][0-9]{5}|2([01][0-9]{4}|2([0-3][0-9]{3}|4000)))))`
	celHSTS = `@.split(";").all(p, p.matches("(?i)^\\s*(max-age\\s*=\\s*\"?` + celAge + `\"?|includesubdomains|preload)\\s*$"))` +
		` && @.split(";").filter(p, p.lowerAscii().contains("max-age")).size() == 1` +
		` && ["includesubdomains", "preload"].all(n, @.split(";").filter(p, p.lowerAscii().contains(n)).size() <= 1)`
)

func celFacts() string {
	var facts []string
	for _, f := range config.ClientFacts() {
		facts = append(facts, string(f))
	}
	return `@.split(",").all(f, f.trim() in ` + celList(facts) + `)`
}

func celOneOf(values ...string) string { return "@ in " + celList(values) }

func celList(values []string) string {
	quoted := make([]string, len(values))
	for i, v := range values {
		quoted[i] = strconv.Quote(v)
	}
	return "[" + strings.Join(quoted, ", ") + "]"
}

func celNumber(least, most int) string {
	return fmt.Sprintf(`@.matches("^[-+]?[0-9]{1,18}$") && int(@) >= %d && int(@) <= %d`, least, most)
}

func celDuration(none bool) string {
	const grammar = `@.matches("^[-+]?(0|(([0-9]+(\\.[0-9]*)?|\\.[0-9]+)(ns|us|µs|μs|ms|s|m|h))+)$")`
	within := `duration(@) >= duration("1ms") && duration(@) <= duration("24h")`
	if none {
		within = `(duration(@) == duration("0s") || ` + within + `)`
	}
	return grammar + " && " + within
}

// admissionHead is what both policies begin with. Only what a request changes is looked at: an object from before the
// policies can still be changed in other respects, by its finalizers for one.
// Defaults of lists stand there in so many words, or every kubectl apply would find a difference.
const admissionHead = `---
apiVersion: admissionregistration.k8s.io/v1
kind: ValidatingAdmissionPolicy
metadata:
  name: %[1]s
  labels: {app.kubernetes.io/name: rauta}
spec:
  failurePolicy: Fail
  matchConstraints:
    resourceRules:
    - {apiGroups: [""], apiVersions: ["*"], operations: [CREATE, UPDATE], resources: [services], scope: "*"}
    - {apiGroups: [networking.k8s.io], apiVersions: ["*"], operations: [CREATE, UPDATE], resources: [ingresses], scope: "*"}
    - apiGroups: [gateway.networking.k8s.io]
      apiVersions: ["*"]
      operations: [CREATE, UPDATE]
      resources: [gateways, grpcroutes, httproutes, tcproutes, tlsroutes, udproutes]
      scope: "*"
  matchConditions:
  - name: has-annotations-of-rauta
    expression: object.metadata.?annotations.orValue({}).exists(k, k.startsWith("rauta.io/"))
  variables:
  - name: annotations
    expression: object.metadata.annotations
  - name: before
    expression: "oldObject == null ? {} : oldObject.metadata.?annotations.orValue({})"
  - name: changed
    expression: >-
      variables.annotations.filter(k, k.startsWith("rauta.io/") &&
      !(k in variables.before && variables.before[k] == variables.annotations[k]))
`

// admissionBinding puts a policy into force.
const admissionBinding = `---
apiVersion: admissionregistration.k8s.io/v1
kind: ValidatingAdmissionPolicyBinding
metadata:
  name: %[1]s
  labels: {app.kubernetes.io/name: rauta}
spec:
  policyName: %[1]s
  validationActions: [%[2]s]
`

// AdmissionPolicies is deploy/base/admission.yaml.
func AdmissionPolicies() string {
	const values, names = "rauta-annotation-values", "rauta-annotation-names"
	var b strings.Builder
	b.WriteString(`# Annotations of RAUTA are checked when they are written. A value that cannot be read is refused; a name that does not exist,
# or has no effect on the kind of the object, is let in with a warning. Made from the table of control/translate: run
# "go test ./control/translate -update" to renew it.
`)
	fmt.Fprintf(&b, admissionHead+"  validations:\n", values)
	byKind := map[string][]string{}
	for _, a := range Annotations() {
		expected := strings.ReplaceAll(a.Type, "`", "")
		fmt.Fprintf(&b, "  - expression: >-\n      !(%q in variables.changed && request.kind.kind in %s) || (%s)\n    message: %s\n",
			a.Name, celList(a.Kinds), strings.ReplaceAll(a.admits, "@", "variables.annotations["+strconv.Quote(a.Name)+"]"),
			strconv.Quote("metadata.annotations["+a.Name+"] has a value that cannot be read; expected: "+expected))
		for _, kind := range a.Kinds {
			byKind[kind] = append(byKind[kind], a.Name)
		}
	}
	fmt.Fprintf(&b, admissionBinding, values, "Deny")

	fmt.Fprintf(&b, admissionHead, names)
	b.WriteString("  - name: known\n    expression: >-\n      {")
	for i, kind := range slices.Sorted(maps.Keys(byKind)) {
		if i > 0 {
			b.WriteString(",")
		}
		fmt.Fprintf(&b, "\n      %q: %s", kind, celList(byKind[kind]))
	}
	b.WriteString(`
      }[request.kind.kind]
  validations:
  - expression: variables.changed.all(k, k in variables.known)
    messageExpression: >-
      "annotations that have no effect on objects of kind " + request.kind.kind + ": " +
      variables.changed.filter(k, !(k in variables.known)).join(", ")
`)
	fmt.Fprintf(&b, admissionBinding, names, "Warn")
	return b.String()
}
