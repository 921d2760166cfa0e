package main

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"sigs.k8s.io/yaml"

	"rauta.io/rauta/control/translate"
	"rauta.io/rauta/control/watch"
)

const checkLong = `Say everything that is wrong with a configuration: file and line, object, field, and what to do.

It reads, translates and compiles as serve does. It exits with 1 if there are errors, and with 0 if there are none or
only warnings. With --kubeconfig the objects of a cluster are read in place of files, and nothing is written there.`

// checkOptions are the flags of check.
type checkOptions struct {
	output    string
	status    bool
	translate translate.Options
	cluster   clusterOptions
}

func newCheck() *cobra.Command {
	o := &checkOptions{}
	cmd := &cobra.Command{
		Use:   "check {PATH... | --kubeconfig FILE}",
		Short: "Say what is wrong with a configuration, and what to do",
		Long:  checkLong,
		Args:  cobra.ArbitraryArgs,
		RunE: func(cmd *cobra.Command, args []string) error {
			if (len(args) == 0) == (o.cluster.access.Kubeconfig == "") {
				return usagef("give either files and folders to check, or --kubeconfig FILE")
			}
			if err := o.cluster.validateCommand(); err != nil {
				return err
			}
			if err := validateOutput(o.output); err != nil {
				return err
			}
			if err := validateMeaning(&o.translate); err != nil {
				return err
			}
			l, err := o.load(cmd.Context(), args, cmd.ErrOrStderr())
			if err != nil {
				return err
			}
			return check(l, o, cmd.OutOrStdout())
		},
	}
	f := cmd.Flags()
	f.SortFlags = false
	f.StringVarP(&o.output, "output", "o", "text", "text or json")
	f.BoolVar(&o.status, "status", false, "also print the conditions that the objects would get")
	meaningFlags(f, &o.translate)
	o.cluster.readingFlags(f, "kubeconfig of a cluster whose objects are checked")
	return cmd
}

func (o *checkOptions) load(ctx context.Context, paths []string, stderr io.Writer) (*loaded, error) {
	if o.cluster.access.Kubeconfig != "" {
		return loadCluster(ctx, &o.cluster, o.translate, stderr)
	}
	return loadFiles(paths, o.translate), nil
}

func validateOutput(output string) error {
	if output != "text" && output != "json" {
		return usagef("--output %q: must be text or json", output)
	}
	return nil
}

// checkReport is what check -o json prints.
type checkReport struct {
	Problems []checkProblem `json:"problems"`
	Errors   int            `json:"errors"`
	Warnings int            `json:"warnings"`
	Objects  int            `json:"objects"`
	Routes   int            `json:"routes"`
	// Unreadable: a file can't be read completely, so that nothing of this configuration would come into force.
	Unreadable bool `json:"unreadable,omitempty"`
	// Statuses only with --status.
	Statuses *translate.Statuses `json:"statuses,omitempty"`
}

type checkProblem struct {
	Severity translate.Severity   `json:"severity"`
	File     string               `json:"file,omitempty"`
	Line     int                  `json:"line,omitempty"`
	Object   *translate.ObjectRef `json:"object,omitempty"`
	Field    string               `json:"field,omitempty"`
	Message  string               `json:"message"`
	Hint     string               `json:"hint,omitempty"`
}

func check(l *loaded, o *checkOptions, w io.Writer) error {
	slices.SortStableFunc(l.problems, func(a, b watch.FileProblem) int {
		return cmp.Or(strings.Compare(a.File, b.File), cmp.Compare(a.Line, b.Line))
	})
	r := checkReport{
		Problems: []checkProblem{}, Errors: l.count(translate.Error), Warnings: l.count(translate.Warning),
		Objects: l.objects, Routes: len(l.snapshot.Routes),
		Unreadable: l.files.Broken(),
	}
	if o.status {
		r.Statuses = &l.result.Statuses
	}
	for _, p := range l.problems {
		r.Problems = append(r.Problems, newCheckProblem(p))
	}
	if err := r.write(w, o.output); err != nil {
		return err
	}
	if r.Errors > 0 {
		return errReported
	}
	return nil
}

func newCheckProblem(p watch.FileProblem) checkProblem {
	c := checkProblem{Severity: p.Severity, File: p.File, Line: p.Line, Field: p.Field, Message: p.Reason, Hint: p.Hint}
	if p.Object.Kind != "" {
		c.Object = &p.Object
	}
	return c
}

func (r *checkReport) write(w io.Writer, output string) error {
	if output == "json" {
		e := json.NewEncoder(w)
		e.SetIndent("", "  ")
		return e.Encode(r)
	}
	var b strings.Builder
	for i := range r.Problems {
		r.Problems[i].text(&b)
	}
	if r.Statuses != nil {
		text, err := statusText(r.Statuses)
		if err != nil {
			return fmt.Errorf("write the statuses: %w", err)
		}
		b.Write(text)
	}
	effect := plural(r.Routes, "route") + " would be served"
	if r.Unreadable {
		effect = "a file can't be read completely: nothing would be served, or the last good state go on"
	}
	fmt.Fprintf(&b, "%s, %s in %s; %s\n",
		plural(r.Errors, "error"), plural(r.Warnings, "warning"), plural(r.Objects, "object"), effect)
	_, err := io.WriteString(w, b.String())
	return err
}

// statusText renders statuses as YAML, without the times that only a writer to Kubernetes knows.
func statusText(s *translate.Statuses) ([]byte, error) {
	data, err := json.Marshal(s)
	if err != nil {
		return nil, err
	}
	var tree any
	if err := json.Unmarshal(data, &tree); err != nil {
		return nil, err
	}
	removeNull(tree)
	return yaml.Marshal(tree)
}

func removeNull(tree any) {
	switch t := tree.(type) {
	case map[string]any:
		for k, v := range t {
			if v == nil {
				delete(t, k)
			}
			removeNull(v)
		}
	case []any:
		for _, v := range t {
			removeNull(v)
		}
	}
}

// text writes a problem over two lines: where and what, then what to do.
func (p *checkProblem) text(b *strings.Builder) {
	if p.File != "" {
		fmt.Fprintf(b, "%s:%d: ", p.File, p.Line)
	}
	fmt.Fprintf(b, "%s: ", strings.ToLower(string(p.Severity)))
	if p.Object != nil {
		fmt.Fprintf(b, "%s: ", objectName(p.Object))
	}
	if p.Field != "" {
		fmt.Fprintf(b, "%s: ", p.Field)
	}
	fmt.Fprintln(b, p.Message)
	if p.Hint != "" {
		fmt.Fprintf(b, "    %s\n", p.Hint)
	}
}

func objectName(o *translate.ObjectRef) string {
	if o.Namespace == "" {
		return o.Kind + " " + o.Name
	}
	return o.Kind + " " + o.Namespace + "/" + o.Name
}
