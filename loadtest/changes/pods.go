package main

import (
	"fmt"
	"net"
	"net/http"
)

// pods answer on all addresses of this machine with the one that was asked.
type pods struct{ port int }

func startPods(port int) (*pods, error) {
	l, err := net.Listen("tcp", fmt.Sprintf(":%d", port))
	if err != nil {
		return nil, fmt.Errorf("start the pods: %w", err)
	}
	server := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		address := r.Context().Value(http.LocalAddrContextKey).(net.Addr).(*net.TCPAddr)
		w.Header().Set("X-Pod", address.IP.String())
		w.WriteHeader(http.StatusOK)
	})}
	go server.Serve(l) // until the process ends
	return &pods{port: l.Addr().(*net.TCPAddr).Port}, nil
}
