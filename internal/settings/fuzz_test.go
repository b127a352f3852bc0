package settings_test

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/routex/cachewarmer/internal/settings"
)

// FuzzLoad gives the loader any file and any variable. Whatever they hold, it
// must not panic, must answer with one line, and must not show a secret.
func FuzzLoad(f *testing.F) {
	f.Add(example, uint8(0), "127.0.0.1:0")
	f.Add("listen: &a x\nnamespace: *a\n", uint8(4), "redis://:p@h:1?addr=b:2")
	f.Add("{admin_token: [a, [b]], <<: {}}", uint8(5), "postgres://u:p@h/x?sslmode=x")
	f.Add("? [a]\n: b", uint8(12), "k:MDEyMw==")
	f.Add("a: !!binary x", uint8(21), "1e400GiB")
	dir := f.TempDir()
	f.Fuzz(func(t *testing.T, file string, which uint8, value string) {
		path := filepath.Join(dir, "routex.yaml")
		if err := os.WriteFile(path, []byte(file), 0o600); err != nil {
			t.Fatal(err)
		}
		d := settings.Table[int(which)%len(settings.Table)]
		if d.Key() == "" { // would name another file
			return
		}
		s, err := settings.Load(nil, []string{d.Env() + "=" + value, "ROUTEX_CONFIG=" + path})
		if err == nil {
			_ = s.String()
			return
		}
		var bad *settings.Error
		if !errors.As(err, &bad) {
			t.Fatalf("%v is a %T, want *settings.Error", err, err)
		}
		if strings.ContainsAny(err.Error(), "\n\r\x00") {
			t.Errorf("not one line: %q", err)
		}
		if bad.Where == d.Env() && d.Secret && len(value) > 8 && strings.Contains(err.Error(), value) {
			t.Errorf("%s shows its value: %q", d.Env(), err)
		}
	})
}
