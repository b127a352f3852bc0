package state_test

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/routex/cachewarmer/internal/snapshot"
	"github.com/routex/cachewarmer/internal/state"
)

func TestLoadRefuses(t *testing.T) {
	good := save(t, t.TempDir(), sample(t), now())
	raw, err := os.ReadFile(good)
	if err != nil {
		t.Fatal(err)
	}
	sealed := func(plain string) []byte {
		return append([]byte(state.Form), keyring(t, "prod", "k1").SealBytes(state.Label("prod"), []byte(plain))...)
	}
	head := func(head, records string) []byte {
		return sealed(string(binary.AppendUvarint(nil, uint64(len(head)))) + head + records)
	}
	saved := fmt.Sprintf(`"schema":1,"savedAt":%d`, now().UnixMilli())
	const noRules = `{"kind":"routingRules","tag":"1-00000000","digest":"0000000000000000","count":0,"schema":1}`
	for _, tt := range []struct {
		name string
		raw  []byte
		want error
		says string
	}{
		{"a file that is not there", nil, snapshot.ErrNotFound, "no such file"},
		{"an empty file", []byte{}, snapshot.ErrInvalid, "damaged"},
		{"something else", []byte("#!/bin/sh\nexit 0\n"), snapshot.ErrInvalid, "damaged"},
		{"another form", bytes.Replace(raw, []byte("state 1"), []byte("state 2"), 1), snapshot.ErrInvalid, "form 2, written by a later release"},
		{"nothing sealed", []byte(state.Form), snapshot.ErrInvalid, "cut short"},
		{"half of a file", raw[:len(raw)/2], snapshot.ErrInvalid, "does not open"},
		{"two files in one", append(bytes.Clone(raw), raw...), snapshot.ErrInvalid, "does not open"},
		{"sealed for another place", append([]byte(state.Form), keyring(t, "prod", "k1").SealBytes("x", nil)...), snapshot.ErrInvalid, "does not open"},

		{"nothing in the box", sealed(""), snapshot.ErrInvalid, "header"},
		{"no header", sealed("\x05{}"), snapshot.ErrInvalid, "header"},
		{"an endless length", sealed(strings.Repeat("\xff", 20)), snapshot.ErrInvalid, "header"},
		{"a header that is none", head("[1]", ""), snapshot.ErrInvalid, "header"},
		{"a later schema", head(`{"schema":2}`, ""), snapshot.ErrInvalid, "schema 2"},
		{"no kinds", head("{"+saved+"}", ""), snapshot.ErrInvalid, "0 kinds"},
		{"a kind of a later release", head("{"+saved+`,"kinds":[{"kind":"prompts"}]}`, ""), snapshot.ErrInvalid, `"prompts"`},
		{"a kind twice", head("{"+saved+`,"kinds":[`+noRules+`,`+noRules+`]}`, ""), snapshot.ErrInvalid, "twice"},
		{"records of a later schema", head("{"+saved+`,"kinds":[`+strings.Replace(noRules, `"schema":1`, `"schema":2`, 1)+`]}`, ""), snapshot.ErrInvalid, "schema 2"},
		{"a tag without content", head("{"+saved+`,"kinds":[`+strings.Replace(noRules, "1-00000000", "1-invalid", 1)+`]}`, ""), snapshot.ErrInvalid, "1-invalid"},
		{"a tag that does not fit", head("{"+saved+`,"kinds":[`+strings.Replace(noRules, "1-00000000", "1-00000001", 1)+`]}`, ""), snapshot.ErrInvalid, "1-00000001"},
		{"a digest that does not fit", head("{"+saved+`,"kinds":[`+strings.Replace(noRules, `0"`, `1"`, 1)+`]}`, ""), snapshot.ErrInvalid, "digest"},
		{"more records than bytes", head("{"+saved+`,"kinds":[`+strings.Replace(noRules, `"count":0`, `"count":9000000000`, 1)+`]}`, "\x01a\x00"), snapshot.ErrInvalid, "9000000000 records"},
		{"fewer than no records", head("{"+saved+`,"kinds":[`+strings.Replace(noRules, `"count":0`, `"count":-1`, 1)+`]}`, "\x01a\x00"), snapshot.ErrInvalid, "-1 records"},
		{"a record that is cut", head("{"+saved+`,"kinds":[`+strings.Replace(noRules, `"count":0`, `"count":1`, 1)+`]}`, "\x01a\x05"), snapshot.ErrInvalid, "cut short"},
		{"a record twice", head("{"+saved+`,"kinds":[`+strings.Replace(noRules, `"count":0`, `"count":2`, 1)+`]}`, "\x01a\x00\x01a\x00"), snapshot.ErrInvalid, "1 records"},
		{"bytes after the last record", head("{"+saved+`,"kinds":[`+noRules+`]}`, "\x00"), snapshot.ErrInvalid, "1 bytes after"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			dir := t.TempDir()
			if tt.raw != nil {
				if err := os.WriteFile(filepath.Join(dir, "prod.state"), tt.raw, 0o600); err != nil {
					t.Fatal(err)
				}
			}
			got, at, err := state.Load(dir, "prod", keyring(t, "prod", "k1"))
			if !errors.Is(err, tt.want) || got != nil || !at.IsZero() {
				t.Fatalf("Load() = %v, %v, %v; want nothing and %v", got, at, err, tt.want)
			}
			if !strings.Contains(err.Error(), tt.says) || !strings.Contains(err.Error(), dir) || strings.Contains(err.Error(), "canary") {
				t.Errorf("it says %q, want the path and %q", err, tt.says)
			}
		})
	}
	ok := head("{"+saved+`,"kinds":[`+noRules+`]}`, "")
	if err := os.WriteFile(good, ok, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, _, err := state.Load(filepath.Dir(good), "prod", keyring(t, "prod", "k1")); err != nil {
		t.Errorf("the file that the bad ones were made of is refused as well: %v", err)
	}
}

func TestLoadOpensOnlyWhatIsItsOwn(t *testing.T) {
	dir := t.TempDir()
	path := save(t, dir, sample(t), now())
	if err := os.Rename(path, filepath.Join(dir, "test.state")); err != nil {
		t.Fatal(err)
	}
	for name, keys := range map[string]*snapshot.Keyring{
		"of another namespace":     keyring(t, "test", "k1"),
		"of another name":          keyring(t, "prod", "k1"),
		"sealed with another key":  keyring(t, "test", "x9"),
		"sealed with a former key": keyring(t, "test", "n2"),
	} {
		if _, _, err := state.Load(dir, "test", keys); !errors.Is(err, snapshot.ErrInvalid) {
			t.Errorf("a file %s: err = %v, want ErrInvalid", name, err)
		}
	}
}

func TestEveryFlippedByteIsNoticed(t *testing.T) {
	dir := t.TempDir()
	file, err := os.OpenFile(save(t, dir, sample(t), now()), os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = file.Close() }()
	raw, err := io.ReadAll(file)
	if err != nil {
		t.Fatal(err)
	}
	keys := keyring(t, "prod", "k1", "j1", "i1", "o1", "c1") // ids one bit apart
	refused := func(what string, at int) {
		if _, _, err := state.Load(dir, "prod", keys); !errors.Is(err, snapshot.ErrInvalid) {
			t.Fatalf("%s %d of %d: err = %v, want ErrInvalid", what, at, len(raw), err)
		}
	}
	put := func(at int, b byte) {
		if _, err := file.WriteAt([]byte{b}, int64(at)); err != nil {
			t.Fatal(err)
		}
	}
	for i, b := range raw {
		for _, flip := range []byte{1, 2, 4, 8, 16, 32, 64, 128, 255} {
			put(i, b^flip)
			refused("flipped byte", i)
		}
		put(i, b)
	}
	if _, _, err := state.Load(dir, "prod", keys); err != nil {
		t.Fatalf("with every byte as it was: %v", err)
	}
	for n := range slices.Backward(raw) {
		if err := file.Truncate(int64(n)); err != nil {
			t.Fatal(err)
		}
		refused("cut to", n)
	}
	t.Logf("figure: %d bytes, each flipped in 9 ways and each a place to cut: all refused", len(raw))
}

func TestAge(t *testing.T) {
	for _, tt := range []struct {
		name string
		age  time.Duration
		want error
	}{
		{"of just now", 0, nil},
		{"of yesterday", 24 * time.Hour, nil},
		{"almost too old", state.MaxAge - time.Minute, nil},
		{"too old", state.MaxAge + time.Second, snapshot.ErrInvalid},
		{"a clock that is a little behind", -time.Minute, nil},
		{"of tomorrow", -24 * time.Hour, snapshot.ErrInvalid},
		{"without a time", time.Since(time.UnixMilli(0)), snapshot.ErrInvalid},
	} {
		t.Run(tt.name, func(t *testing.T) {
			dir := t.TempDir()
			save(t, dir, sample(t), now().Add(-tt.age))
			if _, _, err := state.Load(dir, "prod", keyring(t, "prod", "k1")); !errors.Is(err, tt.want) {
				t.Errorf("err = %v, want %v", err, tt.want)
			}
		})
	}
}

func TestWhatIsNoFileIsNotRead(t *testing.T) {
	for name, make := range map[string]func(path string) error{
		"a folder": func(path string) error { return os.Mkdir(path, 0o700) },
		"a pipe that nobody writes to": func(path string) error {
			return syscall.Mkfifo(path, 0o600)
		},
		"a file too large to be one": func(path string) error {
			return errors.Join(os.WriteFile(path, nil, 0o600), os.Truncate(path, 1<<40))
		},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			if err := make(filepath.Join(dir, "prod.state")); err != nil {
				t.Fatal(err)
			}
			if _, _, err := state.Load(dir, "prod", keyring(t, "prod", "k1")); !errors.Is(err, snapshot.ErrInvalid) {
				t.Errorf("err = %v, want ErrInvalid", err)
			}
		})
	}
}
