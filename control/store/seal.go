package store

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"os"
)

const (
	// keyBytesMin is the strength of the cipher. Text, such as base64, has less in each byte; who makes a key with
	// `openssl rand -base64 48` has enough.
	keyBytesMin = 32
	// keyBytesMax is more than anybody uses; whoever crosses it has named another file.
	keyBytesMax = 4096

	// keyPurpose keeps the key apart from any other use of the same Secret.
	keyPurpose = "rauta state, AES-256-GCM"
)

// readKey reads the file with the key at each use, so that a Secret that changes needs no restart.
func readKey(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("read the key of --state-key-file: %w", err)
	}
	defer f.Close() // it was only read
	content, err := io.ReadAll(io.LimitReader(f, keyBytesMax+1))
	if err != nil {
		return nil, fmt.Errorf("read the key of --state-key-file: %w", err)
	}
	key := bytes.TrimSpace(content)
	if len(key) < keyBytesMin || len(content) > keyBytesMax {
		return nil, fmt.Errorf("the key in %s has %d bytes: it must have from %d to %d, such as from openssl rand -base64 48",
			path, len(key), keyBytesMin, keyBytesMax)
	}
	return key, nil
}

func newCipher(secret []byte) (cipher.AEAD, error) {
	key, err := hkdf.Key(sha256.New, secret, nil, keyPurpose, 32)
	if err != nil {
		return nil, err
	}
	block, err := aes.NewCipher(key)
	if err != nil {
		return nil, err
	}
	// Nonces are random: 2^32 states may be stored with one key, which is one a second for 136 years.
	return cipher.NewGCMWithRandomNonce(block)
}

// header stands in front in clear, so that a file of another version is told from one that is damaged. It is
// authenticated with the rest.
func header() []byte { return fmt.Appendf(nil, "rauta state, schema %s\n", schema()) }

var (
	errForeign = errors.New("it is not a stored configuration: remove it")
	errVersion = errors.New("another version of RAUTA has written it; it is not used")
	errSealed  = errors.New("it is damaged, or was written with another key than that of --state-key-file; it is not used")
)

func seal(secret, plain []byte) ([]byte, error) {
	c, err := newCipher(secret)
	if err != nil {
		return nil, err
	}
	head := header()
	out := make([]byte, 0, len(head)+len(plain)+c.Overhead())
	out = append(out, head...)
	return c.Seal(out, nil, plain, head), nil
}

func unseal(secret, sealed []byte) ([]byte, error) {
	head := header()
	line, sealedPart, found := bytes.Cut(sealed, []byte("\n"))
	switch {
	case !found || !bytes.HasPrefix(line, []byte("rauta state, ")):
		return nil, errForeign
	case !bytes.Equal(sealed[:len(line)+1], head):
		return nil, errVersion
	}
	c, err := newCipher(secret)
	if err != nil {
		return nil, err
	}
	plain, err := c.Open(nil, nil, sealedPart, head)
	if err != nil {
		return nil, errSealed
	}
	return plain, nil
}
