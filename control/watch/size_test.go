package watch

import (
	"fmt"
	"log/slog"
	"strings"
	"testing"

	"rauta.io/rauta/control/translate"
)

// withData is a Secret or ConfigMap with one entry, whose value, of a Secret after decoding, has so many bytes.
func withData(name, kind, entry string, bytes int) string {
	value := strings.Repeat("a", bytes)
	if kind != "" {
		value = strings.Repeat("YWFh", bytes/3)
	}
	return fmt.Sprintf(`{"metadata":{"name":%q,"namespace":"d"},"type":%q,"data":{%q:%q}}`, name, kind, entry, value)
}

func TestAnObjectThatIsTooLargeIsLeftOutSaysWhyAndTheOthersAreRead(t *testing.T) {
	const entry = len(translate.AuthorityEntry)
	s := newAPIServer(t)
	s.put(configMaps, withData("large", "", translate.AuthorityEntry, dataBytesMax-entry+1))
	s.put(configMaps, withData("fits", "", translate.AuthorityEntry, dataBytesMax-entry))
	s.put(configMaps, withData("other-entries", "", "truststore.jks", 2*dataBytesMax))
	s.put(secrets, withData("large", "kubernetes.io/tls", "tls.crt", dataBytesMax+3))
	s.put(secrets, withData("fits", "kubernetes.io/tls", "tls.crt", 300))
	s.put(secrets, withData("keystores", "kubernetes.io/tls", "keystore.jks", 2*dataBytesMax))
	s.put(secrets, withData("large-keys", "Opaque", "key", dataBytesMax+3))
	var log text
	c := follow(t, s, ClusterOptions{Log: slog.New(slog.NewTextHandler(&log, nil))})
	synced(t, c)
	ref := func(kind, name string) translate.ObjectRef {
		return translate.ObjectRef{Kind: kind, Namespace: "d", Name: name}
	}
	refs := []translate.ObjectRef{ref("ConfigMap", "fits"), ref("ConfigMap", "large"), ref("ConfigMap", "other-entries"), ref("Secret", "fits"),
		ref("Secret", "keystores"), ref("Secret", "large"), ref("Secret", "large-keys")}
	eventually(t, "everything that is referred to has been read", func() bool { return c.Refer(refs) })

	read := func() (out string) {
		o := c.Objects()
		for _, m := range o.ConfigMaps {
			out += fmt.Sprintf("ConfigMap %s %d, ", m.Name, bytesOf(m.Data))
		}
		for _, s := range o.Secrets {
			out += fmt.Sprintf("Secret %s %d, ", s.Name, bytesOf(s.Data))
		}
		return out
	}
	if got, want := read(), fmt.Sprintf("ConfigMap fits %d, ConfigMap other-entries 0, Secret fits 307, Secret keystores 0, ", dataBytesMax); got != want {
		t.Errorf("read %s\nwant %s", got, want)
	}
	unread := map[translate.ObjectRef]string{}
	for _, u := range c.Objects().Unread {
		unread[u.ObjectRef] = u.Reason
	}
	for _, one := range []translate.ObjectRef{ref("ConfigMap", "large"), ref("Secret", "large"), ref("Secret", "large-keys")} {
		if !strings.HasPrefix(unread[one], "has 524") || !strings.HasSuffix(unread[one], "not more than 524288 are read") {
			t.Errorf("%v is not read because it %q", one, unread[one])
		}
		if log.count("kind="+one.Kind+" namespace=d name="+one.Name+" ") != 1 {
			t.Errorf("the log does not name %v once", one)
		}
	}
	if n := c.Numbers(); len(unread) != 3 || n.Misfits["Secret"] != 2 || n.Misfits["ConfigMap"] != 1 {
		t.Errorf("unread are %v, counted %v", unread, n.Misfits)
	}

	c.Take()
	s.put(configMaps, withData("large", "", translate.AuthorityEntry, 100))
	s.put(secrets, withData("fits", "kubernetes.io/tls", "tls.crt", dataBytesMax+3))
	eventually(t, "what has shrunk is read, and what has grown is not any more", func() bool {
		return read() == fmt.Sprintf("ConfigMap fits %d, ConfigMap large %d, ConfigMap other-entries 0, Secret keystores 0, ", dataBytesMax, 100+entry)
	})
	if !c.Take().Objects {
		t.Error("nobody is told")
	}
	s.remove(secrets, "d/large")
	eventually(t, "what is gone is not told any more", func() bool { return len(c.Objects().Unread) == 2 && c.Take().Objects })
}
