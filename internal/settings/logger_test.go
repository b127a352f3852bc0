package settings_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"go.uber.org/goleak"

	"github.com/routex/cachewarmer/internal/settings"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestLoggerWritesToBoth(t *testing.T) {
	for _, format := range []string{"text", "json"} {
		t.Run(format, func(t *testing.T) {
			file := filepath.Join(t.TempDir(), "logs", "routex.log")
			var stderr bytes.Buffer
			log, sink, err := settings.NewLoggerTo(&stderr, mustLoad(t, "ROUTEX_LOG_FORMAT="+format, "ROUTEX_LOG_FILE="+file))
			if err != nil {
				t.Fatal(err)
			}
			log.Info("Cache warmed", "kind", "channels")
			log.Debug("not yet")
			sink.Level.Set(slog.LevelDebug)
			log.Debug("now")
			if err := sink.Close(); err != nil {
				t.Error(err)
			}
			log.Info("after the end")
			body, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			for where, text := range map[string]string{"stderr": stderr.String(), "file": string(body)} {
				if !strings.Contains(text, "Cache warmed") || strings.Contains(text, "not yet") || !strings.Contains(text, "now") {
					t.Errorf("%s holds %q", where, text)
				}
				first, _, _ := strings.Cut(text, "\n")
				if got := json.Valid([]byte(first)); got != (format == "json") {
					t.Errorf("%s: the line is JSON: %v: %s", where, got, first)
				}
			}
			if !strings.Contains(stderr.String(), "after the end") {
				t.Error("lines after Close do not reach stderr")
			}
			if info, err := os.Stat(file); err != nil || info.Mode().Perm()&0o007 != 0 {
				t.Errorf("log file: mode %v, %v; want nothing for others", info.Mode(), err)
			}
		})
	}
}

func TestLoggerWithoutFile(t *testing.T) {
	t.Chdir(t.TempDir())
	var stderr bytes.Buffer
	log, sink, err := settings.NewLoggerTo(&stderr, mustLoad(t, "ROUTEX_LOG_FILE=", "ROUTEX_LOG_LEVEL=error"))
	if err != nil {
		t.Fatal(err)
	}
	log.Warn("quiet")
	log.Error("loud")
	if err := sink.Close(); err != nil {
		t.Error(err)
	}
	if got := stderr.String(); strings.Contains(got, "quiet") || !strings.Contains(got, "loud") {
		t.Errorf("stderr holds %q", got)
	}
	if made, _ := filepath.Glob("*"); len(made) > 0 {
		t.Errorf("made %v", made)
	}
}

func TestLoggerRefusesAFileItCannotWrite(t *testing.T) {
	tests := []struct{ name, path, want string }{
		{"a folder", t.TempDir(), "cannot be opened for writing"},
		{"below a file", "/dev/null/x/routex.log", "is in a folder that cannot be made"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			_, _, err := settings.NewLoggerTo(&bytes.Buffer{}, mustLoad(t, "ROUTEX_LOG_FILE="+tt.path))
			var bad *settings.Error
			if !errors.As(err, &bad) || bad.Where != "ROUTEX_LOG_FILE" || bad.Fault != tt.want {
				t.Errorf("got %v, want that ROUTEX_LOG_FILE %s", err, tt.want)
			}
		})
	}
}
