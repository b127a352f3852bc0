package source_test

import (
	"bytes"
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"strings"
	"testing"

	"github.com/routex/cachewarmer/internal/snapshot"
	"github.com/routex/cachewarmer/internal/source"
)

// TestAReplicaWithOtherKeysLoadsNothing opens the source of a fleet with a key of
// the same name and other bytes: what it cannot open are not broken channels.
func TestAReplicaWithOtherKeysLoadsNothing(t *testing.T) {
	url := "sqlite://" + filepath.Join(t.TempDir(), "routex.db")
	open := func(fill byte) *source.DB {
		keyring, err := snapshot.NewKeyring("fleet", snapshot.Key{ID: "k1", Bytes: bytes.Repeat([]byte{fill}, snapshot.KeyBytes)})
		if err != nil {
			t.Fatal(err)
		}
		db, err := source.Open(t.Context(), url, source.Options{Keyring: keyring, Log: slog.New(slog.DiscardHandler)})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = db.Close() })
		return db
	}
	ours, others := open(1), open(2)
	for i := range 3 {
		c := snapshot.Channel{ID: fmt.Sprintf("c%d", i), Name: fmt.Sprintf("Channel %d", i), Type: "openai", Models: []string{"m"}}
		if _, _, err := ours.CreateChannel(t.Context(), c, snapshot.NewSecret("sk-"+c.ID)); err != nil {
			t.Fatal(err)
		}
	}
	if c, err := ours.Load(t.Context(), false); err != nil || len(c.Channels) != 3 {
		t.Fatalf("the fleet's own load: %+v, %v", c, err)
	}
	if c, err := others.Load(t.Context(), false); !errors.Is(err, snapshot.ErrUnavailable) || !strings.Contains(err.Error(), "none of 3 sealed keys") {
		t.Errorf("a load with other keys: %+v, %v, want an error that says so", c, err)
	}
}
