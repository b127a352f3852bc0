package store_test

import (
	"log/slog"
	"strings"
	"testing"

	"github.com/routex/cachewarmer/internal/store"
	"github.com/routex/cachewarmer/internal/testkit"
)

// TestDriverSaysNothingByItself has dials fail. go-redis writes a line on
// stderr for each of them, unless it is told otherwise.
func TestDriverSaysNothingByItself(t *testing.T) {
	before := slog.Default()
	t.Cleanup(func() { slog.SetDefault(before) })
	for _, tt := range []struct {
		level slog.Level
		want  bool
	}{{slog.LevelInfo, false}, {slog.LevelDebug, true}} {
		var out testkit.Buffer
		slog.SetDefault(slog.New(slog.NewTextHandler(&out, &slog.HandlerOptions{Level: tt.level})))
		c, err := store.Dial("redis://127.0.0.1:1/0")
		if err != nil {
			t.Fatal(err)
		}
		if err := c.Ping(t.Context()); err == nil {
			t.Fatal("something answers on port 1")
		}
		_ = c.Close()
		if said := strings.Contains(out.String(), "Redis driver: "); said != tt.want {
			t.Errorf("at level %v it said:\n%s", tt.level, out.String())
		}
	}
}
