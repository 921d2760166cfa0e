package translate

import (
	"fmt"
	"regexp/syntax"
	"slices"
	"strings"
)

const (
	// regexBytesMax and regexInstructionsMax bound what a pattern costs to compile, and each request that it is run on.
	// They are those of the router, which would refuse the rule later and with less to say about where it is.
	regexBytesMax        = 4096
	regexInstructionsMax = 5000
	// regexInstructionsRouteMax bounds what all patterns of one route cost: a route may have 128 matches with 33 patterns
	// each, which would be a gigabyte and half a minute of compiling. An instruction takes some 60 bytes and 2 µs.
	regexInstructionsRouteMax = 20_000
	// runesPerInstruction is how many runes of a character class take the room of an instruction: classes such as \pL have
	// more than a thousand.
	runesPerInstruction = 10
)

// What is wrong with patterns that are valid.
var (
	tooLarge            = fmt.Sprintf("expands to more than %d instructions", regexInstructionsMax)
	tooManyInstructions = fmt.Sprintf("makes the regular expressions of the route expand to more than %d instructions together", regexInstructionsRouteMax)
)

// regexes are the patterns of one route, each once, and what they cost together.
type regexes struct {
	seen         map[string]string // what is wrong with it
	instructions int
}

// hint says what to do about what check says of the pattern of a place, such as the path.
func (r *regexes) hint(problem, place string) string {
	switch problem {
	case tooManyInstructions:
		return "use fewer or shorter regular expressions in this route, or several routes"
	case tooLarge:
		return "use a shorter pattern; x{1,500} counts as 500 times x"
	}
	return "write an RE2 pattern for the whole " + place
}

// check says what is wrong with an RE2 pattern.
func (r *regexes) check(pattern string, bytesMax int) string {
	switch {
	case pattern == "":
		return "is empty"
	case len(pattern) > bytesMax:
		return fmt.Sprintf("is longer than %d bytes", bytesMax)
	case r.instructions > regexInstructionsRouteMax: // those that come then are not even parsed
		return tooManyInstructions
	}
	problem, known := r.seen[pattern]
	if !known {
		problem = r.weigh(pattern)
		if r.seen == nil {
			r.seen = map[string]string{}
		}
		r.seen[pattern] = problem
	}
	return problem
}

func (r *regexes) weigh(pattern string) string {
	parsed, err := syntax.Parse(pattern, syntax.Perl)
	if err != nil {
		return "is not valid: " + strings.TrimPrefix(err.Error(), "error parsing regexp: ")
	}
	n := instructionsOf(parsed)
	if n > regexInstructionsMax {
		return tooLarge
	}
	r.instructions += n + runesOf(parsed)/runesPerInstruction
	if r.instructions > regexInstructionsRouteMax {
		return tooManyInstructions
	}
	if _, err := syntax.Compile(parsed.Simplify()); err != nil {
		return "is not valid: " + err.Error()
	}
	return ""
}

// instructionsOf is how many instructions a pattern compiles to, or a few more. To compile it in order to know would cost
// what the limit is there to save.
func instructionsOf(re *syntax.Regexp) int {
	const frame = 2 // of the whole program, and of a group
	return frame + nodesOf(re)
}

func nodesOf(re *syntax.Regexp) int {
	n := 0
	for _, sub := range re.Sub {
		n += nodesOf(sub)
	}
	switch re.Op {
	case syntax.OpLiteral:
		return len(re.Rune)
	case syntax.OpCapture:
		return n + 2
	case syntax.OpStar: // x* is (x+)? if x may be empty
		if needsText(re.Sub[0]) {
			return n + 1
		}
		return n + 2
	case syntax.OpPlus, syntax.OpQuest:
		return n + 1
	case syntax.OpConcat:
		return max(n, 1)
	case syntax.OpAlternate:
		return max(n+len(re.Sub)-1, 1)
	case syntax.OpRepeat:
		if re.Max < 0 { // x{2,} is xx+
			return max(re.Min, 1)*n + 2
		}
		return max(re.Max*n+re.Max-re.Min, 1) // x{2,4} is xx(x(x)?)?
	}
	return 1
}

// needsText reports whether it is sure that the empty text does not match.
func needsText(re *syntax.Regexp) bool {
	switch re.Op {
	case syntax.OpLiteral, syntax.OpCharClass, syntax.OpAnyChar, syntax.OpAnyCharNotNL:
		return true
	case syntax.OpCapture, syntax.OpPlus:
		return needsText(re.Sub[0])
	case syntax.OpConcat:
		return slices.ContainsFunc(re.Sub, needsText)
	}
	return false
}

// runesOf counts what character classes have. The copies that a repetition makes share them.
func runesOf(re *syntax.Regexp) int {
	n := 0
	if re.Op == syntax.OpCharClass {
		n = len(re.Rune)
	}
	for _, sub := range re.Sub {
		n += runesOf(sub)
	}
	return n
}
