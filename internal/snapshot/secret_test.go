package snapshot_test

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"testing"

	"github.com/routex/cachewarmer/internal/snapshot"
)

func keyring(t testing.TB, namespace string, ids ...string) *snapshot.Keyring {
	t.Helper()
	keys := make([]snapshot.Key, len(ids))
	for i, id := range ids {
		keys[i] = snapshot.Key{ID: id, Bytes: bytes.Repeat([]byte(id[:1]), snapshot.KeyBytes)}
	}
	r, err := snapshot.NewKeyring(namespace, keys...)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

const plain = "sk-ant-api03-canary-a1b2"

func TestSealedOpensOnlyWhereItBelongs(t *testing.T) {
	r := keyring(t, "prod", "k1")
	sealed := r.Seal(snapshot.Channels, "ch_1", snapshot.NewSecret(plain))
	if strings.Contains(string(sealed), "canary") || !snapshot.IsSealed(string(sealed)) {
		t.Fatalf("sealed value is %q", sealed)
	}
	got, err := r.Open(snapshot.Channels, "ch_1", sealed)
	if err != nil || got.Reveal() != plain {
		t.Fatalf("Open() = %v, %v", got, err)
	}
	rotated := keyring(t, "prod", "n2", "k1")
	if got, err := rotated.Open(snapshot.Channels, "ch_1", sealed); err != nil || got.Reveal() != plain {
		t.Errorf("after rotation Open() = %v, %v; want the old value", got, err)
	}
	if fresh := rotated.Seal(snapshot.Channels, "ch_1", snapshot.NewSecret(plain)); !strings.HasPrefix(string(fresh), "sealed:n2:") {
		t.Errorf("after rotation Seal() = %q, want the first key", fresh)
	}
	for name, open := range map[string]func() (snapshot.Secret, error){
		"another record": func() (snapshot.Secret, error) { return r.Open(snapshot.Channels, "ch_2", sealed) },
		"another kind":   func() (snapshot.Secret, error) { return r.Open(snapshot.Models, "ch_1", sealed) },
		"another namespace": func() (snapshot.Secret, error) {
			return keyring(t, "test", "k1").Open(snapshot.Channels, "ch_1", sealed)
		},
		"another key": func() (snapshot.Secret, error) {
			return keyring(t, "prod", "x").Open(snapshot.Channels, "ch_1", sealed)
		},
		"plain text": func() (snapshot.Secret, error) { return r.Open(snapshot.Channels, "ch_1", plain) },
	} {
		if got, err := open(); !errors.Is(err, snapshot.ErrInvalid) || strings.Contains(fmt.Sprint(err), "canary") {
			t.Errorf("%s: Open() = %v, %v; want ErrInvalid without the key in it", name, got, err)
		}
	}
}

// TestNoAlteredValueOpens flips every bit of the box in turn.
func TestNoAlteredValueOpens(t *testing.T) {
	r := keyring(t, "prod", "k1")
	sealed := string(r.Seal(snapshot.Channels, "ch_1", snapshot.NewSecret(plain)))
	mark := strings.LastIndex(sealed, ":") + 1
	box, err := base64.RawStdEncoding.DecodeString(sealed[mark:])
	if err != nil {
		t.Fatal(err)
	}
	for i := range box {
		for bit := range 8 {
			bad := bytes.Clone(box)
			bad[i] ^= 1 << bit
			if _, err := r.Open(snapshot.Channels, "ch_1", snapshot.Sealed(sealed[:mark]+base64.RawStdEncoding.EncodeToString(bad))); err == nil {
				t.Fatalf("opened with bit %d of byte %d flipped", bit, i)
			}
		}
	}
}

func FuzzOpen(f *testing.F) {
	r := keyring(f, "prod", "k1")
	f.Add(string(r.Seal(snapshot.Channels, "ch_1", snapshot.NewSecret(plain))))
	for _, s := range []string{"", "sealed:", "sealed:k1:", "sealed:k1:AAAA", "sealed:zz:AAAA", plain} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		got, err := r.Open(snapshot.Channels, "ch_2", snapshot.Sealed(s))
		if err == nil && got.Reveal() != "" {
			t.Errorf("opened %q", s)
		}
	})
}

func TestSecretNeverPrints(t *testing.T) {
	s := snapshot.NewSecret(plain)
	var b bytes.Buffer
	slog.New(slog.NewTextHandler(&b, nil)).Info("x", "secret", s, "in", struct{ S snapshot.Secret }{s})
	encoded, err := json.Marshal(map[string]any{"s": s, "p": &s})
	if err != nil {
		t.Fatal(err)
	}
	out := b.String() + string(encoded) + fmt.Sprintf("%v %+v %#v %s %q %x", s, s, s, s, s, s) + fmt.Sprint(&s, []snapshot.Secret{s})
	if strings.Contains(out, "canary") || strings.Contains(out, fmt.Sprintf("%x", "canary")) {
		t.Errorf("printed: %s", out)
	}
}

func TestKeyShowsItsIDAlone(t *testing.T) {
	k := snapshot.Key{ID: "k1", Bytes: bytes.Repeat([]byte("Z"), snapshot.KeyBytes)}
	var b bytes.Buffer
	slog.New(slog.NewTextHandler(&b, nil)).Info("x", "key", k, "keys", []snapshot.Key{k})
	encoded, err := json.Marshal([]snapshot.Key{k})
	if err != nil {
		t.Fatal(err)
	}
	out := b.String() + string(encoded) + fmt.Sprintf("%v %+v %#v %s %q", k, k, k, k, []snapshot.Key{k})
	if strings.Contains(out, "ZZZZ") || strings.Contains(out, "90 90") || strings.Contains(out, "Wlpa") {
		t.Errorf("printed: %s", out)
	}
}

func TestMask(t *testing.T) {
	for in, want := range map[string]string{
		"":                      "",
		"short":                 "…",
		"sk-ant-xxx":            "…",
		plain:                   "sk-…a1b2",
		"AIzaSyD-1234567890":    "AIz…7890",
		"ключ-ключ-ключ-ключ-1": "к…ч-1",
	} {
		got := snapshot.NewSecret(in).Mask()
		if got != want {
			t.Errorf("Mask(%q) = %q, want %q", in, got, want)
		}
	}
}
