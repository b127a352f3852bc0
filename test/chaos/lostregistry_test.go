package chaos_test

import (
	"net/http"
	"slices"
	"testing"
	"time"

	"github.com/routex/cachewarmer/internal/testkit"
	"github.com/routex/cachewarmer/test/fleet"
)

// TestAFlushDoesNotHideAFrozenReplica freezes one replica and takes the registry
// away with everything else. The list is built anew by those that still report;
// a receipt names the one that does not. The source is PostgreSQL: a process that
// is frozen within a write to a SQLite file would hold up all others.
func TestAFlushDoesNotHideAFrozenReplica(t *testing.T) {
	t.Parallel()
	f := fleet.Start(t, fleet.Options{Redis: testkit.Redis(t), Replicas: 3, Channels: 10, Rules: 2, Processes: true, Postgres: true})
	writer, frozen := f.Replicas[0], f.Replicas[2]
	rounds := testkit.Rounds(3, 50)
	for n := range rounds {
		f.WaitTags(20 * time.Second)
		if n := len(writer.Members()); n != 3 { // and the writer has seen them
			t.Fatalf("%d replicas are live, want 3", n)
		}
		frozen.Pause()
		f.Client.FlushAll(t.Context())
		answer, err := writer.Do(t.Context(), http.MethodPut, "/api/channels/"+fleet.ChannelID(0)+"?wait=fleet&timeoutMs=1500", map[string]any{"weight": 100 + n})
		frozen.Resume()
		if err != nil {
			t.Fatal(err)
		}
		if answer.Status != http.StatusGatewayTimeout || answer.Error == nil || answer.Error.Details.Receipt == nil ||
			!slices.Contains(answer.Error.Details.Receipt.Laggards, frozen.ID) {
			t.Errorf("round %d: %d %.400s; want 504 with a receipt that names %s", n, answer.Status, answer.Body, frozen.ID)
		}
	}
	t.Logf("figure: receipts after a flush that name the replica that is frozen: %d of %d", rounds, rounds)
}
