package source_test

import (
	"context"
	"errors"
	"net/url"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/routex/cachewarmer/internal/snapshot"
	"github.com/routex/cachewarmer/internal/source"
	"github.com/routex/cachewarmer/internal/testkit"
)

// throughProxy returns the engine's URL by way of a proxy.
func throughProxy(t *testing.T, e engine) (string, *testkit.Proxy) {
	t.Helper()
	u, err := url.Parse(e.url)
	if err != nil {
		t.Fatal(err)
	}
	p := testkit.NewProxy(t, u.Host)
	u.Host = p.Addr()
	return u.String(), p
}

func TestListeningIsTakenUpAgain(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name  string
		fault func(*testkit.Proxy)
	}{
		{"after a reset", (*testkit.Proxy).Reset},
		{"after the connection went silent", (*testkit.Proxy).Freeze},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			e := postgresEngine(t)
			address, proxy := throughProxy(t, e)
			d := open(t, engine{url: address}, func(o *source.Options) { o.Silence = 100 * time.Millisecond })
			bell := start(t, d)
			rings(t, bell, "the watch began")
			tt.fault(proxy)
			rings(t, bell, "it listens again")
			e.hand(t, "INSERT INTO channels (id, name) VALUES ('x', 'x')")
			rings(t, bell, "a change after that")
		})
	}
}

// A connection that is merely quiet is kept: rings come from changes only.
func TestQuietConnectionIsKept(t *testing.T) {
	t.Parallel()
	e := postgresEngine(t)
	d := open(t, e, func(o *source.Options) { o.Silence = 150 * time.Millisecond })
	bell := start(t, d)
	rings(t, bell, "the watch began")
	select {
	case <-bell:
		t.Error("a ring without a change")
	case <-time.After(1500 * time.Millisecond): // ten silences, each answered, on a busy machine too
	}
	e.hand(t, "INSERT INTO channels (id, name) VALUES ('x', 'x')")
	rings(t, bell, "a change after many silences")
}

func TestCallsEndWithTheirContext(t *testing.T) {
	t.Parallel()
	within := func(t *testing.T, what string, f func(context.Context) error) {
		t.Helper()
		ctx, cancel := context.WithTimeout(t.Context(), 150*time.Millisecond)
		defer cancel()
		began := time.Now()
		err := f(ctx)
		if took := time.Since(began); took > 2*time.Second || !errors.Is(err, snapshot.ErrUnavailable) {
			t.Errorf("%s: after %v: %v", what, took, err)
		}
	}
	t.Run("PostgreSQL that does not answer", func(t *testing.T) {
		t.Parallel()
		e := postgresEngine(t)
		address, proxy := throughProxy(t, e)
		d := open(t, engine{url: address})
		addChannel(t, d, "a")
		proxy.Freeze()
		within(t, "Load", func(ctx context.Context) error { _, err := d.Load(ctx, true); return err })
		proxy.Refuse(true)
		within(t, "Revisions", func(ctx context.Context) error { _, err := d.Revisions(ctx); return err })
		within(t, "Ping", d.Ping)
		proxy.Refuse(false)
		testkit.Eventually(t, 5*time.Second, "the pool to recover", func() error { return d.Ping(t.Context()) })
		if c := load(t, d); names(c.Channels) != "a" {
			t.Errorf("after the outage: %q", names(c.Channels))
		}
	})
	t.Run("SQLite that somebody else has locked", func(t *testing.T) {
		t.Parallel()
		e := sqliteEngine(t)
		d, other := open(t, e), open(t, e)
		addChannel(t, d, "a")
		held, release := make(chan struct{}), make(chan struct{})
		done := make(chan error, 1)
		go func() {
			_, err := other.SaveConfig(context.Background(), nil, "x", nil, func(*snapshot.CacheConfig) error {
				close(held)
				<-release
				return nil
			})
			done <- err
		}()
		<-held
		within(t, "CreateChannel", func(ctx context.Context) error {
			_, _, err := d.CreateChannel(ctx, channel("b"), snapshot.NewSecret("sk"))
			return err
		})
		if c := load(t, d); names(c.Channels) != "a" { // readers do not wait for writers
			t.Errorf("loaded %q", names(c.Channels))
		}
		close(release)
		if err := <-done; err != nil {
			t.Error(err)
		}
		addChannel(t, d, "c")
	})
}

func TestFileIsPrivateAndWatched(t *testing.T) {
	t.Parallel()
	e := sqliteEngine(t)
	d := open(t, e)
	addChannel(t, d, "a")
	path := strings.TrimPrefix(e.url, "sqlite://")
	for _, file := range []string{path, path + "-wal", path + "-shm"} {
		info, err := os.Stat(file)
		if err != nil || info.Mode().Perm() != 0o600 {
			t.Errorf("%s: mode %v, %v", file, info.Mode(), err)
		}
	}
	before, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	calls := map[string]func() error{
		"Load":      func() error { _, err := d.Load(t.Context(), false); return err },
		"Revisions": func() error { _, err := d.Revisions(t.Context()); return err },
		"Ping":      func() error { return d.Ping(t.Context()) },
		"PutPrices": func() error { return d.PutPrices(t.Context(), []snapshot.Price{{Model: "m"}}) },
	}
	if err := os.Rename(path, path+".old"); err != nil {
		t.Fatal(err)
	}
	for name, call := range calls {
		if err := call(); !errors.Is(err, snapshot.ErrUnavailable) {
			t.Errorf("%s without the file: %v", name, err)
		}
	}
	if err := os.WriteFile(path, before, 0o600); err != nil {
		t.Fatal(err)
	}
	for name, call := range calls {
		if err := call(); !errors.Is(err, snapshot.ErrUnavailable) {
			t.Errorf("%s with another file in its place: %v", name, err)
		}
	}
	if err := os.Rename(path+".old", path); err != nil {
		t.Fatal(err)
	}
	if c := load(t, d); names(c.Channels) != "a" {
		t.Errorf("with the file back: %q", names(c.Channels))
	}
}

// A database whose last writes were lost says so by its revision; one that was
// replaced says so by its lineage.
func TestRestoredAndReplacedSourcesAreTold(t *testing.T) {
	t.Parallel()
	e := sqliteEngine(t)
	path := strings.TrimPrefix(e.url, "sqlite://")
	d := open(t, e)
	addChannel(t, d, "a")
	backup := path + ".backup"
	e.hand(t, "VACUUM INTO '"+backup+"'")
	addChannel(t, d, "b")
	newest := load(t, d)
	old := load(t, open(t, engine{url: "sqlite://" + backup}))
	if old.Lineage != newest.Lineage || old.Revisions[snapshot.Channels] >= newest.Revisions[snapshot.Channels] {
		t.Errorf("the backup stands at %s@%d, the source at %s@%d", old.Lineage, old.Revisions[snapshot.Channels], newest.Lineage, newest.Revisions[snapshot.Channels])
	}
	if other := load(t, open(t, sqliteEngine(t))); other.Lineage == newest.Lineage {
		t.Error("two sources have one lineage")
	}
}
