//go:build linux

package loop

import (
	"bufio"
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/sha256"
	"crypto/tls"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"io"
	"net"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// keyUpdater writes TLS 1.3 records of its own behind a handshake of crypto/tls, which offers no way to update keys.
type keyUpdater struct {
	t      *testing.T
	raw    net.Conn
	secret []byte
	aead   cipher.AEAD
	iv     []byte
	seq    uint64
}

func newKeyUpdater(t *testing.T, r *tlsRig, raw net.Conn) (*tls.Conn, *keyUpdater) {
	t.Helper()
	var log bytes.Buffer
	config := r.client()
	config.MinVersion = tls.VersionTLS13
	config.KeyLogWriter = &log
	c := r.over(raw, config)
	if c.ConnectionState().CipherSuite != tls.TLS_AES_128_GCM_SHA256 {
		t.Skip("needs a processor with AES: without it another cipher suite is preferred")
	}
	u := &keyUpdater{t: t, raw: raw}
	for lines := bufio.NewScanner(&log); lines.Scan(); {
		if f := strings.Fields(lines.Text()); f[0] == "CLIENT_TRAFFIC_SECRET_0" {
			u.secret, _ = hex.DecodeString(f[2])
		}
	}
	u.derive()
	return c, u
}

// expand is HKDF-Expand-Label without context (RFC 8446 section 7.1).
func (u *keyUpdater) expand(label string, n int) []byte {
	info := binary.BigEndian.AppendUint16(nil, uint16(n))
	info = append(info, byte(len("tls13 ")+len(label)))
	info = append(append(info, "tls13 "+label...), 0)
	out, err := hkdf.Expand(sha256.New, u.secret, string(info), n)
	if err != nil {
		u.t.Fatal(err)
	}
	return out
}

func (u *keyUpdater) derive() {
	block, err := aes.NewCipher(u.expand("key", 16))
	if err != nil {
		u.t.Fatal(err)
	}
	if u.aead, err = cipher.NewGCM(block); err != nil {
		u.t.Fatal(err)
	}
	u.iv, u.seq = u.expand("iv", 12), 0
}

// record appends one record (RFC 8446 section 5.2).
func (u *keyUpdater) record(to []byte, kind byte, content ...byte) []byte {
	inner := append(content, kind)
	header := []byte{23, 3, 3, 0, byte(len(inner) + u.aead.Overhead())}
	nonce := bytes.Clone(u.iv)
	for i, b := range binary.BigEndian.AppendUint64(nil, u.seq) {
		nonce[4+i] ^= b
	}
	u.seq++
	return u.aead.Seal(append(to, header...), nonce, inner, header)
}

// update appends a KeyUpdate that asks for one in return (RFC 8446 section 4.6.3).
func (u *keyUpdater) update(to []byte) []byte {
	to = u.record(to, 22, 24, 0, 0, 1, 1)
	u.secret = u.expand("traffic upd", 32)
	u.derive()
	return to
}

func TestAThousandKeyUpdatesBetweenDataChangeNothing(t *testing.T) {
	r := serveTLS(t, tlsServerConfig(t), 0, serveEcho)
	c, u := newKeyUpdater(t, r, dial(t, r.addr))
	got := make([]byte, 1)
	for i := range 1000 {
		if _, err := u.raw.Write(u.record(u.update(nil), 23, byte(i))); err != nil {
			t.Fatal(err)
		}
		if _, err := io.ReadFull(c, got); err != nil || got[0] != byte(i) {
			t.Fatalf("after %d updates: %v, %v", i, got, err)
		}
	}
}

func TestKeyUpdatesThatAchieveNothingEndTheConnection(t *testing.T) {
	ended := make(chan error, 1)
	r := serveTLS(t, tlsServerConfig(t), 0, func(w *Worker, c *Conn) { c.SetHandler(&ending{w, c, ended}) })
	_, u := newKeyUpdater(t, r, dial(t, r.addr))
	var flood []byte
	for range 1000 {
		flood = u.update(flood)
	}
	if _, err := u.raw.Write(flood); err != nil {
		t.Logf("send: %v", err)
	}
	if err := receive(t, ended); err == nil || err == io.EOF || errors.Is(err, ErrTruncated) {
		t.Errorf("the connection ended with %v", err)
	}
}

func TestAnswersToKeyUpdatesThatNobodyReadsAreBounded(t *testing.T) {
	ended := make(chan error, 1)
	r := serveTLS(t, tlsServerConfig(t), 0, func(w *Worker, c *Conn) {
		if err := unix.SetsockoptInt(c.FD(), unix.SOL_SOCKET, unix.SO_SNDBUF, 4096); err != nil {
			t.Error(err)
		}
		c.SetHandler(&ending{w, c, ended})
	})
	_, u := newKeyUpdater(t, r, dialNarrow(t, r.addr))
	const updatesMax = 10_000 // the answers are some 270 KiB, far more than the sockets take
	for range updatesMax {
		if _, err := u.raw.Write(u.record(u.update(nil), 23, 'x')); err != nil {
			break
		}
	}
	if err := receive(t, ended); !errors.Is(err, errControlFlood) {
		t.Errorf("the connection ended with %v", err)
	}
}
