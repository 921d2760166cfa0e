package exchange

import (
	"strings"
	"testing"

	"rauta.io/rauta/proxy/certs"
	"rauta.io/rauta/proxy/config"
	"rauta.io/rauta/proxy/message"
)

// forged are all names of fields about certificates, as a client may write them.
func forged() (names []string) {
	for id := message.ClientCert; id <= message.SSLClientFingerprint; id++ {
		names = append(names, id.Name(), strings.ToUpper(id.Name()))
	}
	return names
}

func TestWhatAClientSaysAboutItsCertificateNeverReachesABackEnd(t *testing.T) {
	for what, c := range map[string]struct {
		trusted bool
		id      *certs.Identity
		kept    bool
	}{
		"plain":                     {},
		"TLS, not asked":            {id: &certs.Identity{}},
		"asked, nothing forwarded":  {id: &certs.Identity{Verify: certs.VerifyNone}},
		"asked by us, over a proxy": {trusted: true, id: &certs.Identity{Verify: certs.VerifyNone}},
		"a trusted proxy":           {trusted: true, kept: true},
	} {
		s := newSim(t, 1, nil)
		client := s.request("GET /")
		client.peer.Trusted, client.peer.Identity = c.trusted, c.id
		for _, name := range append(forged(), "X-Forwarded-Client-Cert") {
			client.x.Req.Add(name, "forged", message.LookupIDString(strings.ToLower(name)))
		}
		client.start()
		for id := message.ClientCert; id <= message.SSLClientFingerprint; id++ {
			if got := client.x.Req.Has(id); got != c.kept {
				t.Errorf("%s: %s is there: %v", what, id.Name(), got)
			}
		}
		if got := client.x.Req.Lookup("x-forwarded-client-cert", message.Unknown, 0) >= 0; got != c.trusted {
			t.Errorf("%s: X-Forwarded-Client-Cert is there: %v", what, got)
		}
		client.x.OnClientGone("test")
	}
}

func TestBackEndsGetWhatTheHandshakeHasShown(t *testing.T) {
	for _, trusted := range []bool{false, true} {
		s := newSim(t, 1, nil)
		client := s.request("GET /")
		client.peer.Trusted = trusted
		client.peer.Identity = &certs.Identity{Verify: certs.VerifySuccess, Fields: []certs.ClientField{
			{Name: "SSL-Client-Verify", Value: "SUCCESS", ID: message.SSLClientVerify},
			{Name: "Client-Cert", Value: ":AA==:", ID: message.ClientCert},
		}}
		client.x.Req.Add("SSL-Client-Verify", "forged", message.SSLClientVerify)
		client.start()
		for id, want := range map[message.FieldID]string{message.SSLClientVerify: "SUCCESS", message.ClientCert: ":AA==:"} {
			if got, _ := client.x.Req.Get(id); string(got) != want {
				t.Errorf("trusted %v, %s: %q, want %q", trusted, id.Name(), got, want)
			}
		}
		client.x.OnClientGone("test")
	}
}

func TestAConnectionFromBeforeClientsWereAskedForCertificatesIsMisdirected(t *testing.T) {
	certificate := newCertificate(t)
	ask := &config.ClientAuth{Mode: config.ClientAuthRequire, CA: certificate.Chain}
	settings := func(auth *config.ClientAuth, versions ...config.TLSVersion) func(*config.Config) {
		return func(c *config.Config) {
			c.Certificates = []config.Certificate{certificate}
			l := &c.Listeners[0]
			l.Protocol, l.Hostname, l.TLS = config.ProtocolHTTPS, "a.test", &config.TLS{Certificates: []string{"ns/cert"}, ClientAuth: auth}
			for _, v := range versions {
				l.TLS.MinVersion = v
			}
		}
	}
	realm := func(s *sim) *certs.Realm {
		r, _ := s.w.Live.Current().Ports[0].TLS.Realm("a.test")
		return r
	}
	for what, c := range map[string]struct {
		before, after func(*config.Config)
		misdirected   bool
	}{
		"nothing changed":           {settings(ask), settings(ask), false},
		"clients are asked now":     {settings(nil), settings(ask), true},
		"nobody is asked any more":  {settings(ask), settings(nil), false},
		"no authority can be found": {settings(ask), settings(&config.ClientAuth{Mode: config.ClientAuthRequire}), true},
		"another TLS version":       {settings(nil), settings(nil, config.TLS13), false},
	} {
		made := realm(newSim(t, 1, c.before))
		s := newSim(t, 1, c.after)
		for range 2 { // the second is remembered
			client := s.request("GET /")
			client.x.Req.Authority = client.x.Req.StoreString("a.test")
			client.peer.Scheme, client.peer.ServerName = message.SchemeHTTPS, "a.test"
			client.peer.Identity = &certs.Identity{Realm: made}
			client.start()
			if got := client.status == 421; got != c.misdirected {
				t.Errorf("%s: status %d", what, client.status)
			}
			if client.status == 0 {
				client.x.OnClientGone("test")
			} else if !client.closes {
				t.Errorf("%s: the client may come back on the same connection", what)
			}
		}
	}
}
