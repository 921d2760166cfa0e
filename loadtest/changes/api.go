package main

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"strings"
	"time"
)

// api writes objects. It knows no more of Kubernetes than paths and JSON.
type api struct {
	server string
	token  string
	client *http.Client
}

// writers is how many requests are under way at most.
const writers = 16

func (a *api) open(tokenFile, caFile string) error {
	transport := &http.Transport{MaxIdleConnsPerHost: writers}
	if caFile != "" {
		text, err := os.ReadFile(caFile)
		if err != nil {
			return fmt.Errorf("read -ca: %w", err)
		}
		pool := x509.NewCertPool()
		if !pool.AppendCertsFromPEM(text) {
			return fmt.Errorf("-ca %s: has no certificate", caFile)
		}
		transport.TLSClientConfig = &tls.Config{RootCAs: pool}
	}
	if tokenFile != "" {
		text, err := os.ReadFile(tokenFile)
		if err != nil {
			return fmt.Errorf("read -token: %w", err)
		}
		a.token = strings.TrimSpace(string(text))
	}
	a.client = &http.Client{Transport: transport}
	return nil
}

// errExists: there is such an object already.
var errExists = errors.New("exists")

// do sends one request, and returns when its answer is complete.
func (a *api) do(ctx context.Context, method, path, contentType string, body any) error {
	data, err := json.Marshal(body)
	if err != nil {
		return err
	}
	req, err := http.NewRequestWithContext(ctx, method, a.server+path, bytes.NewReader(data))
	if err != nil {
		return err
	}
	req.Header.Set("Content-Type", contentType)
	if a.token != "" {
		req.Header.Set("Authorization", "Bearer "+a.token)
	}
	resp, err := a.client.Do(req)
	if err != nil {
		return fmt.Errorf("%s %s: %w", method, path, err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	switch {
	case err != nil:
		return fmt.Errorf("%s %s: %w", method, path, err)
	case resp.StatusCode == http.StatusConflict && method == http.MethodPost:
		return errExists
	case resp.StatusCode >= 300:
		return fmt.Errorf("%s %s: %s: %.300s", method, path, resp.Status, text)
	}
	return nil
}

// kindOf is what objects of a collection are called.
func kindOf(collection string) (apiVersion, kind string) {
	parts := strings.Split(strings.TrimPrefix(strings.TrimPrefix(collection, "/apis/"), "/api/"), "/")
	kinds := map[string]string{
		"namespaces": "Namespace", "services": "Service", "secrets": "Secret", "endpointslices": "EndpointSlice",
		"gatewayclasses": "GatewayClass", "gateways": "Gateway", "httproutes": "HTTPRoute",
	}
	apiVersion = parts[0]
	if strings.HasPrefix(collection, "/apis/") {
		apiVersion += "/" + parts[1]
	}
	return apiVersion, kinds[parts[len(parts)-1]]
}

// createTimes is how often creating an object is tried: a busy API server may refuse.
const createTimes = 5

// create creates an object; one of its name may be there.
func (a *api) create(ctx context.Context, path string, o object) (err error) {
	o["apiVersion"], o["kind"] = kindOf(path)
	for n := range createTimes {
		err = a.do(ctx, http.MethodPost, path, "application/json", o)
		if err == nil || errors.Is(err, errExists) || ctx.Err() != nil {
			break
		}
		time.Sleep(time.Duration(n) * time.Second)
	}
	if errors.Is(err, errExists) {
		return nil
	}
	return err
}

// patch merges a change into an object.
func (a *api) patch(ctx context.Context, path string, o object) error {
	return a.do(ctx, http.MethodPatch, path, "application/merge-patch+json", o)
}

func (a *api) remove(ctx context.Context, path string) error {
	return a.do(ctx, http.MethodDelete, path, "application/json", object{"propagationPolicy": "Background"})
}
