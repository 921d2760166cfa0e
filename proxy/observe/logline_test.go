package observe

import (
	"encoding/json"
	"strings"
	"testing"
)

func TestALineSaysWhoTheClientIsOnlyWhereClientsAreAsked(t *testing.T) {
	var clock clockText
	if line := string(appendLine(nil, &Record{}, &clock)); strings.Contains(line, "client_verify") {
		t.Errorf("nobody was asked: %s", line)
	}
	line := appendLine(nil, &Record{ClientVerify: "SUCCESS", ClientSubject: `CN=a"b`, ClientFingerprint: "00ff"}, &clock)
	var got map[string]any
	if err := json.Unmarshal(line, &got); err != nil {
		t.Fatal(err)
	}
	if got["client_verify"] != "SUCCESS" || got["client_subject"] != `CN=a"b` || got["client_fingerprint"] != "00ff" {
		t.Errorf("%s", line)
	}
}
