package store

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"syscall"
	"testing"
	"time"

	"rauta.io/rauta/proxy/config"
)

const testKey = "0123456789abcdefghijklmnopqrstuvwxyz"

// newStore returns an empty store with a key.
func newStore(t *testing.T) *Store {
	t.Helper()
	folder := t.TempDir()
	key := filepath.Join(folder, "key")
	if err := os.WriteFile(key, []byte(testKey+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	return New(filepath.Join(folder, "made", "state"), key)
}

// fill sets every field of v to a value of its own, lists and maps to one or two elements.
func fill(v reflect.Value, n *int) {
	*n++
	switch v.Kind() {
	case reflect.Struct:
		for i := range v.NumField() {
			fill(v.Field(i), n)
		}
	case reflect.Pointer:
		v.Set(reflect.New(v.Type().Elem()))
		fill(v.Elem(), n)
	case reflect.Slice:
		v.Set(reflect.MakeSlice(v.Type(), 2, 2))
		fill(v.Index(0), n)
		fill(v.Index(1), n)
	case reflect.Map:
		key, value := reflect.New(v.Type().Key()).Elem(), reflect.New(v.Type().Elem()).Elem()
		fill(key, n)
		fill(value, n)
		v.Set(reflect.MakeMap(v.Type()))
		v.SetMapIndex(key, value)
	case reflect.String:
		v.SetString(fmt.Sprint("läuft <&> \x00", *n))
	case reflect.Bool:
		v.SetBool(true)
	case reflect.Int, reflect.Int64:
		v.SetInt(int64(*n))
	case reflect.Uint8, reflect.Uint16, reflect.Uint32:
		v.SetUint(uint64(*n) % 256)
	case reflect.Float64:
		v.SetFloat(float64(*n) / 3)
	default:
		panic("a kind that the test does not know: " + v.Kind().String())
	}
}

// sample has every field set.
func sample(at time.Time) State {
	n := 0
	s := State{Config: new(config.Config), At: at}
	fill(reflect.ValueOf(s.Config).Elem(), &n)
	fill(reflect.ValueOf(&s.Endpoints).Elem(), &n)
	s.Config.Certificates[0].Key = config.Secret("-----BEGIN PRIVATE KEY-----\nzyxwvut\n")
	return s
}

func save(t *testing.T, s *Store, state State) {
	t.Helper()
	if err := s.Save(state); err != nil {
		t.Fatal(err)
	}
}

func TestWhatIsStoredComesBackWithEveryFieldAndSecret(t *testing.T) {
	s, now := newStore(t), time.Now()
	if _, err := s.Load(now); !errors.Is(err, ErrNone) {
		t.Fatalf("an empty store says %v", err)
	}
	want := sample(now)
	save(t, s, sample(now.Add(-time.Hour)))
	save(t, s, want)
	got, err := s.Load(now.Add(time.Minute))
	if err != nil {
		t.Fatal(err)
	}
	if !reflect.DeepEqual(got.Config, want.Config) || !reflect.DeepEqual(got.Endpoints, want.Endpoints) || !got.At.Equal(now) {
		t.Errorf("got %+v, want %+v", got, want)
	}
	if string(got.Config.Certificates[0].Key.Reveal()) != string(want.Config.Certificates[0].Key.Reveal()) {
		t.Error("a private key is another one")
	}
	left, err := os.ReadDir(filepath.Dir(s.Path()))
	if err != nil || len(left) != 1 {
		t.Errorf("files %v, error %v: want one", left, err)
	}
}

func TestAnEmptyConfigurationIsAStateToo(t *testing.T) {
	s, now := newStore(t), time.Now()
	save(t, s, State{Config: new(config.Config), At: now})
	if _, err := s.Load(now); err != nil {
		t.Error(err)
	}
}

func TestNothingOfAConfigurationIsOnTheDiskInClear(t *testing.T) {
	s, now := newStore(t), time.Now()
	state := sample(now)
	state.Config.Routes[0].Rules[0].Filters[0].RequestHeaders.Set[0] = config.Header{Name: "Authorization", Value: "Bearer abcdefghij"}
	save(t, s, state)
	content, err := os.ReadFile(s.Path())
	if err != nil {
		t.Fatal(err)
	}
	for _, secret := range []string{"zyxwvut", "Bearer", "abcdefghij", "PRIVATE", testKey} {
		if bytes.Contains(content, []byte(secret)) {
			t.Errorf("%q is in the file", secret)
		}
	}
	info, err := os.Stat(s.Path())
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("mode %v, error %v", info.Mode(), err)
	}
	first := content
	save(t, s, state)
	if second, err := os.ReadFile(s.Path()); err != nil || bytes.Equal(first, second) {
		t.Error("the same state gives the same bytes: nonces are used twice")
	}
}

func TestAStateThatCannotBeBelievedIsNotUsedAndSaysWhy(t *testing.T) {
	now := time.Now()
	cases := map[string]struct {
		spoil func(t *testing.T, s *Store)
		says  string
	}{
		"another key": {func(t *testing.T, s *Store) { writeFile(t, s.keyFile, strings.Repeat("k", 40), 0o600) }, "another key"},
		"no key":      {func(t *testing.T, s *Store) { must(t, os.Remove(s.keyFile)) }, "--state-key-file"},
		"a short key": {func(t *testing.T, s *Store) { writeFile(t, s.keyFile, "short", 0o600) }, "openssl rand"},
		"a long key":  {func(t *testing.T, s *Store) { writeFile(t, s.keyFile, strings.Repeat("k", 5000), 0o600) }, "openssl rand"},
		"foreign":     {func(t *testing.T, s *Store) { writeFile(t, s.Path(), "{}\n", 0o600) }, "remove it"},
		"empty":       {func(t *testing.T, s *Store) { writeFile(t, s.Path(), "", 0o600) }, "remove it"},
		"other version": {func(t *testing.T, s *Store) {
			content, err := os.ReadFile(s.Path())
			must(t, err)
			writeFile(t, s.Path(), strings.Replace(string(content), schema(), strings.Repeat("0", 16), 1), 0o600)
		}, "another version"},
		"readable by others": {func(t *testing.T, s *Store) { must(t, os.Chmod(s.Path(), 0o640)) }, "mode 0640"},
		"a link": {func(t *testing.T, s *Store) {
			must(t, os.Rename(s.Path(), s.Path()+".real"))
			must(t, os.Symlink(s.Path()+".real", s.Path()))
		}, "open the stored"},
		"a pipe": {func(t *testing.T, s *Store) {
			must(t, os.Remove(s.Path()))
			must(t, syscall.Mkfifo(s.Path(), 0o600))
		}, "regular file"},
		"too large": {func(t *testing.T, s *Store) { must(t, os.Truncate(s.Path(), stateBytesMax+1)) }, "bytes"},
		"too old":   {func(t *testing.T, s *Store) { save(t, s, sample(now.Add(-ageMax-time.Minute))) }, "24h0m"},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			s := newStore(t)
			save(t, s, sample(now))
			c.spoil(t, s)
			if _, err := s.Load(now); err == nil || !strings.Contains(err.Error(), c.says) {
				t.Errorf("the error is %v; want one with %q", err, c.says)
			}
		})
	}
}

func TestAStateOfAnotherUserIsNotUsed(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root, to give files away")
	}
	s, now := newStore(t), time.Now()
	save(t, s, sample(now))
	must(t, os.Chown(s.Path(), 12345, -1))
	if _, err := s.Load(now); err == nil || !strings.Contains(err.Error(), "belong") {
		t.Errorf("the error is %v", err)
	}
}

func TestNoFlippedBitAndNoLostByteIsOverlooked(t *testing.T) {
	s, now := newStore(t), time.Now()
	save(t, s, State{Config: &config.Config{TicketKeys: []config.Secret{[]byte("key")}}, At: now})
	whole, err := os.ReadFile(s.Path())
	must(t, err)
	for i := range whole {
		spoiled := bytes.Clone(whole)
		spoiled[i] ^= 1 << (i % 8)
		writeFile(t, s.Path(), string(spoiled), 0o600)
		if _, err := s.Load(now); err == nil {
			t.Fatalf("byte %d of %d was changed without anybody noticing", i, len(whole))
		}
		writeFile(t, s.Path(), string(whole[:i]), 0o600)
		if _, err := s.Load(now); err == nil {
			t.Fatalf("only %d of %d bytes were there without anybody noticing", i, len(whole))
		}
	}
}

// faulty is a disk that fails at one step.
type faulty struct {
	system
	at    int // the step that fails, counted from 0
	steps int
	short bool // writes are cut off instead of refused
}

var errDisk = errors.New("no space left on device")

func (d *faulty) fails() bool {
	d.steps++
	return d.steps-1 == d.at
}

func (d *faulty) makeDir(path string) error {
	if d.fails() {
		return errDisk
	}
	return d.system.makeDir(path)
}

func (d *faulty) create(path string) (file, error) {
	if d.fails() {
		return nil, errDisk
	}
	f, err := d.system.create(path)
	return &faultyFile{f, d}, err
}

func (d *faulty) rename(from, to string) error {
	if d.fails() {
		return errDisk
	}
	return d.system.rename(from, to)
}

func (d *faulty) syncDir(path string) error {
	if d.fails() {
		return errDisk
	}
	return d.system.syncDir(path)
}

type faultyFile struct {
	file
	disk *faulty
}

func (f *faultyFile) Write(p []byte) (int, error) {
	switch {
	case !f.disk.fails():
		return f.file.Write(p)
	case f.disk.short:
		return f.file.Write(p[:len(p)/2])
	}
	return 0, errDisk
}

func (f *faultyFile) Sync() error {
	if f.disk.fails() {
		return errDisk
	}
	return f.file.Sync()
}

func (f *faultyFile) Close() error {
	failed := f.disk.fails()
	if err := f.file.Close(); err != nil || !failed {
		return err
	}
	return errDisk
}

func TestWhateverTheDiskRefusesTheOldOrTheNewStateIsThereWhole(t *testing.T) {
	for _, short := range []bool{false, true} {
		s, now := newStore(t), time.Now().Round(0)
		earlier := now.Add(-time.Minute)
		failed := 0
		for step := 0; ; step++ {
			s.disk = system{}
			save(t, s, sample(earlier))
			d := &faulty{at: step, short: short}
			s.disk = d
			err := s.Save(sample(now))
			if d.steps <= step { // there is no such step any more
				if err != nil {
					t.Fatal(err)
				}
				break
			}
			failed++
			if !errors.Is(err, errDisk) && !errors.Is(err, io.ErrShortWrite) {
				t.Fatalf("step %d failed, and Save says %v", step, err)
			}
			got, err := s.Load(now)
			if err != nil || !got.At.Equal(earlier) && !got.At.Equal(now) {
				t.Fatalf("after step %d failed: a state of %s, error %v", step, got.At, err)
			}
			if _, err := os.Stat(filepath.Join(filepath.Dir(s.Path()), temporaryName)); !errors.Is(err, os.ErrNotExist) {
				t.Errorf("after step %d failed, half a file is left", step)
			}
		}
		if failed < 7 {
			t.Errorf("only %d steps could fail", failed)
		}
	}
}

func TestWhatAKilledProcessLeftIsNotInTheWay(t *testing.T) {
	s, now := newStore(t), time.Now()
	save(t, s, sample(now))
	elsewhere := filepath.Join(t.TempDir(), "elsewhere")
	writeFile(t, elsewhere, "precious", 0o600)
	must(t, os.Symlink(elsewhere, filepath.Join(filepath.Dir(s.Path()), temporaryName)))
	save(t, s, sample(now))
	if content, err := os.ReadFile(elsewhere); err != nil || string(content) != "precious" {
		t.Errorf("a link was followed: %q, %v", content, err)
	}
}

func TestWithoutAKeyNothingIsStored(t *testing.T) {
	s := newStore(t)
	must(t, os.Remove(s.keyFile))
	if err := s.Save(sample(time.Now())); err == nil || !strings.Contains(err.Error(), "--state-key-file") {
		t.Errorf("the error is %v", err)
	}
	if _, err := os.Stat(s.Path()); err == nil {
		t.Error("there is a file")
	}
}

func writeFile(t *testing.T, path, content string, mode os.FileMode) {
	t.Helper()
	must(t, os.WriteFile(path, []byte(content), mode))
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
