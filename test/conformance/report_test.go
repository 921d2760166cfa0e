package conformance

import (
	"bytes"
	"os"
	"path/filepath"
	"regexp"
	"testing"

	"github.com/stretchr/testify/require"
	"sigs.k8s.io/gateway-api/conformance/utils/suite"
	"sigs.k8s.io/yaml"
)

func writeReport(t *testing.T, all *suite.ConformanceTestSuite) {
	t.Helper()
	content, err := all.Report()
	require.NoError(t, err)
	text, err := yaml.Marshal(content)
	require.NoError(t, err)
	require.NoError(t, keepReport(*report, text))
}

// whenAndWhat are the lines of a report that differ between any two runs: its date, and the version of RAUTA.
var whenAndWhat = regexp.MustCompile(`(?m)^(?:date|  version): .*$`)

// keepReport writes a report, unless the one that is there says the same of another day: a run that shows nothing new
// leaves nothing to commit.
func keepReport(file string, text []byte) error {
	bare := func(text []byte) []byte { return whenAndWhat.ReplaceAll(text, nil) }
	if before, err := os.ReadFile(file); err == nil && bytes.Equal(bare(before), bare(text)) {
		return nil
	}
	return os.WriteFile(file, text, 0o644)
}

func TestAReportIsWrittenOnlyIfItSaysSomethingNew(t *testing.T) {
	file := filepath.Join(t.TempDir(), "report.yaml")
	text := func(date, version, passed string) []byte {
		return []byte("apiVersion: v1\ndate: \"" + date + "\"\nimplementation:\n  version: " + version + "\nstatistics:\n  Passed: " + passed + "\n")
	}
	for _, run := range []struct {
		text, want []byte
	}{
		{text("1", "a", "20"), text("1", "a", "20")},
		{text("2", "b", "20"), text("1", "a", "20")},
		{text("3", "c", "21"), text("3", "c", "21")},
	} {
		require.NoError(t, keepReport(file, run.text))
		got, err := os.ReadFile(file)
		require.NoError(t, err)
		require.Equal(t, string(run.want), string(got))
	}
}
