package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"time"

	"github.com/spf13/cobra"

	"rauta.io/rauta/control/translate"
	"rauta.io/rauta/proxy/server"
	"rauta.io/rauta/proxy/snapshot"
)

const explainLong = `Say what becomes of a request, and why: the listener, the rule and the match that win, every candidate
that lost, the filters, and the back ends with their weights.

A URL with tls, tcp or udp asks about a connection, or the datagrams of a client, in place of a request; the method is
then CONNECT.

The answer comes from the code that serves requests. The port of the URL chooses the listener. With --config the files
are read, with --kubeconfig the objects of a cluster, where nothing is written; with --admin a running RAUTA is asked
about the configuration that it is serving.`

// explainOptions are the flags of explain.
type explainOptions struct {
	paths     []string
	admin     string
	headers   []string
	output    string
	translate translate.Options
	cluster   clusterOptions
}

func newExplain() *cobra.Command {
	o := &explainOptions{}
	cmd := &cobra.Command{
		Use:   "explain {--config PATH... | --kubeconfig FILE | --admin URL} METHOD URL",
		Short: "Say which rule and back end a request gets, and why",
		Long:  explainLong,
		Example: `  rauta explain --config examples/quickstart GET http://shop.localhost:8080/cart -H 'X-Canary: yes'
  rauta explain --kubeconfig ~/.kube/config GET https://shop.example.com/cart
  rauta explain --admin http://127.0.0.1:9090 GET http://shop.localhost:8080/cart -o json
  rauta explain --config my.yaml CONNECT tls://db.example.com:5432`,
		Args: cobra.ExactArgs(2),
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := o.validate(); err != nil {
				return err
			}
			return o.explain(cmd.Context(), args[0], args[1], cmd.OutOrStdout(), cmd.ErrOrStderr())
		},
	}
	f := cmd.Flags()
	f.SortFlags = false
	f.StringArrayVar(&o.paths, "config", nil, "file or folder of YAML; may be repeated")
	f.StringVar(&o.admin, "admin", "", "URL of the admin address of a running RAUTA")
	f.StringArrayVarP(&o.headers, "header", "H", nil, "header of the request, 'name: value'; may be repeated")
	f.StringVarP(&o.output, "output", "o", "text", "text or json")
	meaningFlags(f, &o.translate)
	o.cluster.readingFlags(f, "kubeconfig of a cluster whose objects are read")
	return cmd
}

func (o *explainOptions) validate() error {
	sources := 0
	for _, given := range []bool{len(o.paths) > 0, o.admin != "", o.cluster.access.Kubeconfig != ""} {
		if given {
			sources++
		}
	}
	if sources != 1 {
		return usagef("give either --config PATH, --kubeconfig FILE or --admin URL")
	}
	if err := o.cluster.validateCommand(); err != nil {
		return err
	}
	if err := validateOutput(o.output); err != nil {
		return err
	}
	return validateMeaning(&o.translate)
}

func (o *explainOptions) explain(ctx context.Context, method, target string, stdout, stderr io.Writer) error {
	e, err := o.ask(ctx, method, target, stderr)
	if err != nil {
		return err
	}
	if o.output == "json" {
		enc := json.NewEncoder(stdout)
		enc.SetIndent("", "  ")
		enc.SetEscapeHTML(false)
		return enc.Encode(e)
	}
	_, err = io.WriteString(stdout, e.Text())
	return err
}

func (o *explainOptions) ask(ctx context.Context, method, target string, stderr io.Writer) (*snapshot.Explanation, error) {
	if o.admin != "" {
		return o.askAdmin(ctx, method, target)
	}
	l, err := o.load(ctx, stderr)
	if err != nil {
		return nil, err
	}
	if n := l.count(translate.Error); n > 0 {
		fmt.Fprintf(stderr, "rauta: the configuration has %s, see 'rauta check'\n", plural(n, "error"))
	}
	return server.Explain(l.snapshot, method, target, o.headers)
}

func (o *explainOptions) load(ctx context.Context, stderr io.Writer) (*loaded, error) {
	if o.cluster.access.Kubeconfig != "" {
		return loadCluster(ctx, &o.cluster, o.translate, stderr)
	}
	l := loadFiles(o.paths, o.translate)
	if err := l.files.Err(); err != nil {
		return nil, fmt.Errorf("the configuration can't be read, so that serve would keep its last good one:\n%w", err)
	}
	return l, nil
}

const (
	// askTimeout bounds the question to a running RAUTA, which answers from memory.
	askTimeout = 10 * time.Second
	// explanationBytesMax bounds its answer.
	explanationBytesMax = 64 << 20
)

func (o *explainOptions) askAdmin(ctx context.Context, method, target string) (*snapshot.Explanation, error) {
	base, err := adminURL(o.admin)
	if err != nil {
		return nil, err
	}
	u := base.JoinPath("explain")
	u.RawQuery = url.Values{"method": {method}, "url": {target}, "header": o.headers}.Encode()
	ctx, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	resp, err := ask(ctx, o.admin, u)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return nil, refusal(o.admin, resp)
	}
	body, err := io.ReadAll(io.LimitReader(resp.Body, explanationBytesMax))
	if err != nil {
		return nil, fmt.Errorf("read the answer of %s: %w", o.admin, err)
	}
	var e snapshot.Explanation
	if err := json.Unmarshal(body, &e); err != nil {
		return nil, fmt.Errorf("read the answer of %s: %w", o.admin, err)
	}
	return &e, nil
}
