package kube

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"

	coordinationv1 "k8s.io/api/coordination/v1"
	corev1 "k8s.io/api/core/v1"
	eventsv1 "k8s.io/api/events/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/runtime/serializer"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/rest"
)

// server answers by method and path, and notes what it was asked, and sent.
type server struct {
	*httptest.Server
	answers map[string]string

	mu     sync.Mutex
	asked  []string
	bodies []string
}

func newServer(t *testing.T, answers map[string]string) *server {
	s := &server{answers: answers}
	s.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		s.mu.Lock()
		defer s.mu.Unlock()
		s.asked = append(s.asked, r.Method+" "+r.URL.String())
		s.bodies = append(s.bodies, r.Header.Get("Content-Type")+" "+string(body))
		w.Header().Set("Content-Type", "application/json")
		answer, ok := s.answers[r.Method+" "+r.URL.Path]
		if !ok {
			w.WriteHeader(http.StatusNotFound)
			answer = `{"apiVersion":"v1","kind":"Status","status":"Failure","reason":"NotFound","code":404}`
		}
		fmt.Fprint(w, answer)
	}))
	t.Cleanup(s.Close)
	return s
}

func (s *server) client(t *testing.T) *Client {
	t.Helper()
	c, err := New(&rest.Config{Host: s.URL})
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func TestRequestsAreThoseOfClientGo(t *testing.T) {
	const leases = "/apis/coordination.k8s.io/v1/namespaces/rauta-system/leases"
	lease := `{"apiVersion":"coordination.k8s.io/v1","kind":"Lease","metadata":{"name":"rauta","resourceVersion":"7"},"spec":{"holderIdentity":"a"}}`
	s := newServer(t, map[string]string{
		"GET " + leases + "/rauta": lease, "PUT " + leases + "/rauta": lease, "POST " + leases: lease,
		"GET " + leases: `{"apiVersion":"coordination.k8s.io/v1","kind":"LeaseList","items":[` + lease + `]}`,
		"DELETE /api/v1/namespaces/edge/services/gw":                  `{"apiVersion":"v1","kind":"Status","status":"Success"}`,
		"PATCH /apis/events.k8s.io/v1/namespaces/default/events/gw.1": `{"apiVersion":"events.k8s.io/v1","kind":"Event","metadata":{"name":"gw.1"}}`,
		"GET /api/v1/nodes/n1":                                        `{"apiVersion":"v1","kind":"Node","metadata":{"name":"n1"}}`,
	})
	ctx, c := t.Context(), s.client(t)
	got, err := c.Leases("rauta-system").Get(ctx, "rauta", metav1.GetOptions{})
	if err != nil || got.ResourceVersion != "7" || *got.Spec.HolderIdentity != "a" {
		t.Errorf("Get: %+v, %v", got, err)
	}
	if _, err := c.Leases("rauta-system").Update(ctx, got, metav1.UpdateOptions{FieldManager: "rauta"}); err != nil {
		t.Error(err)
	}
	if _, err := c.Leases("rauta-system").Create(ctx, &coordinationv1.Lease{}, metav1.CreateOptions{}); err != nil {
		t.Error(err)
	}
	list, err := c.Leases("rauta-system").List(ctx, metav1.ListOptions{LabelSelector: "a=b", ResourceVersion: "0"})
	if err != nil || len(list.Items) != 1 || list.Items[0].Name != "rauta" {
		t.Errorf("List: %+v, %v", list, err)
	}
	uid := types.UID("u1")
	if err := c.Services("edge").Delete(ctx, "gw", metav1.DeleteOptions{Preconditions: &metav1.Preconditions{UID: &uid}}); err != nil {
		t.Error(err)
	}
	var event *eventsv1.Event
	event, err = c.Events("default").Patch(ctx, "gw.1", types.MergePatchType, []byte(`{"series":null}`), metav1.PatchOptions{FieldManager: "rauta"})
	if err != nil || event.Name != "gw.1" {
		t.Errorf("Patch: %+v, %v", event, err)
	}
	if node, err := c.Nodes().Get(ctx, "n1", metav1.GetOptions{}); err != nil || node.Name != "n1" {
		t.Errorf("Get: %+v, %v", node, err)
	}
	want := []string{
		"GET " + leases + "/rauta", "PUT " + leases + "/rauta?fieldManager=rauta", "POST " + leases,
		"GET " + leases + "?labelSelector=a%3Db&resourceVersion=0", "DELETE /api/v1/namespaces/edge/services/gw",
		"PATCH /apis/events.k8s.io/v1/namespaces/default/events/gw.1?fieldManager=rauta", "GET /api/v1/nodes/n1",
	}
	if !slices.Equal(s.asked, want) {
		t.Errorf("requests:\n%s\nwant:\n%s", strings.Join(s.asked, "\n"), strings.Join(want, "\n"))
	}
	if !strings.HasPrefix(s.bodies[1], runtime.ContentTypeProtobuf+" k8s\x00") {
		t.Errorf("an update is sent as %.60q", s.bodies[1])
	}
	if !strings.Contains(s.bodies[4], "u1") {
		t.Errorf("what must hold for a deletion is not sent: %q", s.bodies[4])
	}
	if s.bodies[5] != `application/merge-patch+json {"series":null}` {
		t.Errorf("a patch is sent as %q", s.bodies[5])
	}
}

func TestWhatFailsHasAReasonAndNoObject(t *testing.T) {
	s := newServer(t, nil)
	service, err := s.client(t).Services("edge").Create(t.Context(), &corev1.Service{}, metav1.CreateOptions{})
	if service != nil || !apierrors.IsNotFound(err) {
		t.Errorf("Create: %+v, %v", service, err)
	}
	list, err := s.client(t).Services("edge").List(t.Context(), metav1.ListOptions{})
	if list != nil || !apierrors.IsNotFound(err) {
		t.Errorf("List: %+v, %v", list, err)
	}
}

func TestTheVersionsOfAGroupAreInTheOrderThatTheServerPrefers(t *testing.T) {
	resources := func(kinds ...string) string {
		list := metav1.APIResourceList{}
		for _, kind := range kinds {
			plural := strings.ToLower(kind) + "s"
			list.APIResources = append(list.APIResources, metav1.APIResource{Name: plural, Kind: kind}, metav1.APIResource{Name: plural + "/status", Kind: kind})
		}
		text, _ := json.Marshal(list)
		return string(text)
	}
	s := newServer(t, map[string]string{
		"GET /apis/x.io": `{"preferredVersion":{"groupVersion":"x.io/v1","version":"v1"},"versions":[
			{"groupVersion":"x.io/v2beta1","version":"v2beta1"},{"groupVersion":"x.io/v1","version":"v1"},{"groupVersion":"x.io/v1beta1","version":"v1beta1"}]}`,
		"GET /apis/x.io/v1": resources("Route"), "GET /apis/x.io/v2beta1": resources("Route", "Grant"),
	})
	connection, err := Connect(&rest.Config{Host: s.URL}, serializer.NewCodecFactory(Scheme(nil)).WithoutConversion())
	if err != nil {
		t.Fatal(err)
	}
	client, err := connection.Group(schema.GroupVersion{Group: "x.io", Version: "v1"}, false)
	if err != nil {
		t.Fatal(err)
	}
	versions, err := Versions(t.Context(), client, "x.io")
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, v := range versions {
		for _, k := range v.Kinds {
			got = append(got, v.Name+" "+k.Name)
		}
	}
	if want := []string{"v1 routes", "v2beta1 routes", "v2beta1 grants"}; !slices.Equal(got, want) {
		t.Errorf("%v, want %v", got, want)
	}
	if versions, err := Versions(t.Context(), client, "y.io"); err != nil || versions != nil {
		t.Errorf("of a group that is not there: %v, %v", versions, err)
	}
}
