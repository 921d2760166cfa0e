package control

import (
	"context"
	"log/slog"
)

// problemLinesMax bounds how many problems are logged at once: whoever has thousands does not read them in a log.
const problemLinesMax = 200

// problem is one line about an object.
type problem struct {
	level slog.Level
	text  string
}

// problemLog logs problems once, and again only after they were gone.
type problemLog struct {
	log      *slog.Logger
	reported map[string]bool
}

func (l *problemLog) report(problems []problem) {
	now := make(map[string]bool, len(problems))
	lines := 0
	for _, p := range problems {
		now[p.text] = true
		if l.reported[p.text] {
			continue
		}
		if lines++; lines <= problemLinesMax {
			l.log.Log(context.Background(), p.level, "configuration problem", "problem", p.text)
		}
	}
	if lines > problemLinesMax {
		l.log.Warn("there are more configuration problems than are logged", "left_out", lines-problemLinesMax)
	}
	l.reported = now
}
