package store

import (
	"errors"
	"io"
	"os"
)

// disk is what is done to files; tests put in one that fails.
type disk interface {
	makeDir(path string) error
	create(path string) (file, error)
	rename(from, to string) error
	remove(path string) error
	syncDir(path string) error
}

// file is a file that is being written.
type file interface {
	io.Writer
	Sync() error
	Close() error
}

// system is the disk of the machine.
type system struct{}

func (system) makeDir(path string) error { return os.MkdirAll(path, 0o700) }

func (system) create(path string) (file, error) {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return nil, err
	}
	return f, nil
}

func (system) rename(from, to string) error { return os.Rename(from, to) }

func (system) remove(path string) error { return os.Remove(path) }

// syncDir makes a rename last.
func (system) syncDir(path string) error {
	d, err := os.Open(path)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}
