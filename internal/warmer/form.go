package warmer

import (
	"context"
	"fmt"
	"time"

	"github.com/routex/cachewarmer/internal/snapshot"
)

// settleIn is how long every live replica must have read a schema before it is
// taken into use. A replica reports each second, so one that a flush of Redis,
// or its own restart, took off the list is back by then.
const settleIn = 2500 * time.Millisecond

// agreed asks the registry for the newest schema that every live replica reads.
// There is nothing to ask while this build knows the first one alone.
func (w *Warmer) agreed(ctx context.Context) (int, error) {
	if snapshot.Schema == snapshot.FirstSchema {
		return snapshot.Schema, nil
	}
	live, err := w.st.Replicas(ctx)
	return snapshot.Agreed(snapshot.Schema, live), err
}

// formed says in which form each kind is to be written: the newest one that all
// live replicas read. A kind that stands in an older one keeps that, unless the
// request says that the fleet has settled on a newer: a replica that is missing
// from the registry for a moment must not cost its fleet a form it cannot read.
func (r *run) formed(ctx context.Context, bases map[snapshot.Kind]*snapshot.Snapshot) (snapshot.Formed, error) {
	schema, err := r.w.agreed(ctx)
	if err != nil {
		return nil, err
	}
	in := make(snapshot.Formed, len(snapshot.Kinds))
	for _, kind := range snapshot.Kinds {
		in[kind] = snapshot.FormOf(kind, schema)
		prev := r.previous(kind, bases)
		if prev != nil && !r.req.Settled && prev.Meta.Schema >= snapshot.FirstSchema {
			in[kind] = min(in[kind], prev.Meta.Schema)
		}
	}
	return in, nil
}

// kept returns the last good version of a record, from a copy whose form this
// build reads.
func (r *run) kept(kind snapshot.Kind, id string, bases map[snapshot.Kind]*snapshot.Snapshot) (string, bool) {
	prev := r.previous(kind, bases)
	if prev != nil && prev.Meta.Schema > snapshot.Schema {
		prev = r.w.serving.LastGood(kind)
	}
	if prev == nil {
		return "", false
	}
	return prev.Set.Get(id)
}

// reform publishes anew what Redis holds in another form than the live replicas
// have agreed on by reading schema: at once in an older one when one of them
// cannot read what stands there, and in a newer one when settled says that all
// of them have read that for long enough. The records come from the source, so
// what an older form leaves out is there again in the newer one.
//
//	errors  those of Warm; Held tells when the source stands where it was refused
//	cost    one pipeline when the forms are as agreed
func (w *Warmer) reform(ctx context.Context, schema int, settled bool) error {
	_, standings, err := w.st.Standings(ctx, snapshot.Kinds)
	if err != nil {
		return err
	}
	why := fmt.Sprintf("all live replicas read schema %d", schema)
	want := map[snapshot.Kind]int{}
	var kinds []snapshot.Kind
	for _, kind := range snapshot.Kinds {
		st, form := standings[kind], snapshot.FormOf(kind, schema)
		if !st.Tag.HasContent() || st.Schema == form || (st.Schema < form && !settled) {
			continue
		}
		if want[kind], kinds = form, append(kinds, kind); st.Schema > form {
			why = fmt.Sprintf("not every live replica reads more than schema %d", schema)
		}
	}
	if len(kinds) == 0 {
		return nil
	}
	if err := w.refusedHere(ctx, kinds); err != nil {
		return err
	}
	_, err = w.Warm(ctx, Request{Kinds: kinds, Settled: settled, Reason: why, Until: func(now map[snapshot.Kind]snapshot.Standing) bool {
		for kind, form := range want {
			if now[kind].Schema != form {
				return false
			}
		}
		return true
	}})
	return err
}

// reformer is the refresher's memory of what the replicas agreed on.
type reformer struct {
	schema    int
	since     time.Time // they agree on it since then
	notBefore time.Time // after a failure; a pinned kind, say, keeps its form
}

// reformAgain is the time between two tries that fail.
const reformAgain = 10 * time.Second

// reform keeps Redis in the form that the live replicas have agreed on.
func (r *Refresher) reform(ctx context.Context) error {
	schema, err := r.w.agreed(ctx)
	if err != nil {
		return err
	}
	now, f := time.Now(), &r.forms
	if schema != f.schema {
		if f.schema != 0 {
			r.log.Info("Cache schema that all live replicas read is another", "schema", schema, "was", f.schema)
		}
		*f = reformer{schema: schema, since: now}
	}
	if now.Before(f.notBefore) {
		return nil
	}
	if err = r.w.reform(ctx, schema, now.Sub(f.since) >= settleIn); err != nil {
		f.notBefore = now.Add(reformAgain)
	}
	return err
}
