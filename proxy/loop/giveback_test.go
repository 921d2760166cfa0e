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

func TestOnlyAddressesAreTakenForPages(t *testing.T) {
	for text, want := range map[string]pages{
		"00400000-01180000": {0x400000, 0xd80000}, "0-1000": {0, 0x1000},
		"": {}, "1000": {}, "1000-": {}, "2000-1000": {}, "x-y": {}, "Size:": {},
	} {
		if got := pagesOf(text); got != want {
			t.Errorf("%q: %v, want %v", text, got, want)
		}
	}
}
