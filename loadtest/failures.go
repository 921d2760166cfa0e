package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"time"

	"rauta.io/rauta/loadtest/generator"
)

// failedFolder, below the result folder, has a folder for each start of a contender that failed requests: they are rare,
// and what could explain them goes with the contender.
const failedFolder = "failed"

// keepFailed says which requests of a contender failed, and keeps its logs, and what RAUTA says about itself. It is called
// while the contender still runs. What cannot be kept is no reason to end a run.
func (l *lab) keepFailed(ctx context.Context, e *entered, result *generator.Result) {
	if result.Failed() == 0 {
		return
	}
	name := fmt.Sprintf("%s-%s-%d", time.Now().UTC().Format("20060102-150405"), strings.ReplaceAll(e.label, " ", "-"), e.environment.Port)
	folder := filepath.Join(l.options.folder, failedFolder, name)
	fmt.Fprintf(l.output, "%s failed %d requests: %s; logs in %s\n", e.label, result.Failed(), describeFailures(result), folder)
	if err := os.MkdirAll(folder, 0o755); err != nil {
		fmt.Fprintln(l.output, "keeping logs:", err)
		return
	}
	logs, _ := filepath.Glob(filepath.Join(e.environment.Folder, "*.log")) // the pattern is valid
	for _, log := range logs {
		text, err := os.ReadFile(log)
		if err == nil {
			err = os.WriteFile(filepath.Join(folder, filepath.Base(log)), text, 0o644)
		}
		if err != nil {
			fmt.Fprintln(l.output, "keeping logs:", err)
		}
	}
	if !e.contender.Routes {
		return // only RAUTA has more to tell
	}
	for file, url := range map[string]string{
		"metrics.txt":    fmt.Sprintf("http://127.0.0.1:%d/metrics", e.environment.MetricsPort),
		"goroutines.txt": fmt.Sprintf("http://127.0.0.1:%d/debug/pprof/goroutine?debug=2", e.environment.AdminPort),
	} {
		if err := keepPage(ctx, url, filepath.Join(folder, file)); err != nil {
			fmt.Fprintf(l.output, "keeping %s: %v\n", file, err)
		}
	}
}

// describeFailures counts by reason, and tells the rounds: whole slices without an answer are not what some lost requests are.
func describeFailures(result *generator.Result) string {
	var parts []string
	for _, reason := range sortedKeys(result.Failures) {
		parts = append(parts, fmt.Sprintf("%d x %s", result.Failures[reason], reason))
	}
	for _, s := range result.Samples {
		if s.Failed > 0 {
			parts = append(parts, fmt.Sprintf("%d of %d in round %d", s.Failed, s.Failed+s.Requests, s.Round))
		}
	}
	return strings.Join(parts, ", ")
}

// keepPage writes a page to a file, whatever its status is.
func keepPage(ctx context.Context, url, path string) error {
	return readPage(ctx, url, func(page io.Reader) error {
		text, err := io.ReadAll(page)
		if err != nil {
			return err
		}
		return os.WriteFile(path, text, 0o644)
	})
}
