package upgrade

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/routex/cachewarmer/internal/snapshot"
	"github.com/routex/cachewarmer/internal/testkit"
	"github.com/routex/cachewarmer/test/fleet"
)

// skewLine is what a replica logs, once, when it cannot read what is there.
const skewLine = "Cache cannot read what a later release wrote"

// skew is what the list of replicas says of one that cannot read the channels
// of the next release.
var skew = fmt.Sprintf("cannot read channels of schema %d, only up to %d", nextSchema, snapshot.Schema)

// wantSkewNamed waits until the list of replicas says of old that it cannot
// read the channels, and old itself says why it is not fresh.
func wantSkewNamed(t *testing.T, by, old *fleet.Replica) {
	t.Helper()
	testkit.Eventually(t, within, "the skew of "+old.ID+" is named", func() error {
		for _, m := range by.Members() {
			if m.ID == old.ID && m.Skew == skew && m.Schema == snapshot.Schema {
				return nil
			}
		}
		return errors.New("it is not")
	})
	a, err := old.Do(t.Context(), http.MethodGet, "/readyz", nil)
	if err != nil || !strings.Contains(string(a.Body), "written by a later release") {
		t.Errorf("/readyz of %s does not say why it is behind: %s (%v)", old.ID, a.Body, err)
	}
	if n := strings.Count(old.Log(), skewLine); n != 1 {
		t.Errorf("the log of %s says %d times %q, want once", old.ID, n, skewLine)
	}
}

// newer starts replicas of the next release, fills the new column in, and waits
// for its form.
func newer(t *testing.T, f *fleet.Fleet, next string, replicas ...*fleet.Replica) {
	t.Helper()
	for _, r := range replicas {
		r.Program = next
		r.Start()
		r.WaitReady()
	}
	setRegions(t, f)
	waitSchema(t, f, nextSchema)
}

// held freezes the refresher while f runs, so that there is time to see what a
// replica says of content it cannot read.
func held(t *testing.T, fl *fleet.Fleet, f func(other *fleet.Replica)) {
	t.Helper()
	refresher := fl.Refresher()
	if refresher == nil {
		t.Fatal("nobody refreshes")
	}
	refresher.Pause()
	defer refresher.Resume()
	for _, r := range fl.Replicas {
		if r.Running() && r != refresher {
			f(r)
			return
		}
	}
}

// patient are the options of a fleet whose refresher may be held for a moment
// without losing its lease.
func patient() fleet.Options {
	o := options()
	o.Env["ROUTEX_LEASE_TTL"] = "6s"
	return o
}

// TestAnOlderReleaseJoinsAFleetOfTheNext is the way back. What stands in Redis
// cannot be read by the replica that joins: it is not ready and says why, and
// the fleet goes back to the form that it reads, until it leaves.
func TestAnOlderReleaseJoinsAFleetOfTheNext(t *testing.T) {
	t.Parallel()
	this, next := releases(t)
	f := fleet.New(t, patient())
	newer(t, f, next, f.Replicas[:2]...)
	if models, _ := published(t, f, snapshot.Models); models != snapshot.Schema {
		t.Errorf("models are of schema %d though their form is that of %d", models, snapshot.Schema)
	}
	weight := served(f.Replicas[0])[fleet.ChannelID(0)].Weight

	old := f.Replicas[2]
	old.Program = this
	held(t, f, func(other *fleet.Replica) {
		old.Start()
		wantSkewNamed(t, other, old)
	})
	able := time.Now()
	old.WaitReady()
	t.Logf("figure: an older release that joined could serve %v after the refresher could see it; bound: one poll (200ms here) and one warm", time.Since(able).Round(time.Millisecond))
	waitSchema(t, f, snapshot.Schema)
	wantForm(t, f, snapshot.Schema, weight, next)

	old.Stop()
	waitSchema(t, f, nextSchema)
	wantForm(t, f, nextSchema, weight, next)
	_, records := published(t, f, snapshot.Channels)
	for id, body := range records {
		var c channel
		if err := json.Unmarshal([]byte(body), &c); err != nil || c.Region == nil || *c.Region != "region of "+id {
			t.Errorf("%s is %s (%v): a field was lost on the way", id, body, err)
		}
	}
}

// TestAnOlderReleaseWakesUpInAFleetOfTheNext freezes a replica until it counts
// as gone and the others have gone on to the next form. Awake again it serves
// its last good copy, says so, and catches up once the others have gone back.
func TestAnOlderReleaseWakesUpInAFleetOfTheNext(t *testing.T) {
	t.Parallel()
	this, next := releases(t)
	f := fleet.New(t, patient())
	old := f.Replicas[2]
	old.Program = this
	old.Start()
	old.WaitReady()
	f.Replicas[0].Program, f.Replicas[1].Program = next, next
	f.Replicas[0].Start()
	f.Replicas[1].Start()
	f.WaitReady()
	setRegions(t, f)
	waitSchema(t, f, snapshot.Schema)
	before := served(old)

	old.Pause()
	testkit.Eventually(t, 40*time.Second, "the others go on to the next form", func() error {
		if got, _ := published(t, f, snapshot.Channels); got != nextSchema {
			return fmt.Errorf("channels are of schema %d", got)
		}
		return nil
	})
	weight := 77
	f.Must(f.Replicas[0].Put("/api/channels/"+fleet.ChannelID(0), map[string]any{"weight": weight}))
	held(t, f, func(other *fleet.Replica) {
		old.Resume()
		wantSkewNamed(t, other, old)
		if a, err := old.Do(t.Context(), http.MethodGet, "/readyz", nil); err != nil || a.Status != http.StatusOK {
			t.Errorf("/readyz of one that has a last good copy is %d %s (%v), want 200", a.Status, a.Body, err)
		}
		if got := served(old); len(got) != len(before) || got[fleet.ChannelID(0)].Weight == weight {
			t.Errorf("it serves %v, its last good copy is %v", got, before)
		}
	})
	waitSchema(t, f, snapshot.Schema)
	wantForm(t, f, snapshot.Schema, weight, next)
}

// TestAnOlderReleaseOffTheListKeepsItsForm takes the older of a mixed fleet off
// the list of replicas for a moment: by emptying Redis, and by a hand that
// deletes its entry just before a change is made. What is published then still
// has the form that all of them read.
func TestAnOlderReleaseOffTheListKeepsItsForm(t *testing.T) {
	t.Parallel()
	this, next := releases(t)
	o := options()
	o.Redis = testkit.Redis(t)
	f := fleet.New(t, o)
	old := f.Replicas[2]
	old.Program = this
	old.Start() // first: the others find its form
	old.WaitReady()
	for _, r := range f.Replicas[:2] {
		r.Program = next
		r.Start()
	}
	f.WaitReady()
	restart(old, this, false) // so that one of the others refreshes
	f.WaitReady()
	waitSchema(t, f, snapshot.Schema)
	forget := func() {
		_, err := f.Client.TxPipelined(t.Context(), func(p redis.Pipeliner) error {
			p.ZRem(t.Context(), f.Key("replicas"), old.ID)
			p.Unlink(t.Context(), f.Key("replica:"+old.ID))
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	spoils := []func(){
		forget, // and the refresher looks at the list before it is back
		func() {
			forget()
			f.Must(f.Replicas[0].Put("/api/channels/"+fleet.ChannelID(0), map[string]any{"weight": time.Now().UnixMilli() % 1000}))
		},
		func() {
			if err := f.Client.FlushAll(t.Context()).Err(); err != nil {
				t.Fatal(err)
			}
		},
	}
	for i := range testkit.Rounds(4, 60) {
		spoils[i%len(spoils)]()
		wantNoLaterForm(t, f, 1500*time.Millisecond)
		f.WaitTags(within)
	}
	if strings.Contains(old.Log(), skewLine) {
		t.Errorf("%s could not read what was published", old.ID)
	}
}

// wantNoLaterForm watches what is published for as long.
func wantNoLaterForm(t *testing.T, f *fleet.Fleet, d time.Duration) {
	t.Helper()
	for until := time.Now().Add(d); time.Now().Before(until); time.Sleep(2 * time.Millisecond) {
		got, err := f.Client.HGet(t.Context(), f.Key("meta:channels"), "schema").Int()
		if err != nil && !errors.Is(err, redis.Nil) {
			t.Fatal(err)
		}
		if got > snapshot.Schema {
			t.Fatalf("channels are published with schema %d while a live replica reads %d", got, snapshot.Schema)
		}
	}
}
