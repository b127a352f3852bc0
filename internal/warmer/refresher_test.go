package warmer_test

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/routex/cachewarmer/internal/snapshot"
	"github.com/routex/cachewarmer/internal/warmer"
)

// leader is a refresher of its own log, whose config can be as broken as a test
// wants it.
type leader struct {
	*warmer.Refresher
	log      bytes.Buffer
	unsynced error // what SyncConfig says; nil: the config is in step
}

func newLeader(t *testing.T, r *rig) *leader {
	t.Helper()
	l := &leader{}
	config := func() snapshot.VersionedConfig {
		c := snapshot.VersionedConfig{CacheConfig: snapshot.DefaultCacheConfig(), Version: 1}
		c.WarmOnStartup = false // which would load whatever there is
		if l.unsynced != nil {
			c.Version = 0 // the source has another one
		}
		return c
	}
	var err error
	if l.Refresher, err = warmer.NewRefresher(r.Warmer, warmer.RefresherOptions{
		Config: config, SyncConfig: func(context.Context) error { return l.unsynced },
		Log: slog.New(slog.NewTextHandler(&l.log, nil)),
	}); err != nil {
		t.Fatal(err)
	}
	return l
}

// lead has it lead for d.
func (l *leader) lead(t *testing.T, d time.Duration) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), d)
	defer cancel()
	if err := l.Lead(ctx); err != nil {
		t.Errorf("Lead() = %v, want nil", err)
	}
}

// TestRefresherSaysThatItCannotFollow has the source fail, and the lease end
// meanwhile. It is a problem until it is over, and the end of the lease is not.
func TestRefresherSaysThatItCannotFollow(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, newSource(12), newStore(), newLock(), nil)
		r.mustWarm(warmer.Request{})
		l := newLeader(t, r)
		l.lead(t, 3*time.Second)
		if p := l.Problem(); p != "" {
			t.Errorf("Problem() = %q, want none", p)
		}
		r.src.fail(errors.New("no such column"))
		l.lead(t, 3*time.Second)
		ended, cancel := context.WithCancel(t.Context())
		cancel()
		if err := l.Lead(ended); err != nil {
			t.Error(err)
		}
		if p := l.Problem(); !strings.Contains(p, "no such column") {
			t.Errorf("Problem() = %q, want why the source cannot be followed", p)
		}
		if log := l.log.String(); strings.Count(log, "cannot follow") != 1 || strings.Contains(log, "follows the source again") {
			t.Errorf("the log is not right:\n%s", log)
		}
		r.src.fail(nil)
		l.lead(t, 3*time.Second)
		if p, log := l.Problem(), l.log.String(); p != "" || strings.Count(log, "follows the source again") != 1 {
			t.Errorf("Problem() = %q, want none; log:\n%s", p, log)
		}
	})
}

// TestContentIsFollowedWithAConfigThatCannotBeRead breaks the config alone: that
// is said, and changes of the content go on.
func TestContentIsFollowedWithAConfigThatCannotBeRead(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, newSource(12), newStore(), newLock(), nil)
		r.mustWarm(warmer.Request{})
		l := newLeader(t, r)
		l.lead(t, 3*time.Second)
		l.unsynced = errors.New("cache_config.json: unexpected end")
		r.src.edit(func(c *snapshot.Catalog) { c.Channels[3].Weight = 7 })
		was := r.st.head.Tags[snapshot.Channels]
		l.lead(t, 3*time.Second)
		if now := r.st.head.Tags[snapshot.Channels]; now.Version() != was.Version()+1 {
			t.Errorf("channels stand at %s, were at %s: the change was not followed", now, was)
		}
		if p := l.Problem(); !strings.Contains(p, "unexpected end") {
			t.Errorf("Problem() = %q, want that the config cannot be read", p)
		}
	})
}
