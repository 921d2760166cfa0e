package loop

import (
	"bufio"
	"os"
	"strconv"
	"strings"
	"testing"
)

// programResident is how much of the program's file is in the memory of this process, in KiB.
func programResident(t *testing.T) (kib int) {
	program, err := os.Readlink("/proc/self/exe")
	if err != nil {
		t.Fatal(err)
	}
	f, err := os.Open("/proc/self/smaps")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	ours := false
	for lines := bufio.NewScanner(f); lines.Scan(); {
		switch fields := strings.Fields(lines.Text()); {
		case len(fields) > 4:
			ours = fields[len(fields)-1] == program && fields[1][1] == '-'
		case ours && fields[0] == "Rss:":
			n, err := strconv.Atoi(fields[1])
			if err != nil {
				t.Fatal(err)
			}
			kib += n
		}
	}
	return kib
}

func TestPagesOfTheProgramAreGivenBackAndComeWhenTheyAreUsed(t *testing.T) {
	before := programResident(t)
	GiveBack()
	after := programResident(t)
	if after >= before {
		t.Errorf("%d KiB of the program are in memory, %d before", after, before)
	}
	t.Logf("%d KiB, %d before", after, before)
}

func TestOnlyPagesThatCannotBeWrittenAreTaken(t *testing.T) {
	for line, want := range map[string]pages{
		"00400000-01180000 r-xp 00000000 08:01 1 /bin/rauta":  {0x400000, 0xd80000},
		"7fab01-7fac00 r--p 00000000 08:01 1      /bin/rauta": {0x7fab01, 0xff},
		"00400000-01180000 rw-p 00000000 08:01 1 /bin/rauta":  {},
		"00400000-01180000 r-xs 00000000 08:01 1 /bin/rauta":  {},
		"00400000-01180000 ---p 00000000 08:01 1 /bin/rauta":  {},
		"01180000-00400000 r-xp 00000000 08:01 1 /bin/rauta":  {},
		"": {}, "1000": {}, "1000-": {}, "1000-2000": {}, "Size:   4 kB": {}, "VmFlags: rd": {},
	} {
		if got := pagesOf([]byte(line)); got != want {
			t.Errorf("%q: %v, want %v", line, got, want)
		}
	}
}

func TestGivingBackAllocatesLittle(t *testing.T) {
	const most = 30 // one for each file and buffer, and what the runtime has for itself
	if n := testing.AllocsPerRun(3, GiveBack); n > most {
		t.Errorf("%.0f allocations", n)
	}
}
