package top

import (
	"bufio"
	"bytes"
	"errors"
	"io"
	"strconv"
)

// lineBytesMax bounds a line of the page: the names in it are bounded by those of Kubernetes.
const lineBytesMax = 64 << 10

// sample is a line of the Prometheus text format. It is valid until the next one is read. expfmt of prometheus/common makes
// objects of every label of every line: 1.9 s of CPU time and 890 MB for each reading of 10,000 routes, once a second
// (BenchmarkAReadingOfTenThousandRoutes).
type sample struct {
	name   []byte
	labels []byte // between the braces, as they stand there
	value  float64
}

var errLine = errors.New("a line is not of the Prometheus text format")

// eachSample calls f with all lines of a page whose names are wanted.
func eachSample(r io.Reader, wanted func(name []byte) bool, f func(*sample)) error {
	lines := bufio.NewScanner(r)
	lines.Buffer(nil, lineBytesMax)
	var s sample
	for lines.Scan() {
		line := lines.Bytes()
		if len(line) == 0 || line[0] == '#' {
			continue
		}
		end := bytes.IndexAny(line, "{ \t")
		if end < 0 {
			return errLine
		}
		if s.name = line[:end]; !wanted(s.name) {
			continue
		}
		if !s.parse(line[end:]) {
			return errLine
		}
		f(&s)
	}
	return lines.Err()
}

// parse takes what comes after the name: labels, value, and, where there is one, a time.
func (s *sample) parse(rest []byte) bool {
	s.labels = nil
	if rest[0] == '{' {
		end := closing(rest)
		if end < 0 {
			return false
		}
		s.labels, rest = rest[1:end], rest[end+1:]
	}
	rest = bytes.TrimLeft(rest, " \t")
	if end := bytes.IndexAny(rest, " \t"); end >= 0 {
		rest = rest[:end]
	}
	v, err := strconv.ParseFloat(string(rest), 64)
	s.value = v
	return err == nil
}

// closing returns where the brace closes that a text begins with, -1 if nowhere. One in a value does not.
func closing(text []byte) int {
	for i := 1; i < len(text); i++ {
		switch text[i] {
		case '}':
			return i
		case '"':
			end := quoted(text[i+1:])
			if end < 0 {
				return -1
			}
			i += 1 + end
		}
	}
	return -1
}

// quoted returns where the value ends that a text begins with, -1 if nowhere.
func quoted(text []byte) int {
	from := 0
	for {
		end := bytes.IndexByte(text[from:], '"')
		if end < 0 {
			return -1
		}
		end += from
		escapes := 0
		for end-escapes > 0 && text[end-escapes-1] == '\\' {
			escapes++
		}
		if escapes%2 == 0 {
			return end
		}
		from = end + 1
	}
}

// label returns the value of a label as it stands between its quotes, nil if there is none.
func (s *sample) label(name string) []byte {
	rest := s.labels
	for {
		equals := bytes.IndexByte(rest, '=')
		if equals < 0 || equals+1 == len(rest) || rest[equals+1] != '"' {
			return nil
		}
		key, value := bytes.Trim(rest[:equals], ", "), rest[equals+2:]
		end := quoted(value)
		if end < 0 {
			return nil
		}
		if string(key) == name {
			return value[:end]
		}
		rest = value[end+1:]
	}
}

// text returns the value of a label.
func text(value []byte) string {
	if bytes.IndexByte(value, '\\') < 0 {
		return string(value)
	}
	out := make([]byte, 0, len(value))
	for i := 0; i < len(value); i++ {
		c := value[i]
		if c == '\\' && i+1 < len(value) {
			if i++; value[i] == 'n' {
				c = '\n'
			} else {
				c = value[i]
			}
		}
		out = append(out, c)
	}
	return string(out)
}
