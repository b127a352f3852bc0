package warmer

import (
	"cmp"
	"context"
	"errors"
	"time"

	"github.com/routex/cachewarmer/internal/snapshot"
)

// run is one warm under way.
type run struct {
	w       *Warmer
	c       *call
	attempt string
	rebuild bool
	loaded  bool
	orders  map[snapshot.Kind]snapshot.Order // where Redis stands, once it was found to be further than we thought
	fleet   map[snapshot.Kind]snapshot.Order // the highest that a live replica served, where that was asked for
	floors  map[snapshot.Kind]snapshot.Order // what this process served when the load began
	number  int64                            // of the load that is next or under way; 0: it has none yet
	begun   int64                            // number of the first load of this run
	after   int64                            // a load with a greater number serves the requests; -1: none does
	req     Request
	res     Result
	records map[snapshot.Kind]int
}

// locked runs once under the lock. Whoever has to wait for it is content with
// the load of somebody who got it meanwhile: that one began after our requests.
func (r *run) locked(ctx context.Context) error {
	ran, err := r.w.lock.Try(ctx, r.once)
	if ran || err != nil {
		return err
	}
	if !r.loaded && !r.c.noted { // only this goroutine sets it
		// Marked before the number is read: who joins later reads it anew, for
		// a load that has begun by then does not serve him.
		r.w.mu.Lock()
		r.c.noted = true
		r.c.notes++
		r.w.mu.Unlock()
		r.w.note(ctx, r.c)
	}
	return r.w.lock.Do(ctx, r.once)
}

// once is one warm from the head to the publication.
func (r *run) once(ctx context.Context, held string) error {
	r.req = r.w.closeCall(r.c)
	done, head, err := r.satisfied(ctx)
	if done || err != nil {
		return err
	}
	if r.w.o.Permit != nil {
		if err = r.w.o.Permit(ctx, head.Config); err != nil {
			return err
		}
	}
	bases, err := r.bases(ctx, head)
	if err != nil {
		return err
	}
	if err := r.askOrders(ctx, bases); err != nil {
		return err
	}
	if err := r.begin(ctx); err != nil {
		return err
	}
	began := time.Now()
	catalog, candidates, err := r.load(ctx, head, bases)
	if err != nil {
		return err
	}
	changes, refused, err := r.judge(ctx, head, bases, catalog, candidates)
	if err != nil || (catalog.Since == nil && !r.vouched(refused, bases)) {
		r.w.rows.Forget() // what was not judged to its end is nothing to build upon
	}
	if err != nil {
		return err
	}
	if len(changes) > 0 {
		err = r.publish(ctx, snapshot.Publication{
			Lock: held, Attempt: r.attempt, Incarnation: head.Incarnation, Tags: head.Tags, Load: r.number, Changes: changes,
			Reason: r.req.Reason, Background: r.req.Background, Changed: r.req.Changed, Took: time.Since(began),
		})
	}
	return cmp.Or(err, r.turnDown(ctx, refused, catalog))
}

// begin gives the load that follows its number, unless that came with the head.
func (r *run) begin(ctx context.Context) (err error) {
	if r.number == 0 {
		if r.number, err = r.w.st.BeginLoad(ctx); err != nil {
			return err
		}
	}
	if !r.loaded {
		r.loaded, r.begun = true, r.number
	}
	r.noteFloors()
	return nil
}

// satisfied reports whether somebody else has done what r is for. After a load
// of our own that was overtaken it may be who overtook us: each request was there
// before our first load, and so before every load that began later. It returns
// the head as well, and numbers the load that follows if nobody has.
func (r *run) satisfied(ctx context.Context) (done bool, head snapshot.Head, err error) {
	switch r.after = -1; {
	case r.c.noted && r.w.newest(r.c):
		r.after = r.c.after
	case r.loaded:
		r.after = r.begun
	}
	kinds := r.req.Kinds
	asks := !r.rebuild && !r.req.Force && (r.req.Until != nil || (r.after >= 0 && !r.req.Rebuild))
	if !asks {
		kinds = nil
	}
	head, standings, number, err := r.w.st.Begin(ctx, kinds)
	if r.number = number; err != nil || !asks {
		return false, head, err
	}
	done = r.req.Until != nil && r.req.Until(standings)
	if !done && r.after >= 0 && !r.req.Rebuild {
		done = true
		for _, st := range standings {
			done = done && st.Load > r.after && st.Healthy()
		}
	}
	if done {
		r.res.Tags = make(map[snapshot.Kind]snapshot.Tag, len(standings))
		for kind, st := range standings {
			if st.Tag != "" { // what Redis lost has none
				r.res.Tags[kind] = st.Tag
			}
		}
	}
	return done, head, nil
}

// noteFloors notes how far this process is before a load: a load that it gets
// ahead of meanwhile is a late one, and no source that went back.
func (r *run) noteFloors() {
	r.floors = make(map[snapshot.Kind]snapshot.Order, len(r.req.Kinds))
	for _, kind := range r.judged() {
		r.floors[kind] = r.w.serving.Floor(kind)
	}
}

// askOrders asks Redis where it stands, after a load that was overtaken: a warm
// that finds nothing new moves the order of a kind and leaves its tag, so our
// copy of it may say less. Nor does a copy that cannot be read say anything, and
// its meta still does. What Redis cannot say the live replicas are asked.
func (r *run) askOrders(ctx context.Context, bases map[snapshot.Kind]*snapshot.Snapshot) error {
	if !r.loaded && len(bases) == len(r.judged()) {
		return r.askFleet(ctx, bases)
	}
	if err := r.readOrders(ctx); err != nil {
		return err
	}
	return r.askFleet(ctx, bases)
}

func (r *run) readOrders(ctx context.Context) error {
	_, standings, err := r.w.st.Standings(ctx, r.judged())
	if err != nil {
		return err
	}
	r.orders = make(map[snapshot.Kind]snapshot.Order, len(standings))
	for kind, st := range standings {
		r.orders[kind] = st.Order
	}
	return nil
}

// bases returns, for each kind, the content in Redis that the head or the last
// good copy stands for. A kind without an entry has to be published whole.
func (r *run) bases(ctx context.Context, head snapshot.Head) (map[snapshot.Kind]*snapshot.Snapshot, error) {
	out := make(map[snapshot.Kind]*snapshot.Snapshot, len(r.req.Kinds))
	if !head.Known() || r.rebuild || r.req.Rebuild {
		return out, nil
	}
	for _, kind := range r.judged() {
		tag := head.Tags[kind]
		if tag == "" {
			continue
		}
		known := r.w.newestKnown(kind, tag)
		if known != nil && known.Tag == tag {
			out[kind] = known
			continue
		}
		snap, err := r.w.st.Pull(ctx, kind, known)
		r.number = 0 // who has asked since, while that took its time, is to be served as well
		switch {
		case errors.Is(err, snapshot.ErrUnknown), errors.Is(err, snapshot.ErrInvalid):
			r.w.log.Warn("Cache snapshot in Redis is not usable and is replaced", "kind", kind, "tag", tag, "err", err)
		case err != nil:
			return nil, err
		default:
			out[kind] = snap
		}
	}
	return out, nil
}

// publish brings in the changes and notes what is current now.
func (r *run) publish(ctx context.Context, p snapshot.Publication) error {
	if err := context.Cause(ctx); err != nil {
		return err // the lease ended while we loaded
	}
	out, err := r.w.st.Publish(ctx, p)
	if err != nil {
		return err
	}
	r.w.remember(out.Snapshots)
	r.w.Heard(func(kind snapshot.Kind) *snapshot.Snapshot { return out.Snapshots[kind] })
	r.w.logFaults(p)
	r.res = Result{Loaded: true, Published: out.New, Tags: make(map[snapshot.Kind]snapshot.Tag, len(out.Snapshots))}
	r.records = out.Records
	for kind, snap := range out.Snapshots {
		r.res.Tags[kind] = snap.Tag
	}
	for _, kind := range out.New {
		r.w.m.publishes.WithLabelValues(string(kind)).Inc()
		r.w.m.changed.WithLabelValues(string(kind)).Add(float64(out.Records[kind]))
	}
	return nil
}

// turnDown keeps the facts of refused candidates, and remembers their place so
// that nobody loads the same thing again just to refuse it again.
func (r *run) turnDown(ctx context.Context, refused snapshot.Refused, catalog *snapshot.Catalog) error {
	if len(refused) == 0 {
		return nil
	}
	for _, no := range refused {
		at := snapshot.Order{Lineage: catalog.Lineage, Revision: catalog.Revisions[no.Kind]}
		r.w.m.refusals.WithLabelValues(string(no.Kind), no.Guard).Inc()
		if err := r.w.st.Refuse(ctx, no, at, r.req.Reason); err != nil {
			r.w.log.Warn("Cache refusal could not be kept in Redis", "kind", no.Kind, "err", err)
		}
		r.w.mu.Lock()
		r.w.refused[no.Kind] = at
		r.w.mu.Unlock()
	}
	return refused
}
