package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"syscall"

	"golang.org/x/sys/unix"

	"rauta.io/rauta/proxy/admin"
	"rauta.io/rauta/proxy/server"
)

// startAdmin listens on the admin and metrics addresses and answers there until stopAdmin. It comes before the first
// configuration, so that probes can see that there is none yet.
func (p *process) startAdmin() error {
	var listeners [3]net.Listener
	for i, open := range [...]func() (net.Listener, error){
		func() (net.Listener, error) { return listenTCP("--admin", p.opt.admin, p.opt.overlap) },
		func() (net.Listener, error) { return listenTCP("--metrics", p.opt.metrics, p.opt.overlap) },
		func() (net.Listener, error) { return listenProbe(p.opt.probeSocket) },
	} {
		l, err := open()
		if err != nil {
			for _, opened := range listeners[:i] {
				if opened != nil {
					opened.Close()
				}
			}
			return err
		}
		listeners[i] = l
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
		if err := p.admin.Serve(listeners[0], listeners[1], listeners[2]); err != nil {
			p.log.Error("admin or metrics are no longer served", "error", err)
		}
	}()
	return nil
}

// listenTCP listens on the address of a flag; off gives nil. With overlap another process may do so too: during a
// hand-over either of the two answers.
func listenTCP(flag, address string, overlap bool) (net.Listener, error) {
	if address == listenOff {
		return nil, nil
	}
	var config net.ListenConfig
	if overlap {
		config.Control = func(_, _ string, c syscall.RawConn) (err error) {
			return errors.Join(c.Control(func(fd uintptr) {
				err = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_REUSEPORT, 1)
			}), err)
		}
	}
	l, err := config.Listen(context.Background(), "tcp", address)
	if err != nil {
		return nil, fmt.Errorf("%s %s: %w (choose another address, or off)", flag, address, err)
	}
	return l, nil
}

// listenProbe listens on a Unix socket; no path gives nil. A socket that a killed process has left is replaced.
func listenProbe(path string) (net.Listener, error) {
	if path == "" {
		return nil, nil
	}
	if info, err := os.Lstat(path); err == nil && info.Mode().Type() == fs.ModeSocket {
		if err := os.Remove(path); err != nil {
			return nil, fmt.Errorf("--probe-socket: replace the socket that is there: %w", err)
		}
	}
	l, err := net.Listen("unix", path)
	if err != nil {
		return nil, fmt.Errorf("--probe-socket: %w (the folder must be there, and be writable)", err)
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
