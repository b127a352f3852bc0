package snapshot_test

import (
	"bytes"
	"encoding/base64"
	"errors"
	"testing"

	"github.com/routex/cachewarmer/internal/snapshot"
)

func TestSealedBytesOpenOnlyWhereTheyBelong(t *testing.T) {
	r := keyring(t, "prod", "k1")
	for _, want := range []string{"", "x", plain} {
		box := r.SealBytes("state", []byte(want))
		if want == plain && bytes.Contains(box, []byte("canary")) {
			t.Fatalf("sealed bytes are %q", box)
		}
		rotated := keyring(t, "prod", "n2", "k1")
		if got, err := rotated.OpenBytes("state", bytes.Clone(box)); err != nil || string(got) != want {
			t.Errorf("after rotation OpenBytes() = %q, %v; want %q", got, err, want)
		}
	}
	box := r.SealBytes("state", []byte(plain))
	for name, open := range map[string]func(box []byte) ([]byte, error){
		"another label": func(box []byte) ([]byte, error) { return r.OpenBytes("stat", box) },
		"another namespace": func(box []byte) ([]byte, error) {
			return keyring(t, "test", "k1").OpenBytes("state", box)
		},
		"another key": func(box []byte) ([]byte, error) { return keyring(t, "prod", "x").OpenBytes("state", box) },
		"another key under that id": func(box []byte) ([]byte, error) {
			other, err := snapshot.NewKeyring("prod", snapshot.Key{ID: "k1", Bytes: bytes.Repeat([]byte("z"), snapshot.KeyBytes)})
			if err != nil {
				t.Fatal(err)
			}
			return other.OpenBytes("state", box)
		},
		"something appended": func(box []byte) ([]byte, error) { return r.OpenBytes("state", append(box, 0)) },
	} {
		if got, err := open(bytes.Clone(box)); !errors.Is(err, snapshot.ErrInvalid) || got != nil {
			t.Errorf("%s: OpenBytes() = %q, %v; want ErrInvalid", name, got, err)
		}
	}
	for n := range box {
		if _, err := r.OpenBytes("state", bytes.Clone(box[:n])); !errors.Is(err, snapshot.ErrInvalid) {
			t.Fatalf("the first %d of %d bytes: err = %v, want ErrInvalid", n, len(box), err)
		}
	}
}

// TestNoAlteredBytesOpen flips every bit in turn, with the same key under all
// the ids that a flip could make of this one.
func TestNoAlteredBytesOpen(t *testing.T) {
	var keys []snapshot.Key
	for _, id := range []string{"k1", "k0", "k3", "k5", "k9", "kq", "j1", "i1", "o1", "c1"} {
		keys = append(keys, snapshot.Key{ID: id, Bytes: bytes.Repeat([]byte("k"), snapshot.KeyBytes)})
	}
	r, err := snapshot.NewKeyring("prod", keys...)
	if err != nil {
		t.Fatal(err)
	}
	box := r.SealBytes("state", []byte(plain))
	for i := range box {
		for bit := range 8 {
			bad := bytes.Clone(box)
			bad[i] ^= 1 << bit
			if _, err := r.OpenBytes("state", bad); !errors.Is(err, snapshot.ErrInvalid) {
				t.Fatalf("bit %d of byte %d flipped: err = %v, want ErrInvalid", bit, i, err)
			}
		}
	}
}

func TestSealedBytesAndSealedRecordsDoNotMix(t *testing.T) {
	r := keyring(t, "prod", "k1")
	box := r.SealBytes("ch_1", []byte(plain))
	if _, err := r.Open("", "ch_1", snapshot.Sealed("sealed:k1:"+base64.RawStdEncoding.EncodeToString(box[3:]))); err == nil {
		t.Error("sealed bytes open as the secret of a record")
	}
}
