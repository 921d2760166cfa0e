package status

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"rauta.io/rauta/control/translate"
)

// fakeServices is an API server's Services, as far as they are written here. Those in foreign exist but are not ours.
type fakeServices struct {
	stored  map[string]*corev1.Service
	foreign map[string]bool
	calls   []string
	refuse  error
}

func (f *fakeServices) list(context.Context) ([]corev1.Service, error) {
	f.calls = append(f.calls, "list")
	var out []corev1.Service
	for _, name := range slices.Sorted(maps.Keys(f.stored)) {
		out = append(out, *f.stored[name])
	}
	return out, nil
}

func (f *fakeServices) write(call string, s *corev1.Service) error {
	f.calls = append(f.calls, call+" "+s.Name)
	if f.refuse != nil {
		return f.refuse
	}
	return nil
}

func (f *fakeServices) create(_ context.Context, s *corev1.Service) error {
	if err := f.write("create", s); err != nil {
		return err
	}
	if f.foreign[s.Name] {
		return apierrors.NewAlreadyExists(schema.GroupResource{Resource: "services"}, s.Name)
	}
	s = s.DeepCopy()
	for i := range s.Spec.Ports {
		s.Spec.Ports[i].TargetPort.IntVal = s.Spec.Ports[i].Port // as an API server does
	}
	f.stored[s.Name] = s
	return nil
}

func (f *fakeServices) update(_ context.Context, s *corev1.Service) error {
	if err := f.write("update", s); err != nil {
		return err
	}
	f.stored[s.Name] = s.DeepCopy()
	return nil
}

func (f *fakeServices) delete(_ context.Context, s *corev1.Service) error {
	if err := f.write("delete", s); err != nil {
		return err
	}
	delete(f.stored, s.Name)
	return nil
}

func gatewayService(name string, label string) translate.GatewayService {
	return translate.GatewayService{Namespace: "infra", Name: name, Gateway: "gw", GatewayUID: "1", Labels: map[string]string{"team": label},
		Annotations: map[string]string{"a": "b"}, Ports: []corev1.ServicePort{{Name: "tcp-80", Port: 80, Protocol: corev1.ProtocolTCP}}}
}

// round makes a round and returns the calls that it took.
func serviceRound(t *testing.T, s *services, f *fakeServices, wanted ...translate.GatewayService) (string, error) {
	t.Helper()
	f.calls = nil
	err := s.round(t.Context(), wanted)
	return strings.Join(f.calls, ", "), err
}

func TestTheServiceOfAGatewayFollowsItsInfrastructure(t *testing.T) {
	f := &fakeServices{stored: map[string]*corev1.Service{}}
	s := newServices(f, slog.New(slog.DiscardHandler))
	step := func(want string, wanted ...translate.GatewayService) {
		t.Helper()
		if got, err := serviceRound(t, s, f, wanted...); got != want || err != nil {
			t.Errorf("%q, %v; want %q", got, err, want)
		}
	}
	step("list, create x", gatewayService("x", "web"))
	created := f.stored["x"]
	if created.Spec.ClusterIP != corev1.ClusterIPNone || len(created.Spec.Selector) > 0 || created.Labels["team"] != "web" || created.Annotations["a"] != "b" ||
		created.OwnerReferences[0].UID != "1" || created.OwnerReferences[0].Kind != "Gateway" {
		t.Errorf("the Service is %+v", created)
	}
	step("list", gatewayService("x", "web"))
	created.Labels["others"] = "stay"
	step("list, update x", gatewayService("x", "mail"))
	if l := f.stored["x"].Labels; l["team"] != "mail" || l["others"] != "stay" {
		t.Errorf("labels %v", l)
	}
	moved := gatewayService("x", "mail")
	moved.GatewayUID = "2" // another Gateway of the same name
	step("list, update x", moved)
	step("list, create y, delete x", gatewayService("y", "web"))
	step("list, delete y")
	step("list")
}

func TestAServiceThatIsNotOursStaysAndTheOthersAreWritten(t *testing.T) {
	f := &fakeServices{stored: map[string]*corev1.Service{}, foreign: map[string]bool{"x": true}}
	s := newServices(f, slog.New(slog.DiscardHandler))
	got, err := serviceRound(t, s, f, gatewayService("x", "web"), gatewayService("y", "web"))
	if got != "list, create x, create y" || err == nil || !strings.Contains(err.Error(), "Service infra/x for Gateway gw") {
		t.Errorf("%q, %v", got, err)
	}
}

func TestAFailureOfServicesIsLoggedOnce(t *testing.T) {
	var log bytes.Buffer
	s := newServices(&fakeServices{}, slog.New(slog.NewTextHandler(&log, nil)))
	for range 3 {
		s.note(errors.New("no"))
	}
	if n := strings.Count(log.String(), "level=WARN"); n != 1 {
		t.Errorf("logged %d times", n)
	}
	s.note(nil)
	s.note(errors.New("no"))
	if n := strings.Count(log.String(), "level=WARN"); n != 2 {
		t.Errorf("logged %d times after it was well for a while", n)
	}
}

func TestServicesAreLookedAtOnlyWhenWhatIsWantedChanges(t *testing.T) {
	s := newServices(&fakeServices{}, slog.New(slog.DiscardHandler))
	poked := func() bool {
		select {
		case <-s.poke:
			return true
		default:
			return false
		}
	}
	one := func() []translate.GatewayService { return []translate.GatewayService{gatewayService("x", "web")} }
	for i, step := range []struct {
		wanted []translate.GatewayService
		poke   bool
	}{{nil, true}, {nil, false}, {one(), true}, {one(), false}, {nil, true}} {
		s.offer(step.wanted)
		if got := poked(); got != step.poke {
			t.Errorf("step %d: poked %v", i, got)
		}
	}
}

func TestServicesOfOtherControllersAreNotOurs(t *testing.T) {
	ours, theirs := translate.GatewayServiceLabels(translate.DefaultControllerName), translate.GatewayServiceLabels("example.com/"+strings.Repeat("x", 100))
	if maps.Equal(ours, theirs) {
		t.Error("they have the same labels")
	}
	for _, set := range []map[string]string{ours, theirs} {
		for k, v := range set {
			if len(v) > 63 || strings.Contains(v, "/") || k == "" {
				t.Errorf("%s=%s is no label", k, v)
			}
		}
	}
}
