package status

import (
	"cmp"
	"context"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/types"
	gatewayv1 "sigs.k8s.io/gateway-api/apis/v1"

	"rauta.io/rauta/control/kube"
	"rauta.io/rauta/control/translate"
)

const (
	// servicesPause is the time between two looks at the Services of Gateways when something has failed, servicesRefresh
	// when nothing has: somebody may have changed one.
	servicesPause   = 30 * time.Second
	servicesRefresh = 10 * time.Minute
)

// serviceClient is the part of the API server that has Services.
type serviceClient interface {
	// list returns the Services of ours.
	list(ctx context.Context) ([]corev1.Service, error)
	create(ctx context.Context, s *corev1.Service) error
	update(ctx context.Context, s *corev1.Service) error
	delete(ctx context.Context, s *corev1.Service) error
}

// services keeps the Services that stand for Gateways as they should be. It asks the API server for anything only when what
// is wanted changes: most clusters have none.
type services struct {
	// Immutable.
	client serviceClient
	log    *slog.Logger
	poke   chan struct{}

	mu     sync.Mutex
	newest []translate.GatewayService
	known  bool // there has been an Update

	// Owned by run.
	logged string // the last failure that was logged
}

func newServices(client serviceClient, log *slog.Logger) *services {
	return &services{client: client, log: log, poke: make(chan struct{}, 1)}
}

// offer replaces what is wanted. It never waits.
func (s *services) offer(wanted []translate.GatewayService) {
	s.mu.Lock()
	changed := !s.known || !sameServices(s.newest, wanted)
	s.newest, s.known = wanted, true
	s.mu.Unlock()
	if !changed {
		return
	}
	select {
	case s.poke <- struct{}{}:
	default: // one is waiting already
	}
}

func sameServices(a, b []translate.GatewayService) bool {
	return slices.EqualFunc(a, b, func(x, y translate.GatewayService) bool {
		return x.Namespace == y.Namespace && x.Name == y.Name && x.GatewayUID == y.GatewayUID &&
			maps.Equal(x.Labels, y.Labels) && maps.Equal(x.Annotations, y.Annotations) && slices.Equal(x.Ports, y.Ports)
	})
}

// run works until ctx is done.
func (s *services) run(ctx context.Context) {
	next := time.NewTimer(0)
	defer next.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-s.poke:
		case <-next.C:
		}
		pause := servicesRefresh
		s.mu.Lock()
		wanted, known := s.newest, s.known
		s.mu.Unlock()
		if known {
			err := s.round(ctx, wanted)
			if err != nil && ctx.Err() == nil {
				pause = servicesPause
			}
			s.note(err)
		}
		next.Reset(pause)
	}
}

func (s *services) note(err error) {
	text := ""
	if err != nil {
		text = err.Error()
	}
	if text != "" && text != s.logged {
		s.log.Warn("the Services of Gateways are not as they should be; it is tried again", "error", err)
	}
	s.logged = text
}

// round makes the Services those that are wanted, and returns the first failure; the others are tried all the same.
func (s *services) round(ctx context.Context, wanted []translate.GatewayService) error {
	have, err := s.client.list(ctx)
	if err != nil {
		return fmt.Errorf("list the Services of Gateways: %w", err)
	}
	var failed error
	left := map[types.NamespacedName]*corev1.Service{}
	for i := range have {
		left[types.NamespacedName{Namespace: have[i].Namespace, Name: have[i].Name}] = &have[i]
	}
	for i := range wanted {
		w := &wanted[i]
		k := types.NamespacedName{Namespace: w.Namespace, Name: w.Name}
		old := left[k]
		delete(left, k)
		if err := s.apply(ctx, old, w); err != nil {
			failed = cmp.Or(failed, err)
		}
	}
	for _, k := range slices.SortedFunc(maps.Keys(left), func(a, b types.NamespacedName) int { return strings.Compare(a.String(), b.String()) }) {
		if err := s.client.delete(ctx, left[k]); err != nil && !apierrors.IsNotFound(err) {
			failed = cmp.Or(failed, fmt.Errorf("delete Service %s: %w", k, err))
		}
	}
	return failed
}

// apply creates or corrects one Service. One of the same name that is not ours stays as it is.
func (s *services) apply(ctx context.Context, old *corev1.Service, w *translate.GatewayService) error {
	if old == nil {
		err := s.client.create(ctx, serviceOf(w))
		if apierrors.IsAlreadyExists(err) {
			return fmt.Errorf("create Service %s/%s for Gateway %s: there is one that is not RAUTA's; rename or remove it", w.Namespace, w.Name, w.Gateway)
		}
		if err != nil {
			return fmt.Errorf("create Service %s/%s: %w", w.Namespace, w.Name, err)
		}
		return nil
	}
	changed := old.DeepCopy()
	if !correct(changed, w) {
		return nil
	}
	if err := s.client.update(ctx, changed); err != nil {
		return fmt.Errorf("update Service %s/%s: %w", w.Namespace, w.Name, err)
	}
	return nil
}

// serviceOf makes a Service without a selector and without an address of its own.
func serviceOf(w *translate.GatewayService) *corev1.Service {
	s := &corev1.Service{
		ObjectMeta: metav1.ObjectMeta{Namespace: w.Namespace, Name: w.Name},
		Spec:       corev1.ServiceSpec{ClusterIP: corev1.ClusterIPNone},
	}
	correct(s, w)
	return s
}

// correct sets what is wanted, leaves what others have added, and reports whether anything differed. What the API server
// fills in, such as targetPort, is no difference.
func correct(s *corev1.Service, w *translate.GatewayService) bool {
	changed := overlay(&s.Labels, w.Labels)
	changed = overlay(&s.Annotations, w.Annotations) || changed
	same := slices.EqualFunc(s.Spec.Ports, w.Ports, func(a, b corev1.ServicePort) bool {
		return a.Name == b.Name && a.Port == b.Port && a.Protocol == b.Protocol
	})
	if !same {
		s.Spec.Ports, changed = slices.Clone(w.Ports), true
	}
	owner := metav1.OwnerReference{APIVersion: gatewayv1.GroupVersion.String(), Kind: kindGateway, Name: w.Gateway, UID: w.GatewayUID}
	if len(s.OwnerReferences) != 1 || s.OwnerReferences[0].UID != owner.UID {
		s.OwnerReferences, changed = []metav1.OwnerReference{owner}, true
	}
	return changed
}

func overlay(on *map[string]string, wanted map[string]string) (changed bool) {
	for k, v := range wanted {
		if have, ok := (*on)[k]; !ok || have != v {
			if *on == nil {
				*on = map[string]string{}
			}
			(*on)[k], changed = v, true
		}
	}
	return changed
}

// clusterServices are the Services of an API server.
type clusterServices struct {
	client     *kube.Client
	controller string
}

func (c *clusterServices) list(ctx context.Context) ([]corev1.Service, error) {
	ctx, cancel := context.WithTimeout(ctx, requestTimeMax)
	defer cancel()
	found, err := c.client.Services(metav1.NamespaceAll).List(ctx, metav1.ListOptions{
		LabelSelector: labels.SelectorFromSet(translate.GatewayServiceLabels(c.controller)).String(),
	})
	if err != nil {
		return nil, err
	}
	return found.Items, nil
}

func (c *clusterServices) create(ctx context.Context, s *corev1.Service) error {
	ctx, cancel := context.WithTimeout(ctx, requestTimeMax)
	defer cancel()
	_, err := c.client.Services(s.Namespace).Create(ctx, s, metav1.CreateOptions{FieldManager: fieldManager})
	return err
}

func (c *clusterServices) update(ctx context.Context, s *corev1.Service) error {
	ctx, cancel := context.WithTimeout(ctx, requestTimeMax)
	defer cancel()
	_, err := c.client.Services(s.Namespace).Update(ctx, s, metav1.UpdateOptions{FieldManager: fieldManager})
	return err
}

func (c *clusterServices) delete(ctx context.Context, s *corev1.Service) error {
	ctx, cancel := context.WithTimeout(ctx, requestTimeMax)
	defer cancel()
	return c.client.Services(s.Namespace).Delete(ctx, s.Name, metav1.DeleteOptions{Preconditions: &metav1.Preconditions{UID: &s.UID}})
}
