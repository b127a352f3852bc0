package store

import (
	"context"
	"errors"
	"slices"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/routex/cachewarmer/internal/snapshot"
)

// Receipt says which live replicas serve tags, or newer ones. With wait it
// follows the registry until all do or the time is over; the replicas that do
// not are named in Laggards. A replica that joins meanwhile counts too, one
// that leaves no longer does. One that was live a moment ago, and that Redis has
// lost together with its registry, is named until it reports again.
//
// A newer tag counts in the data set that Redis holds now, if the tag went into
// it, and up to what the head names: one from before a flush, or from before an old
// copy of Redis came back, may have a greater number than any after it, and says
// nothing. Of an invalidation that the head has lost nobody stands by for long: it
// counts for none. Nor does a report count that is older than the invalidation which this
// process made or, with wait, than the newest publication or confirmation of the
// kind: what a failover lost may get its tag again, and a registry that came back
// with an old copy of Redis says what was. Who has nothing new to say is asked to
// say it again.
func (s *Store) Receipt(ctx context.Context, tags map[string]snapshot.Tag, wait time.Duration) (snapshot.Receipt, error) {
	began := time.Now()
	deadline := began.Add(wait)
	w, err := s.wanted(ctx, tags, wait > 0)
	if err != nil {
		return snapshot.Receipt{Tags: tags, Laggards: []string{}, TookMs: time.Since(began).Milliseconds()}, err
	}
	asked, quiet := false, map[string]int64{}
	for delay := 2 * time.Millisecond; ; delay = min(2*delay, 25*time.Millisecond) {
		r, silent, err := s.receipt(ctx, &w, quiet)
		r.TookMs = time.Since(began).Milliseconds()
		if err != nil {
			return r, err
		}
		left := time.Until(deadline)
		if (r.Applied == r.Replicas && r.Replicas > 0) || left <= 0 {
			return r, nil
		}
		if silent && !asked {
			asked = true
			// Who may not publish waits for heartbeats.
			_ = s.c.Command.Publish(ctx, s.keys.Events(), bell(snapshot.BellReport, "", s.o.By, "")).Err()
		}
		if err := pause(ctx, min(delay, left)); err != nil {
			return r, errors.Join(snapshot.ErrUnavailable, err)
		}
	}
}

// receipt is one look at the registry. Quiet keeps, by id, the heartbeats of those
// whose report was too old; silent says that it is the same one as before. Once it
// may be too old by chance: the report came between two reads of the registry.
func (s *Store) receipt(ctx context.Context, w *wanted, quiet map[string]int64) (r snapshot.Receipt, silent bool, err error) {
	var head *redis.MapStringStringCmd
	live, beats, err := s.registry(ctx, func(pipe redis.Pipeliner) { head = pipe.HGetAll(ctx, s.keys.Head()) })
	if err != nil {
		return snapshot.Receipt{Tags: w.tags, Laggards: []string{}}, false, err
	}
	if head != nil { // somebody is there
		w.look(head.Val())
	}
	w.upTo(beats.now)
	lost := s.seen.lost(beats, live, s.o.LiveFor)
	r = snapshot.Receipt{Tags: w.tags, Replicas: len(live) + len(lost), Laggards: lost}
	for _, info := range live {
		beat := beats.at[info.ID]
		ok, old := s.serves(info, beat, w)
		if ok && !old {
			r.Applied++
			continue
		}
		r.Laggards = append(r.Laggards, info.ID)
		if ok {
			was, before := quiet[info.ID]
			silent = silent || (before && was == beat)
			quiet[info.ID] = beat
		}
	}
	slices.Sort(r.Laggards)
	return r, silent, nil
}

// wanted is what a receipt asks of every replica.
type wanted struct {
	tags  map[string]snapshot.Tag
	head  map[string]string // of the newest look, read after the reports
	first string            // the data set of the first look
	made  map[string]making
	since map[string]int64 // by kind: when it was made true, in Unix ms of Redis's clock; 0: not known
}

// wanted reads what tags are compared with; dated asks for the dates of content, too.
func (s *Store) wanted(ctx context.Context, tags map[string]snapshot.Tag, dated bool) (wanted, error) {
	w := wanted{tags: tags, made: map[string]making{}, since: map[string]int64{}}
	dates := map[string]*redis.StringCmd{}
	for name, tag := range tags {
		kind := snapshot.Kind(name)
		switch w.made[name] = s.made.of(kind, tag); {
		case name == snapshot.ConfigTag:
		case tag.Invalidated():
			w.since[name] = w.made[name].at
		case dated:
			dates[name] = nil
		}
	}
	if len(dates) == 0 {
		return w, nil
	}
	_, err := s.c.Command.Pipelined(ctx, func(pipe redis.Pipeliner) error {
		for name := range dates {
			dates[name] = pipe.HGet(ctx, s.keys.Meta(snapshot.Kind(name)), "verifiedAt")
		}
		return nil
	})
	errs := []error{err} // the first alone may be one that says nothing
	for name, date := range dates {
		errs = append(errs, date.Err())
		w.since[name] = number(date.Val())
	}
	for _, err := range errs {
		if err != nil && !errors.Is(err, redis.Nil) && !isWrongType(err) { // what somebody has replaced says nothing
			return w, s.fault("read what is published", err)
		}
	}
	return w, nil
}

// upTo takes a date that is not over yet for now: Redis's clock was set back, or it
// is that of another server since.
func (w *wanted) upTo(now int64) {
	for name, since := range w.since {
		w.since[name] = min(since, now)
	}
}

// serves reports whether info, of that heartbeat, carries what is wanted, or
// something newer of that data set, and whether it said so too long ago.
func (s *Store) serves(info snapshot.ReplicaInfo, beat int64, w *wanted) (ok, old bool) {
	for name, want := range w.tags {
		if name == snapshot.ConfigTag {
			if info.Config < number(string(want)) {
				return false, false
			}
			continue
		}
		kind := snapshot.Kind(name)
		if want.Invalidated() && snapshot.Tag(w.head[name]).Version() < want.Version() {
			return false, false
		}
		if have := info.Tags[kind]; have != want && !w.newer(kind, have, info.In[kind]) {
			return false, false
		}
		old = old || beat < w.since[name] || (beat == w.since[name] && w.made[name].tied)
	}
	return true, old
}

// look takes the head for what Redis holds now.
func (w *wanted) look(head map[string]string) {
	if w.head == nil {
		w.first = head["incarnation"]
	}
	w.head = head
}

// newer reports whether have, in that data set, is of a later version than the tag
// that is wanted, and the head has come to it. A tag that somebody else wrote went
// into the data set that was there first.
func (w *wanted) newer(kind snapshot.Kind, have snapshot.Tag, in string) bool {
	made, now := w.made[string(kind)], snapshot.Tag(w.head[string(kind)])
	if in != w.head["incarnation"] || !made.into(in) || (made.data == nil && in != w.first) {
		return false
	}
	return have.Version() > w.tags[string(kind)].Version() && (have.Version() < now.Version() || have == now)
}
