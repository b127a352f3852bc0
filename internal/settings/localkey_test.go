package settings_test

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/routex/cachewarmer/internal/settings"
	"github.com/routex/cachewarmer/internal/snapshot"
)

func TestLocalKeyIsMadeOnceAndKept(t *testing.T) {
	path := filepath.Join(t.TempDir(), "deep", "routex.db.key")
	first, err := settings.LocalKey(path)
	if err != nil {
		t.Fatal(err)
	}
	info, err := os.Stat(path)
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("mode %v, %v; want 0600", info.Mode(), err)
	}
	again, err := settings.LocalKey(path)
	if err != nil || !bytes.Equal(first.Bytes, again.Bytes) || again.ID != first.ID {
		t.Errorf("the second call gives another key: %v", err)
	}
	if _, err := snapshot.NewKeyring("default", first); err != nil {
		t.Error(err)
	}
	s := mustLoad(t, "ROUTEX_SECRET_KEYS_FILE="+path)
	if !bytes.Equal(s.SecretKeys[0].Bytes, first.Bytes) {
		t.Error("the file does not do as ROUTEX_SECRET_KEYS_FILE")
	}
	if left, _ := filepath.Glob(path + ".*"); len(left) > 0 {
		t.Errorf("left behind: %v", left)
	}
}

func TestLocalKeyIsTheSameForAllWhoAskAtOnce(t *testing.T) {
	for range 20 {
		path := filepath.Join(t.TempDir(), "k")
		keys := make([]snapshot.Key, 16)
		errs := make([]error, len(keys))
		var start, done sync.WaitGroup
		start.Add(1)
		for i := range keys {
			done.Go(func() {
				start.Wait()
				keys[i], errs[i] = settings.LocalKey(path)
			})
		}
		start.Done()
		done.Wait()
		for i, k := range keys {
			if errs[i] != nil || !bytes.Equal(k.Bytes, keys[0].Bytes) {
				t.Fatalf("caller %d got another key, or none: %v", i, errs[i])
			}
		}
	}
}

func TestLocalKeyIsNeverReplaced(t *testing.T) {
	tests := []struct {
		name, content string
		mode          os.FileMode
		want          string
	}{
		{"readable by others", "local:" + encoded + "\n", 0o644, "may be used by others (mode 0644), want 0600"},
		{"readable by the group", "local:" + encoded + "\n", 0o640, "may be used by others (mode 0640), want 0600"},
		{"empty", "", 0o600, "does not hold one key"},
		{"cut short", "local:" + encoded[:20], 0o600, "does not hold one key"},
		{"two keys", "a:" + encoded + ",b:" + encoded, 0o600, "does not hold one key"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			path := write(t, "k", tt.content)
			if err := os.Chmod(path, tt.mode); err != nil {
				t.Fatal(err)
			}
			_, err := settings.LocalKey(path)
			if !errors.Is(err, snapshot.ErrInvalid) || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("got %v, want ErrInvalid with %q", err, tt.want)
			}
			if strings.Contains(err.Error(), encoded[:20]) {
				t.Error("the error shows the key")
			}
			if body, _ := os.ReadFile(path); string(body) != tt.content {
				t.Errorf("the file is now %q", body)
			}
		})
	}
}

func TestKeys(t *testing.T) {
	t.Chdir(t.TempDir())
	given := mustLoad(t, "ROUTEX_SECRET_KEYS=k1:"+encoded)
	if keys, err := given.Keys(); err != nil || len(keys) != 1 || keys[0].ID != "k1" {
		t.Errorf("given keys: %v, %v", len(keys), err)
	}
	if _, err := os.Stat("routex.db.key"); err == nil {
		t.Error("a key file was made although keys were given")
	}
	local := mustLoad(t)
	if _, err := os.Stat("routex.db.key"); err == nil {
		t.Error("loading settings made a key file")
	}
	if keys, err := local.Keys(); err != nil || len(keys) != 1 {
		t.Errorf("no keys given: %d keys, %v", len(keys), err)
	}
	if _, err := os.Stat("routex.db.key"); err != nil {
		t.Error(err)
	}
}
