package source_test

import (
	"fmt"
	"log/slog"
	"path/filepath"
	"testing"

	"github.com/routex/cachewarmer/internal/snapshot"
	"github.com/routex/cachewarmer/internal/source"
)

// BenchmarkLoad is what one warm asks of the source, with a thousand channels
// in SQLite. Budget: 20 ms.
func BenchmarkLoad(b *testing.B) {
	keys := keyring(b)
	path := filepath.Join(b.TempDir(), "routex.db")
	d, err := source.Open(b.Context(), "sqlite://"+path, source.Options{Keyring: keys, Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		b.Fatal(err)
	}
	defer d.Close()
	for i := range 1000 {
		ch := channel(fmt.Sprintf("channel %d", i))
		if _, _, err := d.CreateChannel(b.Context(), ch, snapshot.NewSecret(fmt.Sprintf("sk-bench-%d", i))); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportAllocs()
	for b.Loop() {
		if _, err := d.Load(b.Context(), false); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkRevisions is what the refresher asks every second. Budget: 1 ms.
func BenchmarkRevisions(b *testing.B) {
	d, err := source.Open(b.Context(), "sqlite://"+filepath.Join(b.TempDir(), "routex.db"), source.Options{Keyring: keyring(b), Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		b.Fatal(err)
	}
	defer d.Close()
	b.ReportAllocs()
	for b.Loop() {
		if _, err := d.Revisions(b.Context()); err != nil {
			b.Fatal(err)
		}
	}
}
