package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"strconv"
	"time"

	"github.com/spf13/cobra"
)

const (
	// profileBytesMax bounds a profile that is fetched. Traces are the largest: some MB a second.
	profileBytesMax = 1 << 30
	// profileMargin is what a profile may take beyond the time that it covers.
	profileMargin = 30 * time.Second
	// profileSecondsMax is below the time that the admin address allows for an answer.
	profileSecondsMax = 240
)

// profileNames are the values of --type.
const profileNames = "cpu, trace, heap, allocs, goroutine, mutex or block"

// profileKind says where a profile is, how its file ends, and whether it covers a time.
type profileKind struct {
	page, suffix string
	timed        bool
}

// profileKindOf returns what a value of --type stands for.
func profileKindOf(name string) (kind profileKind, ok bool) {
	switch name {
	case "cpu":
		return profileKind{"profile", "pb.gz", true}, true
	case "trace":
		return profileKind{"trace", "trace", true}, true
	case "heap", "allocs", "goroutine", "mutex", "block":
		return profileKind{name, "pb.gz", false}, true
	}
	return profileKind{}, false
}

func newDebug() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "debug",
		Short: "Look inside a running RAUTA",
		Args:  cobra.NoArgs,
	}
	cmd.AddCommand(newDebugProfile())
	return cmd
}

// profileOptions are the flags of debug profile.
type profileOptions struct {
	admin   string
	kind    string
	seconds int
	file    string
}

func newDebugProfile() *cobra.Command {
	o := &profileOptions{}
	cmd := &cobra.Command{
		Use:   "profile [--admin URL] [--type cpu|trace|heap|allocs|goroutine|mutex|block]",
		Short: "Fetch a profile of a running RAUTA into a file",
		Long:  `Fetch a profile of a running RAUTA into a file, for go tool pprof (or, of type trace, go tool trace).`,
		Example: `  rauta debug profile --seconds 10
  rauta debug profile --type heap -f heap.pb.gz && go tool pprof -top heap.pb.gz`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			file, n, err := o.fetch(cmd.Context())
			if err != nil {
				return err
			}
			fmt.Fprintf(cmd.OutOrStdout(), "%s: %d bytes\n", file, n)
			return nil
		},
	}
	f := cmd.Flags()
	f.SortFlags = false
	f.StringVar(&o.admin, "admin", adminDefault, "URL of the admin address of a running RAUTA")
	f.StringVar(&o.kind, "type", "cpu", profileNames)
	f.IntVar(&o.seconds, "seconds", 10, "how long cpu and trace look")
	f.StringVarP(&o.file, "file", "f", "", "file to write (default rauta-TYPE-TIME.SUFFIX in this folder)")
	return cmd
}

// fetch writes the file and returns its name and length. What is there already is not overwritten.
func (o *profileOptions) fetch(ctx context.Context) (file string, n int64, err error) {
	base, err := adminURL(o.admin)
	if err != nil {
		return "", 0, err
	}
	kind, ok := profileKindOf(o.kind)
	if !ok {
		return "", 0, usagef("--type %q: must be %s", o.kind, profileNames)
	}
	if o.seconds < 1 || o.seconds > profileSecondsMax {
		return "", 0, usagef("--seconds %d: must be 1 to %d", o.seconds, profileSecondsMax)
	}
	u := base.JoinPath("debug", "pprof", kind.page)
	if kind.timed {
		u.RawQuery = url.Values{"seconds": {strconv.Itoa(o.seconds)}}.Encode()
	}
	ctx, cancel := context.WithTimeout(ctx, time.Duration(o.seconds)*time.Second+profileMargin)
	defer cancel()
	resp, err := ask(ctx, o.admin, u)
	if err != nil {
		return "", 0, err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return "", 0, fmt.Errorf("%w (the admin address has profiles, the metrics address has none)", refusal(o.admin, resp))
	}
	file = o.file
	if file == "" {
		file = fmt.Sprintf("rauta-%s-%s.%s", o.kind, time.Now().UTC().Format("20060102T150405"), kind.suffix)
	}
	out, err := os.OpenFile(file, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return "", 0, fmt.Errorf("write the profile: %w", err)
	}
	n, err = io.Copy(out, io.LimitReader(resp.Body, profileBytesMax))
	if err := errors.Join(err, out.Close()); err != nil {
		return "", 0, errors.Join(fmt.Errorf("write the profile to %s: %w", file, err), os.Remove(file))
	}
	return file, n, nil
}
