package config

import "fmt"

// redacted is what every printed form of a Secret is, whatever its length.
const redacted = "[redacted]"

// Secret is bytes that must never be shown: keys, passwords, tokens. Every way in which fmt, log/slog and the encoding
// packages print a value gives the same word instead; only Reveal returns the bytes. A Secret can't be decoded either,
// so that a redacted dump is never mistaken for a configuration.
type Secret []byte

// Reveal returns the bytes; they must not be changed, logged or put into an error.
func (s Secret) Reveal() []byte { return []byte(s) }

// String implements fmt.Stringer.
func (s Secret) String() string { return redacted }

// GoString implements fmt.GoStringer.
func (s Secret) GoString() string { return redacted }

// Format implements fmt.Formatter: without it %x and %d would print the bytes.
func (s Secret) Format(f fmt.State, _ rune) { _, _ = f.Write([]byte(redacted)) }

// MarshalText implements encoding.TextMarshaler, which encoding/json, YAML and log/slog use.
func (s Secret) MarshalText() ([]byte, error) { return []byte(redacted), nil }

// MarshalJSON implements json.Marshaler.
func (s Secret) MarshalJSON() ([]byte, error) { return []byte(`"` + redacted + `"`), nil }

// MarshalBinary implements encoding.BinaryMarshaler, which encoding/gob uses.
func (s Secret) MarshalBinary() ([]byte, error) { return []byte(redacted), nil }

// UnmarshalText implements encoding.TextUnmarshaler; it always fails.
func (s *Secret) UnmarshalText([]byte) error { return errSecretDecoded }

// UnmarshalJSON implements json.Unmarshaler; it always fails.
func (s *Secret) UnmarshalJSON([]byte) error { return errSecretDecoded }

type secretError string

func (e secretError) Error() string { return string(e) }

const errSecretDecoded = secretError("a secret can't be read from text; refer to it by name")
