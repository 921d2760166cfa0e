package config

import (
	"strings"
	"testing"
)

func TestPoliciesOfCORSAreChecked(t *testing.T) {
	long := make([]string, corsListMax+1)
	for i := range long {
		long[i] = "X"
	}
	for want, c := range map[string]CORS{
		"": {
			AllowOrigins: []string{"https://a.example", "http://*.b.example:8080", "https://*", "https://*:1", "http://127.0.0.1:3000"},
			AllowMethods: []string{"GET", "PURGE"}, AllowHeaders: []string{"*"}, ExposeHeaders: []string{"X-A"}, MaxAge: 86400,
			AllowCredentials: true,
		},
		`allowOrigins[1]: origin "ftp://b.example"`:         {AllowOrigins: []string{"https://a.example", "ftp://b.example"}},
		`allowOrigins[0]: origin "a.example"`:               {AllowOrigins: []string{"a.example"}},
		`allowOrigins[0]: origin "https://a.example:"`:      {AllowOrigins: []string{"https://a.example:"}},
		`origin "https://a.example:0" has a port`:           {AllowOrigins: []string{"https://a.example:0"}},
		`origin "https://a.example:65536" has a port`:       {AllowOrigins: []string{"https://a.example:65536"}},
		`origin "https://a.example:080" has a port`:         {AllowOrigins: []string{"https://a.example:080"}},
		`hostname "a.example/path" is not valid`:            {AllowOrigins: []string{"https://a.example/path"}},
		`hostname "A.example" is not valid`:                 {AllowOrigins: []string{"https://A.example"}},
		`hostname "a.*.example" is not valid`:               {AllowOrigins: []string{"https://a.*.example"}},
		`allowOrigins: "*" stands for everything`:           {AllowOrigins: []string{"*", "https://a.example"}},
		`allowMethods: "*" stands for everything`:           {AllowMethods: []string{"GET", "*"}},
		`allowMethods[0]: method "G\nET" is not a token`:    {AllowMethods: []string{"G\nET"}},
		`allowHeaders[0]: header name "a b" has a charact`:  {AllowHeaders: []string{"a b"}},
		`exposeHeaders[0]: header name is empty`:            {ExposeHeaders: []string{""}},
		`exposeHeaders: more than 64 values`:                {ExposeHeaders: long},
		`exposeHeaders: "*" has no meaning with credential`: {ExposeHeaders: []string{"*"}, AllowCredentials: true},
		`maxAge: -1 is not between 0 and 2147483647`:        {MaxAge: -1},
	} {
		err := CheckFilter(&Filter{CORS: &c})
		switch {
		case want == "" && err != nil:
			t.Error(err)
		case want != "" && (err == nil || !strings.HasPrefix(err.Error(), "cors: ") || !strings.Contains(err.Error(), want)):
			t.Errorf("got %v, want %s", err, want)
		}
	}
}
