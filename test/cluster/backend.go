package cluster

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/signal"
	"syscall"
	"time"
)

// backendProgram is the program, and the image, of the back end of tests. It answers every request with what it has seen, and
// says which pod it is. It speaks HTTP/1.1 and, by prior knowledge, HTTP/2. At SIGTERM it goes on serving for a while, as
// programs have to that shall lose no request while the news of their end spreads, then finishes what is under way.
//
// It is the test binary under another name: nothing has to be built for it.
const backendProgram = "backend"

// seen is the body of an answer.
type seen struct {
	Pod, Namespace, Version string
	Method, Host, Path      string
	Proto                   string
	Header                  http.Header
}

func backend(arguments []string) error {
	flags := flag.NewFlagSet(backendProgram, flag.ContinueOnError)
	port := flags.Int("port", 8080, "TCP port, at the address POD_IP")
	version := flags.String("version", "", "part of every answer")
	linger := flags.Duration("linger", 2*time.Second, "time after SIGTERM in which requests are still accepted")
	finish := flags.Duration("finish", 20*time.Second, "time after that for requests under way")
	if err := flags.Parse(arguments); err != nil {
		return err
	}
	return serve(net.JoinHostPort(os.Getenv("POD_IP"), fmt.Sprint(*port)), *version, *linger, *finish)
}

func serve(address, version string, linger, finish time.Duration) error {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()
	listener, err := net.Listen("tcp", address)
	if err != nil {
		return err
	}
	protocols := new(http.Protocols)
	protocols.SetHTTP1(true)
	protocols.SetUnencryptedHTTP2(true)
	server := &http.Server{Handler: echo(version), Protocols: protocols}
	failed := make(chan error, 1)
	go func() { failed <- server.Serve(listener) }()
	select {
	case err := <-failed:
		return err
	case <-ctx.Done():
	}
	time.Sleep(linger)
	ctx, cancel := context.WithTimeout(context.Background(), finish)
	defer cancel()
	if err := server.Shutdown(ctx); !errors.Is(err, context.DeadlineExceeded) {
		return err
	}
	return server.Close()
}

// echo answers every request. The query "wait=1s" makes it take that long, "status=503" sets the status.
func echo(version string) http.Handler {
	pod, namespace := os.Getenv("HOSTNAME"), os.Getenv("POD_NAMESPACE")
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		query := r.URL.Query()
		if wait, err := time.ParseDuration(query.Get("wait")); err == nil {
			time.Sleep(wait)
		}
		w.Header().Set("Content-Type", "application/json")
		w.Header().Set("X-Pod", pod)
		w.Header().Set("X-Version", version)
		var status int
		if _, err := fmt.Sscan(query.Get("status"), &status); err == nil && status >= 200 && status < 600 {
			w.WriteHeader(status)
		}
		json.NewEncoder(w).Encode(seen{
			Pod: pod, Namespace: namespace, Version: version, Method: r.Method, Host: r.Host, Path: r.URL.Path, Proto: r.Proto, Header: r.Header,
		})
	})
}
