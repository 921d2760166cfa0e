package main

import (
	"fmt"
	"net"

	"rauta.io/rauta/proxy/admin"
	"rauta.io/rauta/proxy/server"
)

// startAdmin listens on the admin and metrics addresses and answers there until stopAdmin. It comes before the first
// configuration, so that probes can see that there is none yet.
func (p *process) startAdmin() error {
	adminListener, err := listenTCP("--admin", p.opt.admin)
	if err != nil {
		return err
	}
	metricsListener, err := listenTCP("--metrics", p.opt.metrics)
	if err != nil {
		if adminListener != nil {
			adminListener.Close()
		}
		return err
	}
	p.admin = admin.New(admin.Sources{
		Config:    func() any { return p.server.Config() },
		Listeners: func() any { return p.server.Listeners() },
		Clusters:  func() any { return p.server.Clusters() },
		Explain: func(method, url string, headers []string) (any, error) {
			return server.Explain(p.server.Live().Current(), method, url, headers)
		},
		Ready:    p.ready,
		Registry: p.registry,
	})
	go func() {
		if err := p.admin.Serve(adminListener, metricsListener); err != nil {
			p.log.Error("admin or metrics are no longer served", "error", err)
		}
	}()
	return nil
}

// listenTCP listens on the address of a flag; off gives nil.
func listenTCP(flag, address string) (net.Listener, error) {
	if address == listenOff {
		return nil, nil
	}
	l, err := net.Listen("tcp", address)
	if err != nil {
		return nil, fmt.Errorf("%s %s: %w (choose another address, or off)", flag, address, err)
	}
	return l, nil
}

func (p *process) stopAdmin() {
	if p.admin == nil {
		return
	}
	if err := p.admin.Shutdown(); err != nil {
		p.log.Warn("stop admin and metrics", "error", err)
	}
}
