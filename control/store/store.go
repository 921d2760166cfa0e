// Package store keeps the last good configuration on disk, so that RAUTA serves after a restart while the API server is
// away.
//
// It owns the file: its format, its secrecy, when it is written and when it is not believed. It does not own what is in
// it, which proxy/config defines, nor when it is used: control reads it if the API server does not answer in time, and
// reports every publication; cmd/rauta connects the two.
//
// A configuration holds private keys, and header fields with credentials. All of it is encrypted with a key that is not
// on this disk, and authenticated with it: a file that was damaged, cut off or made by somebody else is not read.
package store

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"rauta.io/rauta/proxy/config"
)

const (
	// fileName holds the state. temporaryName is what it is called until it is complete.
	fileName      = "state"
	temporaryName = "state.new"

	// stateBytesMax bounds what is read. 10,000 routes and 10,000 endpoints take less than 10 MB.
	stateBytesMax = 256 << 20
	// ageMax is how long ago the state may have been served last. Addresses of pods go to other pods in time, and whoever
	// is not there any more does not notice.
	ageMax = 24 * time.Hour
)

// State is a configuration that has been served.
type State struct {
	Config    *config.Config
	Endpoints config.Endpoints
	// At is when it was served.
	At time.Time
}

// ErrNone says that nothing has been stored.
var ErrNone = errors.New("no configuration has been stored")

// Store is one directory. Its methods must not run at the same time.
type Store struct {
	dir, keyFile string
	disk         disk
}

// New returns the store in dir, which is made when it is first written. keyFile holds the key.
func New(dir, keyFile string) *Store { return &Store{dir: dir, keyFile: keyFile, disk: system{}} }

// Path is where the state is.
func (s *Store) Path() string { return filepath.Join(s.dir, fileName) }

// Save replaces what is stored. Whatever goes wrong, and whenever the machine stops, either the old or the new state is
// there, whole.
func (s *Store) Save(state State) error {
	secret, err := readKey(s.keyFile)
	if err != nil {
		return err
	}
	plain, err := encode(state)
	if err != nil {
		return fmt.Errorf("encode the configuration: %w", err)
	}
	sealed, err := seal(secret, plain)
	if err != nil {
		return fmt.Errorf("encrypt the configuration: %w", err)
	}
	if len(sealed) > stateBytesMax {
		return fmt.Errorf("store the configuration: it has %d bytes, at most %d are read again", len(sealed), stateBytesMax)
	}
	if err := s.disk.makeDir(s.dir); err != nil {
		return fmt.Errorf("make the directory of --state-dir: %w", err)
	}
	if err := s.write(sealed); err != nil {
		return fmt.Errorf("store the configuration: %w", err)
	}
	return nil
}

func (s *Store) write(sealed []byte) error {
	temporary := filepath.Join(s.dir, temporaryName)
	// One that is left of a process that was killed may belong to somebody else, or be a link.
	if err := s.disk.remove(temporary); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if err := s.fill(temporary, sealed); err != nil {
		return errors.Join(err, s.disk.remove(temporary))
	}
	if err := s.disk.rename(temporary, s.Path()); err != nil {
		return errors.Join(err, s.disk.remove(temporary))
	}
	return s.disk.syncDir(s.dir)
}

// fill writes a new file and waits until it is on the disk: a rename may get there before the bytes do.
func (s *Store) fill(path string, content []byte) error {
	f, err := s.disk.create(path)
	if err != nil {
		return err
	}
	n, err := f.Write(content)
	if err == nil && n < len(content) {
		err = io.ErrShortWrite
	}
	if err == nil {
		err = f.Sync()
	}
	return errors.Join(err, f.Close())
}

// Load returns what is stored if it can be believed; now is compared with its age. The error is ErrNone if there is
// nothing, else it says what is wrong and what to do.
func (s *Store) Load(now time.Time) (State, error) {
	sealed, err := readState(s.Path())
	if err != nil {
		return State{}, err
	}
	secret, err := readKey(s.keyFile)
	if err != nil {
		return State{}, err
	}
	plain, err := unseal(secret, sealed)
	if err != nil {
		return State{}, fmt.Errorf("read %s: %w", s.Path(), err)
	}
	state, err := decode(plain)
	if err != nil {
		return State{}, fmt.Errorf("read %s: %w", s.Path(), err)
	}
	if age := now.Sub(state.At); age > ageMax {
		return State{}, fmt.Errorf("read %s: it was served last %s ago, and after %s addresses may belong to others: it is not used",
			s.Path(), age.Round(time.Minute), ageMax)
	}
	return state, nil
}

// readState reads a file that only we can have written.
func readState(path string) ([]byte, error) {
	// Without O_NONBLOCK opening a pipe would wait for a writer.
	f, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NOFOLLOW|syscall.O_NONBLOCK, 0)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, ErrNone
	}
	if err != nil {
		return nil, fmt.Errorf("open the stored configuration: %w", err)
	}
	defer f.Close() // it was only read
	info, err := f.Stat()
	if err != nil {
		return nil, fmt.Errorf("look at the stored configuration: %w", err)
	}
	owner, known := info.Sys().(*syscall.Stat_t)
	switch {
	case !info.Mode().IsRegular():
		return nil, fmt.Errorf("%s is not a regular file: remove it", path)
	case !known || int(owner.Uid) != os.Geteuid():
		return nil, fmt.Errorf("%s does not belong to user %d, whom RAUTA runs as: remove it", path, os.Geteuid())
	case info.Mode().Perm()&0o077 != 0:
		return nil, fmt.Errorf("%s has mode %#o, and others than its owner may use it: remove it", path, info.Mode().Perm())
	case info.Size() > stateBytesMax:
		return nil, fmt.Errorf("%s has %d bytes, more than %d: remove it", path, info.Size(), stateBytesMax)
	}
	content, err := io.ReadAll(io.LimitReader(f, stateBytesMax))
	if err != nil {
		return nil, fmt.Errorf("read the stored configuration: %w", err)
	}
	return content, nil
}
