package main

import (
	"bytes"
	"strings"
	"testing"

	"github.com/spf13/pflag"
)

func reportFlags(t *testing.T, files bool, args ...string) (*reportOptions, error) {
	t.Helper()
	o := &reportOptions{}
	f := pflag.NewFlagSet("serve", pflag.ContinueOnError)
	f.SetOutput(&bytes.Buffer{})
	o.flags(f)
	if err := f.Parse(args); err != nil {
		t.Fatal(err)
	}
	return o, o.validate(files)
}

func TestAddressesForStatusesAreCheckedAtTheStart(t *testing.T) {
	for _, c := range []struct {
		files bool
		args  []string
		want  string
	}{
		{args: []string{"--publish-address=192.0.2.1", "--publish-address=2001:db8::1", "--publish-address=lb-1.example.com"}},
		{args: []string{"--publish-service=edge/lb"}},
		{args: []string{"--publish-address=LB"}, want: "--publish-address"},
		{args: []string{"--publish-address=fe80::1%eth0"}, want: "--publish-address"},
		{args: []string{"--publish-address=a..b"}, want: "--publish-address"},
		{args: []string{"--publish-address=-a.example.com"}, want: "--publish-address"},
		{args: []string{"--publish-service=lb"}, want: "NAMESPACE/NAME"},
		{args: []string{"--publish-service=/lb"}, want: "NAMESPACE/NAME"},
		{args: []string{"--publish-service=edge/lb", "--publish-address=192.0.2.1"}, want: "exclude"},
		{args: []string{"--host-ips=10.0.0.1,x"}, want: "--host-ips"},
		{files: true, args: []string{"--publish-service=edge/lb"}, want: "--config"},
		{files: true},
	} {
		_, err := reportFlags(t, c.files, c.args...)
		if c.want == "" && err != nil || c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)) {
			t.Errorf("%v: %v, want %q", c.args, err, c.want)
		}
	}
}

func TestAReplicaKnowsWhoItIsFromItsPod(t *testing.T) {
	t.Setenv(envPodName, "rauta-x1")
	t.Setenv(envPodNamespace, "edge")
	t.Setenv(envHostIPs, "10.0.0.1,2001:db8::1")
	o, err := reportFlags(t, false)
	if err != nil {
		t.Fatal(err)
	}
	if o.lease.Identity != "rauta-x1" || o.lease.Namespace != "edge" || len(o.hostIPs) != 2 || !o.write {
		t.Errorf("options = %+v", o)
	}
	o, err = reportFlags(t, false, "--leader-election-id=a", "--leader-election-namespace=b", "--host-ips=10.0.0.9")
	if err != nil || o.lease.Identity != "a" || o.lease.Namespace != "b" || len(o.hostIPs) != 1 {
		t.Errorf("options = %+v, %v", o, err)
	}
	t.Setenv(envPodName, "")
	t.Setenv(envPodNamespace, "")
	if o, err = reportFlags(t, false); err != nil || o.lease.Identity == "" || o.lease.Namespace != namespaceDefault {
		t.Errorf("outside a pod: options = %+v, %v", o, err)
	}
}
