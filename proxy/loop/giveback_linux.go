package loop

import (
	"bufio"
	"bytes"
	"os"
	"runtime/debug"

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

// programPages are the parts of the program that are as they are in its file and cannot be written. The file has some thousand
// lines, of which no string is made: requests are served meanwhile, and tests count what these allocate.
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
	ofProgram, anonymous := []byte(" "+program), []byte("Anonymous:")
	for lines := bufio.NewScanner(f); lines.Scan(); {
		switch line := lines.Bytes(); {
		case bytes.HasSuffix(line, ofProgram):
			last = pagesOf(line)
		case last.size > 0 && bytes.HasPrefix(line, anonymous):
			// Else some were relocated, and would be lost.
			if string(bytes.TrimSpace(line[len(anonymous):])) == "0 kB" {
				all = append(all, last)
			}
			last = pages{}
		}
	}
	return all
}

// pagesOf reads the beginning of a line of /proc/PID/maps, "start-end r-xp"; no pages if they can be written, are shared, or
// the line is something else.
func pagesOf(line []byte) pages {
	start, rest := hexadecimal(line)
	if len(rest) == 0 || rest[0] != '-' {
		return pages{}
	}
	end, rest := hexadecimal(rest[1:])
	if len(rest) < 5 || rest[0] != ' ' || rest[1] != 'r' || rest[2] != '-' || rest[4] != 'p' || end <= start {
		return pages{}
	}
	return pages{start, end - start}
}

// hexadecimal reads the digits at the beginning, and returns what follows them.
func hexadecimal(text []byte) (n uintptr, rest []byte) {
	for i, c := range text {
		switch {
		case '0' <= c && c <= '9':
			n = n<<4 | uintptr(c-'0')
		case 'a' <= c && c <= 'f':
			n = n<<4 | uintptr(c-'a'+10)
		default:
			return n, text[i:]
		}
	}
	return n, nil
}
