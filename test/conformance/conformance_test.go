package conformance

import (
	"errors"
	"flag"
	"fmt"
	"io/fs"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	clientset "k8s.io/client-go/kubernetes"
	"rauta.io/rauta/test/cluster"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/log"
	"sigs.k8s.io/controller-runtime/pkg/log/zap"
	gatewayv1 "sigs.k8s.io/gateway-api/apis/v1"
	"sigs.k8s.io/gateway-api/apis/v1alpha2"
	"sigs.k8s.io/gateway-api/apis/v1alpha3"
	"sigs.k8s.io/gateway-api/apis/v1beta1"
	xv1alpha1 "sigs.k8s.io/gateway-api/apisx/v1alpha1"
	suitemanifests "sigs.k8s.io/gateway-api/conformance"
	confv1 "sigs.k8s.io/gateway-api/conformance/apis/v1"
	"sigs.k8s.io/gateway-api/conformance/tests"
	"sigs.k8s.io/gateway-api/conformance/utils/config"
	"sigs.k8s.io/gateway-api/conformance/utils/suite"
	"sigs.k8s.io/gateway-api/pkg/features"
)

var (
	channel = flag.String("channel", string(cluster.Experimental), "channel of the Gateway API: standard or experimental")
	modules = flag.String("modules", "go.mod", "file with the versions of modules that the test was built with")
	only    = flag.String("only", "", "regular expression: run only the tests with such names, and write no report")
	report  = flag.String("report", "", "file for the report of a whole run")
	wait    = flag.Duration("wait", 0, "how long to wait for statuses and answers (default: as long as the suite does)")
	version = flag.String("rauta-version", "dev", "version of RAUTA, for the report")
)

func TestMain(m *testing.M) {
	cluster.Main(m, cluster.RAUTA(),
		cluster.Program{Name: "coredns", Run: answerDNS},
		cluster.Program{Name: "echo-basic", Module: "../conformance", Package: "./" + echoFolder, Prepare: copyEcho})
}

// Addresses of Gateways. Each gets its own out of the pool, so that none is reached at the address of another.
const (
	gatewayPool    = "10.244.0.64/26"
	usableAddress  = "10.244.0.126"
	unusable       = "192.0.2.1" // TEST-NET-1, on no machine
	metricsAddress = "127.0.0.1:9091"
)

// What is shipped: the GatewayClass, and who RAUTA is.
const (
	shippedManifests   = "../../deploy/base"
	servicesOfGateways = "../../deploy/infrastructure" // which GatewayInfrastructurePropagation asks for
	gatewayClass       = "rauta"
	namespace          = "rauta-system"
	serviceAccount     = "rauta"
)

func TestConformance(t *testing.T) {
	plane := cluster.Start(t)
	plane.StartNode(t, cluster.NodeOptions{})
	if err := plane.InstallDefinitions(t.Context(), definitions(t)); err != nil {
		t.Fatal(err)
	}
	for _, folder := range []string{shippedManifests, servicesOfGateways} {
		if err := plane.ApplyFolder(t.Context(), folder); err != nil {
			t.Fatal(err)
		}
	}
	startRAUTA(t, plane)
	supported := awaitFeatures(t, plane)

	selected := selectTests(t)
	results := &results{byName: map[string]result{}}
	options := suiteOptions(t, plane)
	options.Hook = results.record
	options.SupportedFeatures = supported
	all, err := suite.NewConformanceTestSuite(options)
	require.NoError(t, err, "make the suite")
	t.Run("suite", func(t *testing.T) { // some of its tests run in parallel; they have all ended when this has
		all.Setup(t, selected)
		require.NoError(t, all.Run(t, selected))
	})
	results.print(t, selected)
	if *report != "" && *only == "" && !t.Failed() {
		writeReport(t, all)
	}
}

// definitions is the folder with what the suite's version of the Gateway API defines.
func definitions(t *testing.T) string {
	t.Helper()
	folder, err := exec.Command("go", "list", "-modfile", *modules, "-m", "-f", "{{.Dir}}", "sigs.k8s.io/gateway-api").Output()
	require.NoError(t, err, "find the module of the Gateway API in %s", *modules)
	return filepath.Join(strings.TrimSpace(string(folder)), "config/crd", *channel)
}

// startRAUTA runs the program with the permissions that it is shipped with, and waits until it is ready.
func startRAUTA(t *testing.T, plane *cluster.Plane) {
	t.Helper()
	rauta := cluster.Run(t, "rauta", nil, "serve", "--kubeconfig", plane.KubeconfigOf(t, namespace, serviceAccount), "--bind", cluster.NodeAddress,
		"--gateway-address-pool", gatewayPool, "--metrics", metricsAddress, "--admin", "off", "--workers", "2")
	cluster.Eventually(t, "RAUTA is ready", func() error {
		select {
		case <-rauta.Exited():
			t.Fatalf("RAUTA has ended:\n%s", rauta.Log())
		default:
		}
		answer, err := http.Get("http://" + metricsAddress + "/readyz")
		if err != nil {
			return err
		}
		answer.Body.Close()
		if answer.StatusCode != http.StatusOK {
			return errors.New(answer.Status)
		}
		return nil
	})
}

// awaitFeatures waits until the GatewayClass says what RAUTA supports, and returns what of that the channel has.
func awaitFeatures(t *testing.T, plane *cluster.Plane) (supported []features.FeatureName) {
	t.Helper()
	classes := plane.Dynamic().Resource(gatewayv1.SchemeGroupVersion.WithResource("gatewayclasses"))
	cluster.Eventually(t, "the features of the GatewayClass", func() error {
		class, err := classes.Get(t.Context(), gatewayClass, metav1.GetOptions{})
		if err != nil {
			return err
		}
		list, _, err := unstructured.NestedSlice(class.Object, "status", "supportedFeatures")
		if err != nil || len(list) == 0 {
			return fmt.Errorf("its status is %v", class.Object["status"])
		}
		for _, entry := range list {
			name, _, _ := unstructured.NestedString(entry.(map[string]any), "name")
			if exists(features.FeatureName(name)) {
				supported = append(supported, features.FeatureName(name))
			}
		}
		return nil
	})
	return supported
}

// selectTests returns the tests that are about gateways, or those that were asked for. In the standard channel HTTPRoutes
// have no field for retries: the API server drops it.
func selectTests(t *testing.T) (selected []suite.ConformanceTest) {
	t.Helper()
	name, err := regexp.Compile(*only)
	require.NoError(t, err, "-only is no regular expression")
	for _, test := range tests.ConformanceTests {
		foreign := slices.ContainsFunc(test.Features, func(f features.FeatureName) bool { return f == features.SupportMesh || !exists(f) })
		if !foreign && name.MatchString(test.ShortName) {
			selected = append(selected, test)
		}
	}
	require.NotEmpty(t, selected, "no test has such a name")
	return selected
}

// exists reports whether the channel has the fields of a feature.
func exists(name features.FeatureName) bool {
	return cluster.Channel(*channel) == cluster.Experimental || !strings.HasPrefix(string(name), "HTTPRouteRetry")
}

func suiteOptions(t *testing.T, plane *cluster.Plane) suite.ConformanceOptions {
	t.Helper()
	log.SetLogger(zap.New(zap.WriteTo(os.Stderr)))
	c, err := client.New(plane.Config(), client.Options{})
	require.NoError(t, err)
	for _, install := range []func() error{
		func() error { return gatewayv1.Install(c.Scheme()) }, func() error { return v1beta1.Install(c.Scheme()) },
		func() error { return v1alpha2.Install(c.Scheme()) }, func() error { return v1alpha3.Install(c.Scheme()) },
		func() error { return xv1alpha1.Install(c.Scheme()) }, func() error { return apiextensionsv1.AddToScheme(c.Scheme()) },
	} {
		require.NoError(t, install())
	}
	set, err := clientset.NewForConfig(plane.Config())
	require.NoError(t, err)
	ip := func(address string) []gatewayv1.GatewaySpecAddress {
		kind := gatewayv1.IPAddressType
		return []gatewayv1.GatewaySpecAddress{{Type: &kind, Value: address}}
	}
	return suite.ConformanceOptions{
		Client: c, Clientset: set, RestConfig: plane.Config(), ManifestFS: []fs.FS{&suitemanifests.Manifests},
		ConfigurableOptions: suite.ConfigurableOptions{
			GatewayClassName: gatewayClass, TimeoutConfig: timeouts(), CleanupTestResources: true,
			UsableNetworkAddresses: ip(usableAddress), UnusableNetworkAddresses: ip(unusable),
			Implementation: confv1.Implementation{
				Organization: "rauta", Project: "rauta", URL: "https://rauta.io/rauta", Version: *version, Contact: []string{"https://rauta.io/rauta"},
			},
			ConformanceProfiles: []suite.ConformanceProfileName{
				suite.GatewayHTTPConformanceProfileName, suite.GatewayGRPCConformanceProfileName, suite.GatewayTLSConformanceProfileName,
				suite.GatewayTCPConformanceProfileName, suite.GatewayUDPConformanceProfileName,
			},
		},
	}
}

// timeouts are those of the suite, cut to -wait. An absent status then costs less time.
func timeouts() config.TimeoutConfig {
	all := config.DefaultTimeoutConfig()
	if *wait == 0 {
		return all
	}
	for _, t := range []*time.Duration{
		&all.GatewayMustHaveAddress, &all.GatewayMustHaveCondition, &all.GatewayStatusMustHaveListeners,
		&all.GatewayListenersMustHaveConditions, &all.ListenerSetMustHaveCondition, &all.ListenerSetListenersMustHaveConditions,
		&all.GWCMustBeAccepted, &all.HTTPRouteMustNotHaveParents, &all.HTTPRouteMustHaveCondition, &all.TLSRouteMustHaveCondition,
		&all.TCPRouteMustHaveCondition, &all.UDPRouteMustHaveCondition, &all.RouteMustHaveParents, &all.MaxTimeToConsistency,
		&all.LatestObservedGenerationSet, &all.DefaultTestTimeout,
	} {
		*t = min(*t, *wait)
	}
	return all
}

// results of the tests, as the hook hears of them.
type results struct {
	mu     sync.Mutex
	byName map[string]result
}

type result string

const (
	passed  result = "passed"
	failed  result = "failed"
	skipped result = "skipped"
)

func (r *results) record(t *testing.T, test suite.ConformanceTest, _ *suite.ConformanceTestSuite) {
	outcome := passed
	switch {
	case t.Failed():
		outcome = failed
	case t.Skipped():
		outcome = skipped
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.byName[test.ShortName] = outcome
}

// print says what has become of every test. A test that was skipped counts as failed: RAUTA supports everything.
func (r *results) print(t *testing.T, selected []suite.ConformanceTest) {
	t.Helper()
	r.mu.Lock()
	defer r.mu.Unlock()
	var lines []string
	good := 0
	for _, test := range selected {
		switch outcome := r.byName[test.ShortName]; outcome {
		case passed:
			good++
		case "":
			lines = append(lines, "not run "+test.ShortName)
		default:
			lines = append(lines, fmt.Sprintf("%s %s", outcome, test.ShortName))
		}
	}
	slices.Sort(lines)
	fmt.Printf("conformance: channel %s, %d of %d tests passed\n", *channel, good, len(selected))
	for _, line := range lines {
		fmt.Println("conformance:", line)
	}
	if len(lines) > 0 {
		t.Errorf("%d tests have not passed: %s", len(lines), strings.Join(lines, ", "))
	}
}
