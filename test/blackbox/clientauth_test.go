package blackbox

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"encoding/pem"
	"io"
	"math/big"
	"net"
	"net/http"
	"testing"
	"time"

	"rauta.io/rauta/proxy/config"
	"rauta.io/rauta/proxy/server"
)

// clientCA issues certificates for clients.
type clientCA struct {
	t    *testing.T
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
	pem  string
}

func newClientCA(t *testing.T) *clientCA {
	t.Helper()
	certificate, leaf := newCertificate(t, 7, "authority")
	block, _ := pem.Decode(certificate.Key.Reveal())
	key, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	if err != nil {
		t.Fatal(err)
	}
	return &clientCA{t, leaf, key.(*ecdsa.PrivateKey), certificate.Chain}
}

func (a *clientCA) issue(name string) tls.Certificate {
	a.t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		a.t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(0x2a), Subject: pkix.Name{CommonName: name}, NotBefore: time.Now().Add(-time.Hour),
		NotAfter: time.Now().Add(time.Hour), ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, a.cert, key.Public(), a.key)
	if err != nil {
		a.t.Fatal(err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
}

// asksClients makes the rig's port ask for certificates.
func asksClients(auth config.ClientAuth) option {
	return func(_ *server.Options, c *config.Config) { c.Listeners[0].TLS.ClientAuth = &auth }
}

// ask changes what is asked.
func (r *tlsRig) ask(auth *config.ClientAuth) {
	next := *r.config
	next.Listeners = append([]config.Listener(nil), r.config.Listeners...)
	secured := *next.Listeners[0].TLS
	secured.ClientAuth = auth
	next.Listeners[0].TLS = &secured
	r.config = &next
	r.publish(r.endpoint)
}

// as is a client of net/http with certificates.
func (r *tlsRig) as(http2 bool, sessions tls.ClientSessionCache, certificates ...tls.Certificate) *http.Client {
	settings := &tls.Config{RootCAs: r.roots, ServerName: "a.test", ClientSessionCache: sessions}
	if len(certificates) > 0 { // whatever authorities the server names
		settings.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return &certificates[0], nil }
	}
	transport := &http.Transport{ForceAttemptHTTP2: http2, TLSClientConfig: settings}
	r.t.Cleanup(transport.CloseIdleConnections)
	return &http.Client{Transport: transport, Timeout: patience}
}

// told is a back end that answers with the fields of the request.
func told(t *testing.T) string {
	return handled(t, func(w http.ResponseWriter, req *http.Request) { json.NewEncoder(w).Encode(req.Header) })
}

// fields makes a request that lies about its certificate.
func (r *tlsRig) fields(c *http.Client) (http.Header, int, error) {
	r.t.Helper()
	req, err := http.NewRequest("GET", "https://"+r.addr, nil)
	if err != nil {
		r.t.Fatal(err)
	}
	req.Host = "a.test"
	for _, name := range []string{"Client-Cert", "Client-Cert-Chain", "Ssl-Client-Verify", "Ssl-Client-Subject-Dn",
		"Ssl-Client-Issuer-Dn", "Ssl-Client-Serial", "Ssl-Client-Fingerprint", "Ssl-Client-Cert", "X-Forwarded-Client-Cert",
		"Ssl_client_verify", "Ssl.client.verify", "Client.cert"} {
		req.Header[name] = []string{"forged"}
	}
	resp, err := c.Do(req)
	if err != nil {
		return nil, 0, err
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil || resp.StatusCode != 200 {
		return nil, resp.StatusCode, err
	}
	var got http.Header
	if err := json.Unmarshal(text, &got); err != nil {
		r.t.Fatal(err)
	}
	for name, values := range got {
		for _, v := range values {
			if v == "forged" {
				r.t.Errorf("%s: what the client says got through", name)
			}
		}
	}
	return got, resp.StatusCode, nil
}

func TestClientsNeedACertificateAndTheBackEndIsToldWhich(t *testing.T) {
	ours, other := newClientCA(t), newClientCA(t)
	r := startTLS(t, told(t), asksClients(config.ClientAuth{
		Mode: config.ClientAuthRequire, CA: ours.pem,
		Forward: []config.ClientFact{config.FactVerify, config.FactSubject, config.FactSerial, config.FactCertificate},
	}))
	for _, http2 := range []bool{false, true} {
		for what, c := range map[string]*http.Client{
			"without a": r.as(http2, nil), "with another authority's": r.as(http2, nil, other.issue("holder")),
		} {
			if _, status, err := r.fields(c); err == nil {
				t.Errorf("a client %s certificate gets in: %d", what, status)
			}
		}
		c := r.as(http2, nil, ours.issue("holder"))
		for range 2 {
			got, status, err := r.fields(c)
			if err != nil || status != 200 {
				t.Fatalf("%d, %v", status, err)
			}
			for name, want := range map[string]string{
				"Ssl-Client-Verify": "SUCCESS", "Ssl-Client-Subject-Dn": "CN=holder", "Ssl-Client-Serial": "2A",
			} {
				if v := got[name]; len(v) != 1 || v[0] != want {
					t.Errorf("HTTP/2 %v, %s: %q, want %s", http2, name, v, want)
				}
			}
			if len(got["Client-Cert"]) != 1 || got["Ssl-Client-Fingerprint"] != nil {
				t.Errorf("Client-Cert %q, fingerprint %q", got["Client-Cert"], got["Ssl-Client-Fingerprint"])
			}
		}
	}
}

func TestBackEndsAreNotLiedToWhereNobodyIsAsked(t *testing.T) {
	r := startTLS(t, told(t))
	for _, http2 := range []bool{false, true} {
		if _, status, err := r.fields(r.as(http2, nil)); status != 200 || err != nil {
			t.Errorf("%d, %v", status, err)
		}
	}
}

func TestEverybodyGetsInWhereCertificatesAreNotVerifiedAndTheBackEndIsTold(t *testing.T) {
	ours, other := newClientCA(t), newClientCA(t)
	r := startTLS(t, told(t), asksClients(config.ClientAuth{
		Mode: config.ClientAuthUnverified, CA: ours.pem, Forward: []config.ClientFact{config.FactVerify},
	}))
	for want, c := range map[string]*http.Client{
		"NONE": r.as(false, nil), "SUCCESS": r.as(false, nil, ours.issue("holder")),
		"FAILED:unknown authority": r.as(true, nil, other.issue("holder")),
	} {
		got, status, err := r.fields(c)
		if err != nil || status != 200 || got.Get("Ssl-Client-Verify") != want {
			t.Errorf("%d %q, %v; want %s", status, got.Get("Ssl-Client-Verify"), err, want)
		}
	}
}

func TestAChangeOfTheAuthoritiesEndsWhatWasMadeUnderTheOldOnes(t *testing.T) {
	ours, other := newClientCA(t), newClientCA(t)
	require := func(a *clientCA) *config.ClientAuth {
		return &config.ClientAuth{Mode: config.ClientAuthRequire, CA: a.pem}
	}
	for _, http2 := range []bool{false, true} {
		r := startTLS(t, told(t), asksClients(*require(ours)))
		sessions := tls.NewLRUClientSessionCache(4)
		mine := r.as(http2, sessions, ours.issue("holder"))
		if _, status, err := r.fields(mine); status != 200 || err != nil {
			t.Fatalf("%d, %v", status, err)
		}
		both := require(ours)
		both.CA += other.pem
		r.ask(both)
		if _, status, err := r.fields(mine); status != 421 || err != nil {
			t.Errorf("HTTP/2 %v: a connection from before an authority was added: %d, %v", http2, status, err)
		}
		if _, status, err := r.fields(mine); status != 200 || err != nil {
			t.Errorf("HTTP/2 %v: the next connection of the same client: %d, %v", http2, status, err)
		}
		r.ask(require(other))
		if _, status, err := r.fields(mine); status == 200 {
			t.Errorf("HTTP/2 %v: a connection outlives the authorities it was made under: %v", http2, err)
		}
		if _, status, err := r.fields(r.as(http2, sessions, ours.issue("holder"))); err == nil {
			t.Errorf("HTTP/2 %v: a session outlives the authorities it was made under: %d", http2, status)
		}
		if _, status, err := r.fields(r.as(http2, sessions, other.issue("holder"))); status != 200 || err != nil {
			t.Errorf("HTTP/2 %v: the new authorities: %d, %v", http2, status, err)
		}
		r.ask(&config.ClientAuth{Mode: config.ClientAuthRequire}) // they can't be found any more
		if _, status, err := r.fields(r.as(http2, sessions, other.issue("holder"))); err == nil {
			t.Errorf("HTTP/2 %v: without authorities clients get in: %d", http2, status)
		}
	}
}

func TestAReplicaWithTheSameKeysTakesUpASessionWhereClientsAreAskedTheSame(t *testing.T) {
	ours := newClientCA(t)
	mine := ours.issue("holder")
	material := func(fill byte) config.Secret { return bytes.Repeat([]byte{fill}, config.TicketKeyBytesMin) }
	for what, c := range map[string]struct {
		after   []config.Secret
		ask     bool // the second asks for certificates
		resumed bool
		own     bool // the keys are those of the listener
	}{
		"the listener's keys":       {after: []config.Secret{material(1)}, resumed: true, own: true},
		"the listener's other keys": {after: []config.Secret{material(2)}, own: true},
		"the same keys":             {after: []config.Secret{material(1)}, resumed: true},
		"rotated":                   {after: []config.Secret{material(2), material(1)}, resumed: true},
		"another key":               {after: []config.Secret{material(2)}}, "own keys": {},
		"clients are asked there": {after: []config.Secret{material(1)}, ask: true},
	} {
		replica := func(port uint16, ask bool, keys ...config.Secret) *tlsRig {
			return startTLS(t, told(t), func(_ *server.Options, cfg *config.Config) {
				if cfg.TicketKeys = keys; c.own {
					cfg.TicketKeys, cfg.TicketKeySets = nil, []config.TicketKeySet{{Name: "default/own", Keys: keys}}
					cfg.Listeners[0].TLS.TicketKeys = "default/own"
				}
				if port != 0 {
					cfg.Listeners[0].Port = port
				}
				if ask {
					cfg.Listeners[0].TLS.ClientAuth = &config.ClientAuth{Mode: config.ClientAuthRequire, CA: ours.pem}
				}
			})
		}
		sessions := tls.NewLRUClientSessionCache(1)
		get := func(addr string) bool {
			raw, err := net.Dial("tcp", addr)
			if err != nil {
				t.Fatal(err)
			}
			defer raw.Close()
			raw.SetDeadline(time.Now().Add(patience))
			conn := tls.Client(raw, &tls.Config{InsecureSkipVerify: true, ServerName: "a.test", ClientSessionCache: sessions, Certificates: []tls.Certificate{mine}})
			if _, err := io.WriteString(conn, getOverTLS); err != nil {
				t.Fatal(err)
			}
			if _, err := conn.Read(make([]byte, 1)); err != nil { // the ticket comes before it
				t.Fatal(err)
			}
			return conn.ConnectionState().DidResume
		}
		first := replica(0, false, material(1))
		if get(first.addr) || !get(first.addr) {
			t.Fatalf("%s: the session is not resumed where it was made", what)
		}
		ctx, cancel := context.WithCancel(context.Background())
		cancel()
		first.server.Drain(ctx)
		replica(first.port, c.ask, c.after...)
		if got := get(first.addr); got != c.resumed {
			t.Errorf("%s: resumed %v", what, got)
		}
	}
}
