package loop

import (
	"bufio"
	"os"
	"runtime/debug"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// GiveBack returns memory to the system that starting and reading a configuration needed for a moment: what the heap has free,
// and the pages of the program, most of which nothing that serves requests looks at. Those that are used come back from the
// page cache. It costs a garbage collection, so call it when the configuration rests.
func GiveBack() {
	debug.FreeOSMemory()
	for _, m := range programPages() {
		// What can't be dropped, such as locked pages, stays.
		_, _, _ = unix.Syscall(unix.SYS_MADVISE, m.start, m.size, unix.MADV_DONTNEED)
	}
}

// pages are a part of the address space.
type pages struct{ start, size uintptr }

// programPages are the parts of the program that are as they are in its file and cannot be written.
func programPages() []pages {
	program, err := os.Readlink("/proc/self/exe")
	if err != nil {
		return nil
	}
	f, err := os.Open("/proc/self/smaps")
	if err != nil {
		return nil
	}
	defer f.Close()
	var all []pages
	var last pages // of the program, until it turns out to have pages of its own
	for lines := bufio.NewScanner(f); lines.Scan(); {
		switch fields := strings.Fields(lines.Text()); {
		case len(fields) == 6 && fields[5] == program && strings.HasPrefix(fields[1], "r-") && strings.HasSuffix(fields[1], "p"):
			last = pagesOf(fields[0])
		case len(fields) > 4:
			last = pages{}
		case last.size > 0 && len(fields) == 3 && fields[0] == "Anonymous:":
			if fields[1] == "0" { // else some were relocated, and would be lost
				all = append(all, last)
			}
			last = pages{}
		}
	}
	return all
}

// pagesOf reads "start-end" in hexadecimal digits; no pages if it is something else.
func pagesOf(text string) pages {
	from, to, _ := strings.Cut(text, "-")
	start, err := strconv.ParseUint(from, 16, 64)
	if err != nil {
		return pages{}
	}
	end, err := strconv.ParseUint(to, 16, 64)
	if err != nil || end <= start {
		return pages{}
	}
	return pages{uintptr(start), uintptr(end - start)}
}
