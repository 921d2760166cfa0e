package procfs

import (
	"os"
	"os/exec"
	"slices"
	"testing"
)

func TestTheStatLineIsSplitBehindACommandThatLooksLikeFields(t *testing.T) {
	line := "42 (a) R 1 (b c) S 7 42 42 0 -1 4194304 100 0 0 0 11 22 0 0 20 0 1 0 5 6 7"
	fields, err := splitStat([]byte(line))
	if err != nil {
		t.Fatal(err)
	}
	if fields[statParent] != "7" || fields[statUser] != "11" || fields[statSystem] != "22" {
		t.Errorf("parent %s, user %s, system %s; want 7, 11, 22", fields[statParent], fields[statUser], fields[statSystem])
	}
	for _, bad := range []string{"", "42 (a", "42 (a) R 1 2"} {
		if _, err := splitStat([]byte(bad)); err == nil {
			t.Errorf("%q is accepted", bad)
		}
	}
}

func TestTheStatusFieldIsFoundByItsWholeName(t *testing.T) {
	text := []byte("Name:\tx\nVmHWM:\t   99 kB\nVmRSS:\t    1234 kB\n")
	if got, err := statusKiB(text, "VmRSS:"); err != nil || got != 1234 {
		t.Errorf("got %d, %v; want 1234", got, err)
	}
	if _, err := statusKiB(text, "VmSwap:"); err == nil {
		t.Error("a missing field is no error")
	}
}

func TestThisProcessHasUsedTimeAndMemory(t *testing.T) {
	own := []int{os.Getpid()}
	if cpu, err := ReadCPU(own); err != nil || cpu.Used == 0 {
		t.Errorf("CPU %+v, %v", cpu, err)
	}
	if rss, err := RSSBytes(own); err != nil || rss < 1<<20 {
		t.Errorf("%d bytes resident, %v", rss, err)
	}
	if _, _, err := Ticks(own); err != nil {
		t.Error(err)
	}
}

func TestTheTreeHasChildrenAndAnEndedProcessIsAnError(t *testing.T) {
	child := exec.Command("cat")
	input, err := child.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := child.Start(); err != nil {
		t.Fatal(err)
	}
	pid := child.Process.Pid
	tree, err := Tree(os.Getpid())
	if err != nil || tree[0] != os.Getpid() || !slices.Contains(tree, pid) {
		t.Errorf("the tree is %v, %v; want %d in it", tree, err, pid)
	}
	input.Close()
	if err := child.Wait(); err != nil {
		t.Fatal(err)
	}
	if _, err := ReadCPU([]int{pid}); err == nil {
		t.Error("the CPU time of an ended process is no error")
	}
}

func TestIdleTimeIsSummedOverProcessorsWithWaitsAndWhatOthersTook(t *testing.T) {
	text := "cpu  9 9 9 9 9 9 9 9 9 9\ncpu0 1 2 3 100 20 4 5 3 0 0\ncpu1 1 2 3 200 30 4 5 4 0 0\nintr 1 2 3 4 5 6 7 8 9 10\n"
	got, err := parseIdle([]byte(text))
	if want := (Idle{Nanos: 357 * tickNanos, Processors: 2}); err != nil || got != want {
		t.Errorf("got %+v, %v; want %+v", got, err, want)
	}
	for _, bad := range []string{"", "cpu  1 2 3 4 5 6 7 8 9 10\n", "cpu0 1 2 3 many 5 6 7 8 9 10\n"} {
		if got, err := parseIdle([]byte(bad)); err == nil {
			t.Errorf("%q is read as %+v", bad, got)
		}
	}
	if own, err := ReadIdle(); err != nil || own.Processors == 0 || own.Nanos == 0 {
		t.Errorf("this machine: %+v, %v", own, err)
	}
}
