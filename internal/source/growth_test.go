package source_test

import (
	"fmt"
	"log/slog"
	"path/filepath"
	"strings"
	"testing"

	"github.com/routex/cachewarmer/internal/snapshot"
	"github.com/routex/cachewarmer/internal/source"
	"github.com/routex/cachewarmer/internal/testkit"
)

// BenchmarkGrowth is what the writer's side of a warm costs, up to the difference
// that is to be published: for the whole source, for one change, for none. From a
// thousand records to a hundred thousand, one change may take 1.5 times as long
// and none 1.2 times.
func BenchmarkGrowth(b *testing.B) {
	urls := map[string]func(b *testing.B) string{
		"sqlite":   func(b *testing.B) string { return "sqlite://" + filepath.Join(b.TempDir(), "routex.db") },
		"postgres": func(b *testing.B) string { return testkit.Postgres(b) },
	}
	for _, engine := range []string{"sqlite", "postgres"} {
		for _, records := range []int{1_000, 100_000} {
			b.Run(fmt.Sprintf("%s/%d", engine, records), func(b *testing.B) {
				d, err := source.Open(b.Context(), urls[engine](b), source.Options{Keyring: keyring(b), Log: slog.New(slog.DiscardHandler)})
				if err != nil {
					b.Fatal(err)
				}
				defer d.Close()
				fill(b, d, records)
				growth(b, d)
			})
		}
	}
}

// fill makes channels, of which ten offer each model.
func fill(b *testing.B, d *source.DB, n int) {
	b.Helper()
	for from := 0; from < n; from += 500 {
		rows := make([]string, 500)
		for k := range rows {
			i := from + k
			rows[k] = fmt.Sprintf(`('ch_%06d', 'channel %d', 'custom', 'https://upstream.example/%d', '["model-%d"]')`, i, i, i, i/10)
		}
		if err := d.Exec(b.Context(), "INSERT INTO channels (id, name, type, base_url, models) VALUES "+strings.Join(rows, ", ")); err != nil {
			b.Fatal(err)
		}
	}
}

func growth(b *testing.B, d *source.DB) {
	rows := snapshot.NewAssembler(0)
	have := map[snapshot.Kind]*snapshot.Set{}
	warm := func(b *testing.B, since *snapshot.Point) (changed int) {
		c, err := d.LoadSince(b.Context(), since, false)
		if err != nil {
			b.Fatal(err)
		}
		if (c.Since == nil) != (since == nil) {
			b.Fatal("the list of changes does not tell what changed")
		}
		candidates, err := rows.Assemble(c, nil, nil)
		if err != nil {
			b.Fatal(err)
		}
		for kind, cand := range candidates {
			changed += cand.Since(have[kind]).Len()
			have[kind] = cand.Set
		}
		return changed
	}
	warm(b, nil) // what the others rest on, whichever of them run
	b.Run("everything", func(b *testing.B) {
		for b.Loop() {
			warm(b, nil)
		}
	})
	b.Run("one change", func(b *testing.B) {
		for i := 0; b.Loop(); i++ {
			b.StopTimer()
			if err := d.Exec(b.Context(), fmt.Sprintf("UPDATE channels SET weight = %d WHERE id = 'ch_000500'", i+2)); err != nil {
				b.Fatal(err)
			}
			b.StartTimer()
			if n := warm(b, rows.Known()); n != 1 {
				b.Fatalf("%d records differ, want 1", n)
			}
		}
	})
	b.Run("no change", func(b *testing.B) {
		for b.Loop() {
			if n := warm(b, rows.Known()); n != 0 {
				b.Fatalf("%d records differ, want none", n)
			}
		}
	})
}
