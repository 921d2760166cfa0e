package config

import "testing"

func TestPoliciesOfHSTSAreReadAndWrittenInOneForm(t *testing.T) {
	for in, want := range map[string]string{
		"max-age=31536000":                        "max-age=31536000",
		`Preload ; includesubdomains;MAX-AGE="0"`: "max-age=0; includeSubDomains; preload",
		"":                               "",
		"includeSubDomains":              "",
		"max-age=-1":                     "",
		"max-age=1; max-age=2":           "",
		"max-age=99999999999":            "",
		"max-age=1; includeSubDomains=1": "",
		"max-age=1; evil\r\nX: y":        "",
		"max-age=1;":                     "",
	} {
		got, err := ParseHSTS(in)
		if got != want || (err == nil) != (want != "") {
			t.Errorf("%q: %q, %v", in, got, err)
		}
	}
	if err := CheckFilter(&Filter{HSTS: &HSTS{Value: "preload;max-age=1"}}); err == nil {
		t.Error("a value that is not in canonical form was accepted")
	}
	if err := CheckFilter(&Filter{RequireHTTPS: &RequireHTTPS{Status: 200}}); err == nil {
		t.Error("a status that redirects nobody was accepted")
	}
}
