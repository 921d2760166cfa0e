package cluster

import (
	"context"
	"crypto/tls"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
)

// kubeletPort is where the API server asks a node for the logs of its pods.
const kubeletPort = 10250

// serveLogs answers the API server when somebody reads the log of a pod: with all that the container has written, whatever
// part was asked for, and without waiting for more.
func (n *Node) serveLogs() error {
	certificate, err := selfSigned()
	if err != nil {
		return fmt.Errorf("make a certificate: %w", err)
	}
	listener, err := net.Listen("tcp", net.JoinHostPort(n.address, strconv.Itoa(kubeletPort)))
	if err != nil {
		return err
	}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /containerLogs/{namespace}/{pod}/{container}", func(w http.ResponseWriter, r *http.Request) {
		text, err := os.ReadFile(n.logPath(r.PathValue("namespace"), r.PathValue("pod"), r.PathValue("container")))
		if err != nil {
			http.Error(w, "no such container has run here", http.StatusNotFound)
			return
		}
		w.Write(text)
	})
	server := &http.Server{Handler: mux}
	n.wait.Go(func() {
		server.Serve(tls.NewListener(listener, &tls.Config{Certificates: []tls.Certificate{certificate}}))
	})
	context.AfterFunc(n.ctx, func() { server.Close() })
	return nil
}

// logPath is where the processes of a container write to, one after the other.
func (n *Node) logPath(namespace, pod, container string) string {
	return filepath.Join(n.folder, "logs", filepath.Base(namespace+"_"+pod+"_"+container+".log"))
}
