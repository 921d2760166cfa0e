package main

import (
	"context"
	"fmt"
	"net/http"
	"net/netip"
	"os"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"

	"rauta.io/rauta/internal/top"
)

const topLong = `Show live what a running RAUTA does, by route and by back end: requests per second, the share of failures (5xx, and
requests that got no answer), latencies, requests under way, and as a bar in which stages the time of the requests went.

It reads the metrics of one node. With -o text or json, or when the output is no terminal or one that cannot move its cursor
(TERM=dumb), it prints one table of what came between two readings, and ends. NO_COLOR=1 leaves out colours.`

// topOptions are the flags of top.
type topOptions struct {
	admin    string
	interval time.Duration
	output   string
}

func newTop() *cobra.Command {
	o := &topOptions{}
	cmd := &cobra.Command{
		Use:   "top [--admin URL]",
		Short: "Show live what a running RAUTA does, by route and by back end",
		Long:  topLong,
		Example: `  rauta top
  rauta top --admin http://127.0.0.1:9090 --interval 1s
  rauta top -o json`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return o.run(cmd) },
	}
	f := cmd.Flags()
	f.SortFlags = false
	f.StringVar(&o.admin, "admin", adminDefault, "URL of the admin or metrics address of a running RAUTA")
	f.DurationVar(&o.interval, "interval", top.IntervalDefault, "time between readings, at least "+top.IntervalMin.String())
	f.StringVarP(&o.output, "output", "o", "", "screen, text or json (default screen on a terminal, else text)")
	return cmd
}

func (o *topOptions) run(cmd *cobra.Command) error {
	base, err := adminURL(o.admin)
	if err != nil {
		return err
	}
	if o.interval < top.IntervalMin {
		return usagef("--interval %s: must be %s or more", o.interval, top.IntervalMin)
	}
	// To compress what stays on this machine costs more than to send it.
	client := &http.Client{Transport: &http.Transport{Proxy: http.ProxyFromEnvironment, DisableCompression: isLoopback(base.Hostname())}}
	source := top.FromURL(client, base.JoinPath("metrics"))
	screen, hasScreen := cmd.OutOrStdout().(*os.File)
	hasScreen = hasScreen && isTerminal(screen) && os.Getenv("TERM") != "dumb"
	switch o.output {
	case "":
		if hasScreen {
			return top.Live(cmd.Context(), source, base.Host, o.interval, os.Stdin, screen)
		}
		return o.once(cmd.Context(), source, top.Text, cmd)
	case "screen":
		if !hasScreen {
			return usagef("--output screen: the output is no terminal, or one that cannot move its cursor (TERM=dumb); use text or json")
		}
		return top.Live(cmd.Context(), source, base.Host, o.interval, os.Stdin, screen)
	case string(top.Text), string(top.JSON):
		return o.once(cmd.Context(), source, top.Format(o.output), cmd)
	default:
		return usagef("--output %q: must be screen, text or json", o.output)
	}
}

func (o *topOptions) once(ctx context.Context, source top.Source, format top.Format, cmd *cobra.Command) error {
	if err := top.Once(ctx, source, o.interval, format, cmd.OutOrStdout()); err != nil {
		return fmt.Errorf("ask %s: %w", o.admin, err)
	}
	return nil
}

func isLoopback(host string) bool {
	ip, err := netip.ParseAddr(host)
	return host == "localhost" || err == nil && ip.IsLoopback()
}

func isTerminal(file *os.File) bool {
	_, err := unix.IoctlGetTermios(int(file.Fd()), unix.TCGETS)
	return err == nil
}
