package exchange

import "net/http"

// StatusText is the reason phrase for a status that RAUTA itself answers with; unknown codes get "Error".
func StatusText(status int) string {
	if t := http.StatusText(status); t != "" {
		return t
	}
	return "Error"
}
