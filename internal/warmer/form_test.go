package warmer_test

import (
	"context"
	"log/slog"
	"testing"
	"testing/synctest"
	"time"

	"github.com/routex/cachewarmer/internal/snapshot"
	"github.com/routex/cachewarmer/internal/warmer"
)

// lead lets a refresher of w work for as long, and returns when it has ended.
func lead(t *testing.T, w *warmer.Warmer, src *fakeSource, d time.Duration) {
	t.Helper()
	at, err := src.Position(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	config := snapshot.VersionedConfig{CacheConfig: snapshot.DefaultCacheConfig(), Version: at.Config}
	config.WarmOnStartup = false // which would write everything anew
	r, err := warmer.NewRefresher(w, warmer.RefresherOptions{
		Config: func() snapshot.VersionedConfig { return config }, SyncConfig: func(context.Context) error { return nil },
		Log: slog.New(slog.DiscardHandler),
	})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), d)
	defer cancel()
	if err := r.Lead(ctx); err != nil {
		t.Errorf("Lead() = %v, want nil", err)
	}
}

// writtenLater makes what is published look as a later release writes it: other
// bytes, of a greater schema.
func writtenLater(st *fakeStore, kind snapshot.Kind) {
	st.mu.Lock()
	defer st.mu.Unlock()
	recs := map[string]string{}
	for _, id := range st.snaps[kind].Set.IDs() {
		recs[id] = `{"of":"a later release"}`
	}
	later := *st.snaps[kind]
	later.Set = snapshot.NewSet(kind, recs)
	later.Meta.Schema, later.Meta.Version, later.Meta.Digest = snapshot.Schema+1, later.Meta.Version+1, later.Set.Digest()
	later.Tag = later.Meta.Tag()
	st.snaps[kind], st.head.Tags[kind] = &later, later.Tag
}

// TestRefresherGoesBackToTheFormItReads has a later release leave its form
// behind. The refresher publishes its own, once, although nothing has changed
// in the source, and moves nothing else.
func TestRefresherGoesBackToTheFormItReads(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, newSource(12), newStore(), newLock(), nil)
		r.mustWarm(warmer.Request{})
		want := r.st.head.Tags[snapshot.Models]
		writtenLater(r.st, snapshot.Channels)
		begun := len(r.st.pubs)
		lead(t, r.Warmer, r.src, 20*time.Second)
		channels := r.st.snaps[snapshot.Channels]
		if channels.Meta.Schema != snapshot.Schema || channels.Tag.Version() != 3 {
			t.Errorf("channels are %s of schema %d, want version 3 of %d", channels.Tag, channels.Meta.Schema, snapshot.Schema)
		}
		if got := r.st.head.Tags[snapshot.Models]; got != want {
			t.Errorf("models moved from %s to %s", want, got)
		}
		if n := len(r.st.pubs) - begun; n != 1 {
			t.Errorf("%d publications, want 1", n)
		}
	})
}

// TestLastGoodVersionsAreTakenFromAFormThatIsRead holds back a record while a
// later release's form stands in Redis: what that holds is not decoded here.
func TestLastGoodVersionsAreTakenFromAFormThatIsRead(t *testing.T) {
	serving := fakeServing{}
	r := newRig(t, newSource(3), newStore(), newLock(), serving)
	r.mustWarm(warmer.Request{})
	serving[snapshot.Channels] = r.st.snaps[snapshot.Channels]
	good, _ := serving[snapshot.Channels].Set.Get("ch_001")
	writtenLater(r.st, snapshot.Channels)
	r.src.edit(func(c *snapshot.Catalog) { c.Channels[1].Type = "no such type" })
	r.mustWarm(warmer.Request{})
	if got, _ := r.st.snaps[snapshot.Channels].Set.Get("ch_001"); got != good {
		t.Errorf("the record held back is %q, want its last good version %q", got, good)
	}
}
