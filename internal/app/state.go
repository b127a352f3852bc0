package app

import (
	"context"
	"log/slog"
	"sync"
	"time"

	"github.com/routex/cachewarmer/internal/snapshot"
	"github.com/routex/cachewarmer/internal/state"
)

const (
	saveApart  = time.Second      // at least this between two writes of the last good copy
	saveShare  = 20               // and this many times what the last one took: a large copy leaves the disk to others
	saveRate   = 1 << 20          // and a second for so many bytes: changes one after the other are one write of a large copy
	saveAgain  = time.Hour        // how old the file's moment becomes while nothing changes
	saveFailed = 30 * time.Second // between two tries of a folder that cannot be written
)

// keeper keeps the last good copy in the state folder and gives it back at a
// start without Redis and source.
type keeper struct {
	dir, namespace string
	keys           *snapshot.Keyring
	log            *slog.Logger

	mu      sync.Mutex
	has     map[snapshot.Kind]imprint // what is in the file
	at      time.Time                 // when that was known to be true
	mark    state.Mark                // of that file
	empty   bool                      // the file was removed
	failing bool
	shared  bool // another replica writes there too
}

// What to see to.
const (
	folderFails  = "state folder does not work: a start without Redis and database would find an old copy or none"
	folderShared = "state folder is shared with another replica: whose copy is newer stays, but each should have a folder of its own"
)

// problems names what somebody should see to, also of no keeper.
func (k *keeper) problems() (all []string) {
	if k == nil {
		return nil
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.failing {
		all = append(all, folderFails)
	}
	if k.shared {
		all = append(all, folderShared)
	}
	return all
}

// imprint tells contents apart, across data sets of Redis as well.
type imprint struct {
	tag    snapshot.Tag
	digest snapshot.Digest
	order  snapshot.Order
}

// newKeeper returns nil if there is no state folder. One that cannot be written
// is a warning: the replica serves without.
func (a *App) newKeeper(keys *snapshot.Keyring) *keeper {
	if a.settings.StateDir == "" {
		return nil
	}
	k := &keeper{dir: a.settings.StateDir, namespace: a.settings.Namespace, keys: keys, log: a.log}
	k.note(state.Prepare(k.dir))
	return k
}

// restorer is what the replica asks at a start without Redis and source.
func (k *keeper) restorer() func() (map[snapshot.Kind]*snapshot.Snapshot, time.Time, error) {
	if k == nil {
		return nil
	}
	return func() (map[snapshot.Kind]*snapshot.Snapshot, time.Time, error) {
		snaps, at, err := state.Load(k.dir, k.namespace, k.keys)
		if err == nil {
			k.wrote(snaps, at) // what is only served again is not dated anew
		}
		return snaps, at, err
	}
}

// keepState writes the last good copy after each change, until ctx ends, and
// then once more, so that the file says how long ago that was.
func (a *App) keepState(ctx context.Context) error {
	if a.state == nil {
		return nil
	}
	for ctx.Err() == nil {
		changed := a.cache.Changed()
		if wait := a.saveState(saveAgain); wait > 0 {
			sleep(ctx, wait)
			continue
		}
		select {
		case <-changed:
		case <-ctx.Done():
		}
	}
	a.saveState(saveApart)
	return nil
}

// saveState writes what the replica serves, if the file has something else or
// its moment is older by again. It returns how long to leave the disk alone.
func (a *App) saveState(again time.Duration) (wait time.Duration) {
	if !a.config().Enabled {
		return a.state.clear()
	}
	snaps, at := a.lastGood()
	if len(snaps) == 0 || a.state.current(snaps, at, again) {
		return 0
	}
	began := time.Now()
	if a.state.overtaken(at) {
		return pause(snaps, time.Since(began))
	}
	err := state.Save(a.state.dir, a.state.namespace, a.state.keys, snaps, at)
	if a.state.note(err); err != nil {
		return saveFailed
	}
	a.state.wrote(snaps, at)
	return pause(snaps, time.Since(began))
}

// pause is how long to leave the disk alone after snaps took so long to write.
func pause(snaps map[snapshot.Kind]*snapshot.Snapshot, took time.Duration) time.Duration {
	bytes := 0
	for _, snap := range snaps {
		bytes += snap.Set.Bytes()
	}
	return max(saveApart, saveShare*took, time.Duration(bytes)*time.Second/saveRate)
}

// lastGood returns what may be served again after a restart: content that came
// from Redis and that nothing is known against, if that is all that has to be
// there. It was found true by a head at the moment at.
func (a *App) lastGood() (snaps map[snapshot.Kind]*snapshot.Snapshot, at time.Time) {
	s := a.cache.Status() // before the view: a newer one is then dated too early, never too late
	view := a.cache.Current()
	if view == nil || s.VerifiedMsAgo < 0 {
		return nil, time.Time{}
	}
	snaps = make(map[snapshot.Kind]*snapshot.Snapshot, len(snapshot.Kinds))
	for _, kind := range snapshot.Kinds {
		snap := view.Snapshot(kind)
		switch {
		case snap != nil && snap.Tag.HasContent() && !view.Stale(kind):
			snaps[kind] = snap
		case a.config().Warms(kind):
			return nil, time.Time{}
		}
	}
	return snaps, time.Now().Add(-time.Duration(s.VerifiedMsAgo) * time.Millisecond)
}

// current reports whether the file is there and has snaps, with a moment that is
// less than again before at.
func (k *keeper) current(snaps map[snapshot.Kind]*snapshot.Snapshot, at time.Time, again time.Duration) bool {
	gone := state.MarkOf(k.dir, k.namespace) == state.Mark{}
	k.mu.Lock()
	defer k.mu.Unlock()
	if gone || len(snaps) != len(k.has) || at.Sub(k.at) >= again {
		return false
	}
	for kind, snap := range snaps {
		if k.has[kind] != imprintOf(snap) {
			return false
		}
	}
	return true
}

// overtaken reports whether somebody else has left a copy that was known to be
// true later than at. Replicas should not share a folder; where they do, one
// that is cut off must not put its old copy in the place of a newer one.
func (k *keeper) overtaken(at time.Time) bool {
	mark := state.MarkOf(k.dir, k.namespace)
	k.mu.Lock()
	mine, since := k.mark, k.at
	k.mu.Unlock()
	if mark == mine {
		return since.After(at)
	}
	snaps, theirs, err := state.Load(k.dir, k.namespace, k.keys)
	if err != nil {
		return false // it is no use to anybody
	}
	k.mu.Lock()
	say := mine != state.Mark{} && !k.shared
	k.shared = k.shared || say
	k.mu.Unlock()
	if say {
		k.log.Warn("Cache "+folderShared, "folder", k.dir)
	}
	if !theirs.After(at) {
		return false
	}
	k.wrote(snaps, theirs)
	return true
}

// wrote notes what is in the file.
func (k *keeper) wrote(snaps map[snapshot.Kind]*snapshot.Snapshot, at time.Time) {
	mark := state.MarkOf(k.dir, k.namespace)
	k.mu.Lock()
	defer k.mu.Unlock()
	k.mark = mark
	k.has, k.at, k.empty = make(map[snapshot.Kind]imprint, len(snaps)), at, false
	for kind, snap := range snaps {
		k.has[kind] = imprintOf(snap)
	}
}

func imprintOf(snap *snapshot.Snapshot) imprint {
	return imprint{tag: snap.Tag, digest: snap.Set.Digest(), order: snap.Meta.Order}
}

// clear removes the file of a fleet that is told to cache nothing: a later
// start must not take that for current.
func (k *keeper) clear() (wait time.Duration) {
	k.mu.Lock()
	done := k.empty
	k.mu.Unlock()
	if done {
		return 0
	}
	err := state.Remove(k.dir, k.namespace)
	if k.note(err); err != nil {
		return saveFailed
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	k.has, k.at, k.mark, k.empty = nil, time.Time{}, state.Mark{}, true
	return 0
}

// note logs when the folder begins to fail and when it works again.
func (k *keeper) note(err error) {
	k.mu.Lock()
	was := k.failing
	k.failing = err != nil
	k.mu.Unlock()
	switch {
	case err != nil && !was:
		k.log.Warn("Cache "+folderFails, "folder", k.dir, "err", err)
	case err == nil && was:
		k.log.Info("Cache state folder works again", "folder", k.dir)
	}
}
