package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/netip"
	"strings"
	"time"

	"github.com/spf13/pflag"

	"rauta.io/rauta/control"
	"rauta.io/rauta/control/translate"
	"rauta.io/rauta/control/watch"
	"rauta.io/rauta/proxy/config"
	"rauta.io/rauta/proxy/snapshot"
)

// meaningFlags decide what the objects mean; serve, check and explain share them.
func meaningFlags(f *pflag.FlagSet, o *translate.Options) {
	f.Uint16Var(&o.HTTPPort, "http-port", translate.DefaultHTTPPort, "HTTP port of the listener that Ingresses share")
	f.Uint16Var(&o.HTTPSPort, "https-port", translate.DefaultHTTPSPort, "HTTPS port of the listener that Ingresses share")
	f.StringVar(&o.ControllerName, "controller-name", translate.DefaultControllerName, "GatewayClasses of this controller are ours")
	f.StringVar(&o.IngressClass, "ingress-class", translate.DefaultIngressClass, "Ingresses of this class are ours")
	f.StringVar(&o.TicketKeys, "session-ticket-keys", "", "NAMESPACE/NAME of a Secret with keys of TLS session tickets, to share with replicas")
	f.StringVar(&o.Node, "node-name", "", "node that RAUTA runs on, for Services that prefer endpoints on the same node")
	f.StringVar(&o.Zone, "zone", "", "zone of that node, for Services that prefer endpoints in the same zone (default in a cluster: its label)")
	f.Var(&prefixes{&o.AddressPool}, "gateway-address-pool", "CIDRs of addresses of which every Gateway gets one of its own (default: they share one)")
	f.BoolVar(&o.WatchIngressWithoutClass, "watch-ingress-without-class", false, "take Ingresses that name no class")
}

// prefixes is a flag with CIDRs.
type prefixes struct{ list *[]netip.Prefix }

// Set implements pflag.Value.
func (p *prefixes) Set(text string) error {
	for one := range strings.SplitSeq(text, ",") {
		prefix, err := parsePrefix(one)
		if err != nil {
			return err
		}
		if a := prefix.Addr(); prefix.Bits() == 0 || a.IsMulticast() || a.IsUnspecified() || a.Is4In6() {
			return fmt.Errorf("%s has addresses that no host can have", prefix)
		}
		*p.list = append(*p.list, prefix)
	}
	return nil
}

// String implements pflag.Value.
func (p *prefixes) String() string {
	if p.list == nil { // pflag asks the zero value
		return ""
	}
	texts := make([]string, len(*p.list))
	for i, prefix := range *p.list {
		texts[i] = prefix.String()
	}
	return strings.Join(texts, ",")
}

// Type implements pflag.Value.
func (p *prefixes) Type() string { return "strings" }

func validateMeaning(o *translate.Options) error {
	switch {
	case o.HTTPPort == 0 || o.HTTPSPort == 0:
		return usagef("--http-port and --https-port must be from 1 to 65535")
	case o.HTTPPort == o.HTTPSPort:
		return usagef("--http-port and --https-port are both %d: they must differ", o.HTTPPort)
	case o.ControllerName == "" || o.IngressClass == "":
		return usagef("--controller-name and --ingress-class must not be empty")
	}
	if namespace, name, ok := strings.Cut(o.TicketKeys, "/"); o.TicketKeys != "" && (!ok || namespace == "" || name == "" || strings.Contains(name, "/")) {
		return usagef("--session-ticket-keys %q: must be NAMESPACE/NAME of a Secret", o.TicketKeys)
	}
	o.AllowLoopback = true
	return nil
}

// loaded is a configuration, all the way to what requests would be served from.
type loaded struct {
	files    *watch.Loaded // of a cluster only the objects
	objects  int
	result   *translate.Result
	snapshot *snapshot.Snapshot
	problems []watch.FileProblem
}

// loadFiles reads, translates and compiles, and collects the problems of each step.
func loadFiles(paths []string, opt translate.Options) *loaded {
	l := &loaded{files: watch.Load(paths)}
	l.objects = len(l.files.Positions)
	opt.Now = time.Now()
	l.result = translate.Translate(l.files.Objects, opt)
	return l.compile()
}

// readTime bounds reading a cluster once: 10,000 routes take a few seconds.
const readTime = 30 * time.Second

// loadCluster does with the objects of a cluster what loadFiles does with those of files. Nothing is written there.
func loadCluster(ctx context.Context, o *clusterOptions, opt translate.Options, stderr io.Writer) (*loaded, error) {
	access, err := o.access.Config()
	if err != nil {
		return nil, err
	}
	reading := o.reading
	reading.Log = slog.New(slog.NewTextHandler(stderr, &slog.HandlerOptions{Level: slog.LevelWarn}))
	from, err := watch.NewCluster(access, reading)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, readTime)
	defer cancel()
	opt.AllowLoopback, opt.ClassObjects = false, true // as serve does in a cluster
	objects, result, err := control.ReadOnce(ctx, from, opt)
	if err != nil {
		return nil, fmt.Errorf("read the objects of %s: %w; the account of the kubeconfig has to be able to list and watch all that RAUTA reads", access.Host, err)
	}
	l := &loaded{files: &watch.Loaded{Objects: objects}, result: result}
	for _, n := range from.Numbers().Objects {
		l.objects += n
	}
	return l.compile(), nil
}

// compile goes on from what objects mean.
func (l *loaded) compile() *loaded {
	l.problems = control.Problems(l.files, l.result.Problems)
	live := snapshot.NewLive(snapshot.Options{Workers: 1, NextProtos: []string{"http/1.1"}})
	next, _, _, err := live.Publish(l.result.Config, l.result.Endpoints)
	l.snapshot = next
	if err == nil {
		return l
	}
	for _, err := range next.Problems {
		l.problems = append(l.problems, l.compileProblem(err))
	}
	return l
}

// compileProblem finds the object that a problem of the compiled configuration came from.
func (l *loaded) compileProblem(err error) watch.FileProblem {
	p := watch.FileProblem{Severity: translate.Error, Reason: err.Error(), Hint: "the data plane leaves it out"}
	var located *config.Error
	if errors.As(err, &located) && located.Part == config.PartRoute {
		source := l.result.Config.Routes[located.Index].Source
		p.Object = translate.ObjectRef{Kind: source.Kind, Namespace: source.Namespace, Name: source.Name}
		p.Position = l.files.Positions[p.Object]
	}
	return p
}

// count returns the number of problems of a severity.
func (l *loaded) count(s translate.Severity) int {
	n := 0
	for i := range l.problems {
		if l.problems[i].Severity == s {
			n++
		}
	}
	return n
}

// plural writes a number with its noun.
func plural(n int, noun string) string {
	if n == 1 {
		return "1 " + noun
	}
	return fmt.Sprintf("%d %ss", n, noun)
}
