package store

import (
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"reflect"
	"strings"
	"time"

	"rauta.io/rauta/proxy/config"
)

// meaning is to be counted up when the same fields come to mean something else.
const meaning = 1

// content is what is encrypted. Secrets are written in a form of their own, because a config.Secret never says what it
// is.
type content struct {
	At           time.Time        `json:"at"`
	Hash         []byte           `json:"hash"`
	Config       config.Config    `json:"config"` // without what follows
	Certificates []certificate    `json:"certificates,omitempty"`
	TicketKeys   [][]byte         `json:"ticketKeys,omitempty"`
	KeySets      []keySet         `json:"ticketKeySets,omitempty"`
	Endpoints    config.Endpoints `json:"endpoints,omitempty"`
}

type certificate struct {
	config.Certificate
	Key []byte `json:"key"` // in place of the embedded one
}

type keySet struct {
	Name string   `json:"name"`
	Keys [][]byte `json:"keys,omitempty"`
}

func reveal(keys []config.Secret) (out [][]byte) {
	for _, key := range keys {
		out = append(out, key.Reveal())
	}
	return out
}

func conceal(keys [][]byte) (out []config.Secret) {
	for _, key := range keys {
		out = append(out, config.Secret(key))
	}
	return out
}

func encode(s State) ([]byte, error) {
	hash := config.Hash(s.Config)
	c := content{At: s.At, Hash: hash[:], Config: *s.Config, Endpoints: s.Endpoints}
	c.Config.Certificates, c.Config.TicketKeys, c.Config.TicketKeySets = nil, nil, nil
	for _, one := range s.Config.Certificates {
		c.Certificates = append(c.Certificates, certificate{one, one.Key.Reveal()})
	}
	c.TicketKeys = reveal(s.Config.TicketKeys)
	for _, set := range s.Config.TicketKeySets {
		c.KeySets = append(c.KeySets, keySet{set.Name, reveal(set.Keys)})
	}
	var out bytes.Buffer
	w, err := gzip.NewWriterLevel(&out, gzip.BestSpeed)
	if err != nil {
		return nil, err
	}
	if err := errors.Join(json.NewEncoder(w).Encode(&c), w.Close()); err != nil {
		return nil, err
	}
	return out.Bytes(), nil
}

func decode(plain []byte) (State, error) {
	r, err := gzip.NewReader(bytes.NewReader(plain))
	if err != nil {
		return State{}, fmt.Errorf("unpack it: %w", err)
	}
	var c content
	d := json.NewDecoder(r)
	if err := d.Decode(&c); err != nil {
		return State{}, fmt.Errorf("decode it: %w", err)
	}
	if _, err := io.Copy(io.Discard, r); err != nil { // the checksum comes at the end
		return State{}, fmt.Errorf("unpack it: %w", err)
	}
	for _, one := range c.Certificates {
		one.Certificate.Key = config.Secret(one.Key)
		c.Config.Certificates = append(c.Config.Certificates, one.Certificate)
	}
	c.Config.TicketKeys = conceal(c.TicketKeys)
	for _, set := range c.KeySets {
		c.Config.TicketKeySets = append(c.Config.TicketKeySets, config.TicketKeySet{Name: set.Name, Keys: conceal(set.Keys)})
	}
	if hash := config.Hash(&c.Config); !bytes.Equal(hash[:], c.Hash) {
		return State{}, errors.New("it is not what was stored; it is not used")
	}
	return State{Config: &c.Config, Endpoints: c.Endpoints, At: c.At}, nil
}

// schema names the fields that a configuration has, so that no version reads what another one meant by them.
func schema() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%d ", meaning)
	describe(&b, reflect.TypeFor[content](), map[reflect.Type]bool{})
	sum := sha256.Sum256([]byte(b.String()))
	return fmt.Sprintf("%x", sum[:8])
}

// describe writes the fields of t and of all types that it is made of.
func describe(b *strings.Builder, t reflect.Type, seen map[reflect.Type]bool) {
	fmt.Fprintf(b, "%s %s;", t, t.Kind())
	if seen[t] {
		return
	}
	seen[t] = true
	switch t.Kind() {
	case reflect.Struct:
		for i := range t.NumField() {
			f := t.Field(i)
			fmt.Fprintf(b, "%s %s:", f.Name, f.Tag)
			describe(b, f.Type, seen)
		}
	case reflect.Map:
		describe(b, t.Key(), seen)
		describe(b, t.Elem(), seen)
	case reflect.Pointer, reflect.Slice, reflect.Array:
		describe(b, t.Elem(), seen)
	}
}
