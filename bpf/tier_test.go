//go:build linux && (amd64 || arm64)

package bpf

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"rauta.io/rauta/internal/testrig"
	"rauta.io/rauta/proxy/observe"
)

// TierWanted is how this program, started again with other permissions, is told what to expect: see TestMain.
const TierWanted = "RAUTA_TEST_TIER"

// CheckTier reports whether the tier is the one that is wanted.
func CheckTier(want string) error {
	k, tier := Open(observe.NewRegistry(observe.Options{}))
	if k != nil {
		defer k.Close()
	}
	if tier.Name != want {
		return fmt.Errorf("tier %q (%s), not %q", tier.Name, tier.Reason, want)
	}
	if want == TierNone && !strings.Contains(tier.Reason, "CAP_BPF") {
		return fmt.Errorf("the reason does not say what is missing: %s", tier.Reason)
	}
	return nil
}

func TestItNeedsTwoCapabilitiesAndNoMore(t *testing.T) {
	k, tier := Open(observe.NewRegistry(observe.Options{}))
	if k == nil {
		t.Skipf("the kernel takes no programs here: %s", tier.Reason)
	}
	k.Close()
	setpriv := testrig.NeedsSetpriv(t)
	const caps = "+bpf,+perfmon,+net_bind_service"
	cases := []struct {
		name, tier string
		args       []string
	}{
		{"uid 0 without new privileges", tier.Name, []string{"--no-new-privs", "--bounding-set=-all," + caps, "--inh-caps=-all," + caps}},
		{"another uid with ambient capabilities", tier.Name, []string{"--reuid=65534", "--clear-groups", "--inh-caps=-all," + caps, "--ambient-caps=-all," + caps}},
		{"uid 0 without any", TierNone, []string{"--bounding-set=-all", "--inh-caps=-all"}},
		{"another uid without any", TierNone, []string{"--reuid=65534", "--clear-groups", "--inh-caps=-all", "--no-new-privs"}},
		{"without CAP_PERFMON", TierNone, []string{"--no-new-privs", "--bounding-set=-all,+bpf", "--inh-caps=-all,+bpf"}},
	}
	self := childBinary(t)
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			cmd := exec.Command(setpriv, append(c.args, "--", self)...)
			cmd.Env = append(os.Environ(), TierWanted+"="+c.tier)
			cmd.Dir = "/"
			if out, err := cmd.CombinedOutput(); err != nil {
				t.Fatalf("%v\n%s", err, out)
			}
		})
	}
}

// childBinary copies the test to where every user may run it.
func childBinary(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "rauta-bpf")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(self)
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, "test")
	if err := os.WriteFile(path, text, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	return path
}
