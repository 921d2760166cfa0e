package status

import (
	"context"
	"log/slog"

	"github.com/go-logr/logr"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/cache"
	"k8s.io/klog/v2"

	"rauta.io/rauta/control/kube"
)

// Service keeps Addresses those of a Service.
type Service struct {
	namespace, name string
	lister          cache.ListerWatcher
	addresses       *Addresses
	log             *slog.Logger
}

// NewService prepares to follow a Service; Run does it.
func NewService(cfg *rest.Config, namespace, name string, addresses *Addresses, log *slog.Logger) (*Service, error) {
	client, err := kube.New(cfg)
	if err != nil {
		return nil, err
	}
	lister := client.Services(namespace).ListWatch(fields.OneTermEqualSelector("metadata.name", name))
	return &Service{namespace: namespace, name: name, lister: lister, addresses: addresses, log: log}, nil
}

// Run follows the Service until ctx is done. A Service that is not there has no addresses; one that can't be read keeps
// those that it had.
func (s *Service) Run(ctx context.Context) {
	missing := true
	set := func(o any) {
		if service, ok := o.(*corev1.Service); ok {
			missing = false
			s.addresses.Set(serviceAddresses(service))
		}
	}
	options := cache.InformerOptions{ListerWatcher: s.lister, ObjectType: &corev1.Service{}, Handler: cache.ResourceEventHandlerFuncs{
		AddFunc:    set,
		UpdateFunc: func(_, o any) { set(o) },
		DeleteFunc: func(any) {
			s.log.Warn("the Service whose addresses are published is gone; statuses have none now", "service", s.namespace+"/"+s.name)
			s.addresses.Set(nil)
		},
	}}
	_, informer := cache.NewInformerWithOptions(options)
	quiet := klog.NewContext(ctx, logr.Discard())
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		informer.RunWithContext(quiet)
	}()
	if cache.WaitForCacheSync(ctx.Done(), informer.HasSynced) && missing {
		s.log.Warn("the Service whose addresses are to be published does not exist", "service", s.namespace+"/"+s.name,
			"hint", "create it, or correct --publish-service")
		s.addresses.Set(nil)
	}
	<-ended
}
