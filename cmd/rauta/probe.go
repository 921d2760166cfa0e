package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"time"

	"github.com/spf13/cobra"
)

const probeLong = `Ask the RAUTA that listens on a Unix socket (serve --probe-socket) whether it is ready or alive; exit code 0 says yes.

It is for probes of the kubelet in a pod with hostNetwork. While a new process takes over from an old one both listen on
the same ports of the node, and a probe over HTTP would be answered by either.`

// probeTimeMax bounds the answer of a process on the same machine, in which nothing waits.
const probeTimeMax = 5 * time.Second

// probeAnswerMax bounds the reason that is printed, in bytes.
const probeAnswerMax = 4096

func newProbe() *cobra.Command {
	var socket string
	cmd := &cobra.Command{
		Use:       "probe --socket PATH {ready | alive}",
		Short:     "Ask a running RAUTA whether it is ready or alive",
		Long:      probeLong,
		Args:      cobra.MatchAll(cobra.ExactArgs(1), cobra.OnlyValidArgs),
		ValidArgs: []string{"ready", "alive"},
		RunE: func(cmd *cobra.Command, args []string) error {
			if socket == "" {
				return usagef("--socket is missing: give the path of serve --probe-socket")
			}
			page := "/healthz"
			if args[0] == "ready" {
				page = "/readyz"
			}
			return probe(cmd.Context(), socket, page)
		},
	}
	cmd.Flags().StringVar(&socket, "socket", "", "path of the socket")
	return cmd
}

func probe(ctx context.Context, socket, page string) error {
	ctx, cancel := context.WithTimeout(ctx, probeTimeMax)
	defer cancel()
	client := &http.Client{Transport: &http.Transport{
		DisableKeepAlives: true,
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, "unix", socket)
		},
	}}
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://rauta"+page, nil)
	if err != nil {
		return err
	}
	response, err := client.Do(request)
	if err != nil {
		return fmt.Errorf("ask RAUTA on %s: %w", socket, err)
	}
	answer, err := io.ReadAll(io.LimitReader(response.Body, probeAnswerMax))
	if err = errors.Join(err, response.Body.Close()); err != nil {
		return fmt.Errorf("read the answer of RAUTA on %s: %w", socket, err)
	}
	if response.StatusCode != http.StatusOK {
		return errors.New(strings.TrimSpace(string(answer)))
	}
	return nil
}
