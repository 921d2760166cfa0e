package config

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
)

// hstsAgeMax bounds max-age, in seconds: ten years; more is a mistake that browsers would remember.
const hstsAgeMax = 10 * 366 * 24 * 3600

// ParseHSTS reads the value of Strict-Transport-Security (RFC 6797 section 6.1) and returns it in canonical form. preload
// is not of the RFC, but what the lists in browsers ask for.
func ParseHSTS(v string) (canonical string, err error) {
	age, subdomains, preload := -1, false, false
	for part := range strings.SplitSeq(v, ";") {
		name, value, valued := strings.Cut(strings.TrimSpace(part), "=")
		switch name = strings.ToLower(strings.TrimSpace(name)); {
		case name == "max-age" && age < 0:
			value = strings.Trim(strings.TrimSpace(value), `"`)
			if age, err = strconv.Atoi(value); err != nil || age < 0 || age > hstsAgeMax {
				return "", fmt.Errorf("has a max-age that is not a number of seconds from 0 to %d", hstsAgeMax)
			}
		case name == "includesubdomains" && !valued && !subdomains:
			subdomains = true
		case name == "preload" && !valued && !preload:
			preload = true
		default:
			return "", errors.New("has something else than max-age=SECONDS, includeSubDomains and preload, each once")
		}
	}
	if age < 0 {
		return "", errors.New("has no max-age")
	}
	canonical = "max-age=" + strconv.Itoa(age)
	if subdomains {
		canonical += "; includeSubDomains"
	}
	if preload {
		canonical += "; preload"
	}
	return canonical, nil
}
