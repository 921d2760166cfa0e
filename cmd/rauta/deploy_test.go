package main

import (
	"bufio"
	"bytes"
	"errors"
	"io"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	admissionv1 "k8s.io/api/admissionregistration/v1"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	policyv1 "k8s.io/api/policy/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	utilyaml "k8s.io/apimachinery/pkg/util/yaml"
	gatewayv1 "sigs.k8s.io/gateway-api/apis/v1"
	"sigs.k8s.io/yaml"

	"rauta.io/rauta/control/translate"
	"rauta.io/rauta/internal/monitoring"
)

const deployFolder = "../../deploy"

// kustomization is what our files use of that kind.
type kustomization struct {
	metav1.TypeMeta `json:",inline"`
	Resources       []string `json:"resources"`
	Patches         []struct {
		Target map[string]string `json:"target"`
		Patch  string            `json:"patch"`
	} `json:"patches"`
	Images             []map[string]string `json:"images"`
	Namespace          string              `json:"namespace"`
	ConfigMapGenerator []struct {
		Name    string         `json:"name"`
		Files   []string       `json:"files"`
		Options map[string]any `json:"options"`
	} `json:"configMapGenerator"`
}

// podMonitor is what our file uses of that kind of the Prometheus operator.
type podMonitor struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata"`
	Spec              struct {
		Selector            metav1.LabelSelector `json:"selector"`
		PodMetricsEndpoints []struct {
			Path        string `json:"path"`
			Interval    string `json:"interval"`
			Relabelings []struct {
				Action       string   `json:"action"`
				SourceLabels []string `json:"sourceLabels"`
				Regex        string   `json:"regex"`
				Replacement  string   `json:"replacement"`
				TargetLabel  string   `json:"targetLabel"`
			} `json:"relabelings"`
		} `json:"podMetricsEndpoints"`
	} `json:"spec"`
}

// prometheusRule is the same; the rules themselves are the matter of internal/monitoring.
type prometheusRule struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata"`
	Spec              monitoring.Rules `json:"spec"`
}

// manifests decodes everything below deploy, strictly, by file.
func manifests(t *testing.T) map[string][]any {
	t.Helper()
	out := map[string][]any{}
	err := filepath.WalkDir(deployFolder, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || filepath.Ext(path) != ".yaml" {
			return err
		}
		name, err := filepath.Rel(deployFolder, path)
		if err != nil {
			return err
		}
		text, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		documents := utilyaml.NewYAMLReader(bufio.NewReader(bytes.NewReader(text)))
		for {
			document, err := documents.Read()
			if errors.Is(err, io.EOF) {
				return nil
			}
			if err != nil {
				return err
			}
			if object := decodeManifest(t, name, document); object != nil {
				out[name] = append(out[name], object)
			}
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	if len(out) < 8 {
		t.Fatalf("only %d files were found: %v", len(out), slices.Collect(maps.Keys(out)))
	}
	return out
}

func decodeManifest(t *testing.T, file string, document []byte) any {
	t.Helper()
	var head metav1.TypeMeta
	if err := yaml.Unmarshal(document, &head); err != nil {
		t.Fatalf("%s: %v", file, err)
	}
	if head.Kind == "" { // comments only
		return nil
	}
	types := map[string]any{
		"v1 Namespace": new(corev1.Namespace), "v1 Service": new(corev1.Service), "v1 ServiceAccount": new(corev1.ServiceAccount),
		"apps/v1 DaemonSet": new(appsv1.DaemonSet), "apps/v1 Deployment": new(appsv1.Deployment),
		"monitoring.coreos.com/v1 PodMonitor":                              new(podMonitor),
		"monitoring.coreos.com/v1 PrometheusRule":                          new(prometheusRule),
		"policy/v1 PodDisruptionBudget":                                    new(policyv1.PodDisruptionBudget),
		"networking.k8s.io/v1 IngressClass":                                new(networkingv1.IngressClass),
		"gateway.networking.k8s.io/v1 GatewayClass":                        new(gatewayv1.GatewayClass),
		"rbac.authorization.k8s.io/v1 ClusterRole":                         new(rbacv1.ClusterRole),
		"rbac.authorization.k8s.io/v1 ClusterRoleBinding":                  new(rbacv1.ClusterRoleBinding),
		"rbac.authorization.k8s.io/v1 Role":                                new(rbacv1.Role),
		"rbac.authorization.k8s.io/v1 RoleBinding":                         new(rbacv1.RoleBinding),
		"kustomize.config.k8s.io/v1beta1 Kustomization":                    new(kustomization),
		"kustomize.config.k8s.io/v1alpha1 Component":                       new(kustomization),
		"admissionregistration.k8s.io/v1 ValidatingAdmissionPolicy":        new(admissionv1.ValidatingAdmissionPolicy),
		"admissionregistration.k8s.io/v1 ValidatingAdmissionPolicyBinding": new(admissionv1.ValidatingAdmissionPolicyBinding),
	}
	object := types[head.APIVersion+" "+head.Kind]
	if object == nil {
		t.Fatalf("%s: the test does not know %s %s", file, head.APIVersion, head.Kind)
	}
	if err := yaml.UnmarshalStrict(document, object); err != nil {
		t.Fatalf("%s: %s: %v", file, head.Kind, err)
	}
	return object
}

func all[T any](t *testing.T) []*T {
	t.Helper()
	var out []*T
	files := manifests(t)
	for _, name := range slices.Sorted(maps.Keys(files)) {
		for _, object := range files[name] {
			if o, ok := object.(*T); ok {
				out = append(out, o)
			}
		}
	}
	if len(out) == 0 {
		t.Fatalf("there is no %s", reflect.TypeFor[T]())
	}
	return out
}

func TestEveryManifestIsPartOfAKustomization(t *testing.T) {
	files := manifests(t)
	listed := map[string]bool{}
	for name, objects := range files {
		k, ok := objects[0].(*kustomization)
		if !ok {
			continue
		}
		listed[name] = true
		for _, resource := range k.Resources {
			path := filepath.Join(filepath.Dir(name), resource)
			if _, err := os.Stat(filepath.Join(deployFolder, path)); err != nil {
				t.Errorf("%s names %s: %v", name, resource, err)
			}
			listed[path] = true
		}
	}
	for name := range files {
		if !listed[name] {
			t.Errorf("no kustomization has %s", name)
		}
	}
}

// workload is what a DaemonSet and a Deployment have in common.
type workload struct {
	name     string
	selector *metav1.LabelSelector
	template corev1.PodTemplateSpec
}

func workloads(t *testing.T) []workload {
	t.Helper()
	var out []workload
	for _, d := range all[appsv1.DaemonSet](t) {
		out = append(out, workload{"DaemonSet", d.Spec.Selector, d.Spec.Template})
	}
	for _, d := range all[appsv1.Deployment](t) {
		out = append(out, workload{"Deployment", d.Spec.Selector, d.Spec.Template})
	}
	return out
}

var variable = regexp.MustCompile(`\$\(([A-Z_]+)\)`)

// options are the flags that a pod runs with, as rauta reads them.
func (w *workload) options(t *testing.T) *serveOptions {
	t.Helper()
	c := w.template.Spec.Containers[0]
	if len(c.Args) == 0 || c.Args[0] != "serve" {
		t.Fatalf("%s: arguments %q", w.name, c.Args)
	}
	var args []string
	for _, arg := range c.Args[1:] {
		args = append(args, variable.ReplaceAllStringFunc(arg, func(v string) string {
			name := variable.FindStringSubmatch(v)[1]
			if !slices.ContainsFunc(c.Env, func(e corev1.EnvVar) bool { return e.Name == name }) {
				t.Errorf("%s: %s uses the variable %s, which is not set", w.name, arg, name)
			}
			return "value"
		}))
	}
	o := &serveOptions{}
	if err := newServeFlags(o).Parse(args); err != nil {
		t.Fatalf("%s: %v", w.name, err)
	}
	return o
}

func TestThePodsRunWithFlagsThatExistAndFitTheRest(t *testing.T) {
	for _, w := range workloads(t) {
		spec := w.template.Spec
		c := spec.Containers[0]
		o := w.options(t)
		if o.state.dir == "" || o.cluster.given() != "" || len(o.paths) > 0 {
			t.Errorf("%s: no state is kept, or it is not the cluster of the pod that is served", w.name)
		}
		if err := o.reports.validate(false); err != nil {
			t.Errorf("%s: %v", w.name, err)
		}
		o.paths, o.state, o.reports = []string{"any"}, stateOptions{}, reportOptions{} // there is no cluster to check the flags against
		if err := o.validate(); err != nil {
			t.Errorf("%s: %v", w.name, err)
		}
		if grace := time.Duration(*spec.TerminationGracePeriodSeconds) * time.Second; grace < o.drainDelay+o.drainTime+10*time.Second {
			t.Errorf("%s: a drain takes up to %s, the pod is killed after %s", w.name, o.drainDelay+o.drainTime, grace)
		}
		for _, mount := range c.VolumeMounts {
			if !slices.ContainsFunc(spec.Volumes, func(v corev1.Volume) bool { return v.Name == mount.Name }) {
				t.Errorf("%s: there is no volume %s", w.name, mount.Name)
			}
		}
		if port := ":" + w.template.Annotations["prometheus.io/port"]; o.metrics != port {
			t.Errorf("%s: metrics are at %s, the annotation says %s", w.name, o.metrics, port)
		}
		if got := w.template.Labels; !maps.Equal(got, w.selector.MatchLabels) {
			t.Errorf("%s: the pods have the labels %v, the selector wants %v", w.name, got, w.selector.MatchLabels)
		}
		for _, probe := range []*corev1.Probe{c.StartupProbe, c.ReadinessProbe, c.LivenessProbe} {
			w.checkProbe(t, o, probe)
		}
	}
}

func (w *workload) checkProbe(t *testing.T, o *serveOptions, probe *corev1.Probe) {
	t.Helper()
	switch {
	case probe == nil:
		t.Errorf("%s: a probe is missing", w.name)
	case probe.Exec != nil:
		if args := probe.Exec.Command[1:]; !slices.Contains(args, "--socket="+o.probeSocket) || args[0] != "probe" {
			t.Errorf("%s: the probe runs %q, the socket is %s", w.name, probe.Exec.Command, o.probeSocket)
		}
	case probe.HTTPGet != nil:
		i := slices.IndexFunc(w.template.Spec.Containers[0].Ports, func(p corev1.ContainerPort) bool { return p.Name == probe.HTTPGet.Port.StrVal })
		if i < 0 || !strings.HasSuffix(o.metrics, ":9091") || w.template.Spec.Containers[0].Ports[i].ContainerPort != 9091 {
			t.Errorf("%s: a probe asks port %v", w.name, probe.HTTPGet.Port)
		}
		if path := probe.HTTPGet.Path; path != "/healthz" && path != "/readyz" {
			t.Errorf("%s: a probe asks for %s", w.name, path)
		}
	}
}

// TestThePodsKnowWhereTheyRun, which reports and spans say.
func TestThePodsKnowWhereTheyRun(t *testing.T) {
	for _, w := range workloads(t) {
		set := map[string]string{}
		for _, e := range w.template.Spec.Containers[0].Env {
			if e.ValueFrom != nil && e.ValueFrom.FieldRef != nil {
				set[e.Name] = e.ValueFrom.FieldRef.FieldPath
			}
		}
		for name, field := range map[string]string{envNodeName: "spec.nodeName", envPodName: "metadata.name", envPodNamespace: "metadata.namespace"} {
			if set[name] != field {
				t.Errorf("%s: %s is %q, want %s", w.name, name, set[name], field)
			}
		}
	}
}

func TestThePodsMayDoNoMoreThanTheyNeed(t *testing.T) {
	for _, w := range workloads(t) {
		spec := w.template.Spec
		c := spec.Containers[0].SecurityContext
		if spec.SecurityContext.SeccompProfile.Type != corev1.SeccompProfileTypeRuntimeDefault || !*c.ReadOnlyRootFilesystem ||
			*c.AllowPrivilegeEscalation || !slices.Equal(c.Capabilities.Drop, []corev1.Capability{"ALL"}) || spec.HostPID || spec.HostIPC {
			t.Errorf("%s: %+v", w.name, c)
		}
		wanted := []corev1.Capability{"NET_BIND_SERVICE", "BPF", "PERFMON"}
		if !spec.HostNetwork {
			wanted = nil
		}
		if !slices.Equal(c.Capabilities.Add, wanted) {
			t.Errorf("%s: capabilities %v, want %v", w.name, c.Capabilities.Add, wanted)
		}
		for _, v := range spec.Volumes {
			if v.HostPath != nil {
				t.Errorf("%s: %s is a folder of the node", w.name, v.Name)
			}
		}
	}
}

// With hostNetwork a declared port is a port of the node, which the scheduler gives to one pod only: the pod that is to
// take over would wait for the one that it replaces.
func TestThePodsOfTheDaemonSetOverlapWhenTheyAreReplaced(t *testing.T) {
	for _, d := range all[appsv1.DaemonSet](t) {
		w := workload{"DaemonSet", d.Spec.Selector, d.Spec.Template}
		update := d.Spec.UpdateStrategy.RollingUpdate
		if update.MaxUnavailable.String() != "0" || update.MaxSurge.String() == "0" {
			t.Errorf("the update is %+v", update)
		}
		if o := w.options(t); !o.overlap || !d.Spec.Template.Spec.HostNetwork || o.probeSocket == "" {
			t.Error("two pods cannot serve on one node, or cannot be told apart")
		}
		if ports := d.Spec.Template.Spec.Containers[0].Ports; len(ports) > 0 {
			t.Errorf("the ports %v are declared", ports)
		}
	}
}

func TestTheServiceLeadsToPortsOfThePods(t *testing.T) {
	for _, d := range all[appsv1.Deployment](t) {
		o := (&workload{"Deployment", d.Spec.Selector, d.Spec.Template}).options(t)
		ports := map[string]int32{}
		for _, p := range d.Spec.Template.Spec.Containers[0].Ports {
			ports[p.Name] = p.ContainerPort
		}
		if ports["http"] != int32(o.translate.HTTPPort) || ports["https"] != int32(o.translate.HTTPSPort) {
			t.Errorf("ports %v, Ingresses are served at %d and %d", ports, o.translate.HTTPPort, o.translate.HTTPSPort)
		}
		for _, s := range all[corev1.Service](t) {
			if !maps.Equal(s.Spec.Selector, d.Spec.Template.Labels) {
				t.Errorf("the Service selects %v", s.Spec.Selector)
			}
			for _, p := range s.Spec.Ports {
				// Gateways listen on the ports that they name, so that both sides have to have the same.
				if ports[p.TargetPort.StrVal] != p.Port {
					t.Errorf("port %d of the Service leads to %v", p.Port, p.TargetPort)
				}
			}
		}
		for _, b := range all[policyv1.PodDisruptionBudget](t) {
			if !maps.Equal(b.Spec.Selector.MatchLabels, d.Spec.Template.Labels) {
				t.Errorf("the budget is for %v", b.Spec.Selector)
			}
		}
	}
}

func TestTheClassesAreOnesThatRAUTATakes(t *testing.T) {
	for _, c := range all[gatewayv1.GatewayClass](t) {
		if c.Spec.ControllerName != translate.DefaultControllerName {
			t.Errorf("the GatewayClass is for %s", c.Spec.ControllerName)
		}
	}
	for _, c := range all[networkingv1.IngressClass](t) {
		if c.Spec.Controller != translate.DefaultIngressControllerName || c.Name != translate.DefaultIngressClass {
			t.Errorf("the IngressClass %s is for %s", c.Name, c.Spec.Controller)
		}
	}
}

func TestThePermissionsAreNarrow(t *testing.T) {
	const component = "rauta-infrastructure" // whoever may write Services may redirect what others of the cluster send to them
	roles := map[string]bool{}
	for _, role := range all[rbacv1.ClusterRole](t) {
		roles[role.Name] = true
		for _, rule := range role.Rules {
			for _, verb := range rule.Verbs {
				writes := verb != "get" && verb != "list" && verb != "watch"
				for _, resource := range rule.Resources {
					if writes && !strings.HasSuffix(resource, "/status") && resource != "events" && (resource != "services" || role.Name != component) ||
						verb == "*" || resource == "*" {
						t.Errorf("%s permits %s of %s", role.Name, verb, resource)
					}
				}
			}
		}
	}
	for _, b := range all[rbacv1.ClusterRoleBinding](t) {
		account := all[corev1.ServiceAccount](t)[0]
		if b.RoleRef.Name != b.Name || !roles[b.Name] || len(b.Subjects) != 1 || b.Subjects[0].Name != account.Name ||
			b.Subjects[0].Namespace != account.Namespace {
			t.Errorf("%+v", b)
		}
	}
	for _, w := range workloads(t) {
		if w.template.Spec.ServiceAccountName != all[corev1.ServiceAccount](t)[0].Name {
			t.Errorf("%s runs as %s", w.name, w.template.Spec.ServiceAccountName)
		}
	}
}

// TestThePodMonitorFindsThePods: those of the DaemonSet and the Deployment, at the address of their metrics.
func TestThePodMonitorFindsThePods(t *testing.T) {
	monitor := all[podMonitor](t)[0]
	selector, err := metav1.LabelSelectorAsSelector(&monitor.Spec.Selector)
	if err != nil {
		t.Fatal(err)
	}
	pods := map[string]corev1.PodTemplateSpec{}
	for _, d := range all[appsv1.DaemonSet](t) {
		pods["DaemonSet "+d.Namespace] = d.Spec.Template
	}
	for _, d := range all[appsv1.Deployment](t) {
		pods["Deployment "+d.Namespace] = d.Spec.Template
	}
	for name, pod := range pods {
		if !selector.Matches(labels.Set(pod.Labels)) || !strings.HasSuffix(name, " "+monitor.Namespace) {
			t.Errorf("the PodMonitor does not select the pods of the %s with the labels %v", name, pod.Labels)
		}
		if !slices.Contains(pod.Spec.Containers[0].Args, "--metrics=:9091") {
			t.Errorf("the pods of the %s have their metrics elsewhere: %v", name, pod.Spec.Containers[0].Args)
		}
	}
	address := func(ip string) string {
		out := ip
		for _, r := range monitor.Spec.PodMetricsEndpoints[0].Relabelings {
			if whole := regexp.MustCompile("^(?:" + r.Regex + ")$"); r.TargetLabel == "__address__" && whole.MatchString(ip) {
				out = whole.ReplaceAllString(ip, r.Replacement)
			}
		}
		return out
	}
	for ip, want := range map[string]string{"10.0.0.1": "10.0.0.1:9091", "fd00::1": "[fd00::1]:9091"} {
		if got := address(ip); got != want {
			t.Errorf("the metrics of %s are read from %s, want %s", ip, got, want)
		}
	}
}
