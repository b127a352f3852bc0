package source

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/routex/cachewarmer/internal/snapshot"
)

// counted lists the kinds whose changes the triggers count, in the order of
// their names, which is the order in which everybody locks the counters.
var counted = []snapshot.Kind{snapshot.Channels, snapshot.Models, snapshot.RoutingRules}

// Revisions says where the source stands.
type Revisions struct {
	Lineage string                  // the source's id
	ByKind  map[snapshot.Kind]int64 // change counters; analytics has none
	Config  int64                   // version of the cache config; 0: it has no row
}

// Approve is an operator's written consent to a removal that a guard would
// refuse. Only the Reason is read; the source fills in the rest.
type Approve = snapshot.Approval

// Revisions asks where the source stands.
//
//	source  catalog_revision, cache_config
//	errors  snapshot.ErrInvalid      a counter has no row
//	        snapshot.ErrUnavailable  the database does not answer
//	cost    one query of four rows
func (d *DB) Revisions(ctx context.Context) (Revisions, error) {
	t, err := d.alone()
	if err != nil {
		return Revisions{}, err
	}
	c, err := t.counters(ctx)
	if err == nil {
		err = c.complete()
	}
	if err != nil {
		return Revisions{}, fmt.Errorf("read revisions: %w", err)
	}
	return Revisions{Lineage: c.lineage, ByKind: c.byKind, Config: c.config}, nil
}

// counters is what catalog_revision and cache_config say.
type counters struct {
	lineage string
	byKind  map[snapshot.Kind]int64
	config  int64
}

func (t *tx) counters(ctx context.Context) (counters, error) {
	c := counters{byKind: make(map[snapshot.Kind]int64, len(counted))}
	const query = `SELECT kind, revision, source_id FROM catalog_revision
		UNION ALL SELECT 'config', version, '' FROM cache_config WHERE id = 1`
	err := t.each(ctx, "catalog_revision", query, func(r Rows) error {
		var kind, lineage string
		var n int64
		if err := r.Scan(&kind, &n, &lineage); err != nil {
			return err
		}
		if kind == "config" {
			c.config = n
			return nil
		}
		c.byKind[snapshot.Kind(kind)] = n
		// Rows that disagree come from a table that was restored in part. With
		// the newest id a counter that went back is seen as that, and refused.
		c.lineage = max(c.lineage, lineage)
		return nil
	})
	return c, err
}

// complete reports a counter or an id that is missing. Without its row a kind's
// changes would go uncounted, and so unnoticed.
func (c counters) complete() error {
	for _, kind := range counted {
		if _, ok := c.byKind[kind]; !ok {
			return fmt.Errorf("catalog_revision has no row for %s, restart to add it: %w", kind, snapshot.ErrInvalid)
		}
	}
	if c.lineage == "" {
		return fmt.Errorf("catalog_revision has no source_id, restart to add it: %w", snapshot.ErrInvalid)
	}
	return nil
}

// lock keeps every other writer of the catalog waiting until the end of the
// transaction: each of them has to raise a counter. Rows of channels and rules
// have to be locked before, as a statement typed by hand does it, never after.
func (t *tx) lock(ctx context.Context) error {
	if t.dialect().forUpdate == "" {
		return nil // BEGIN IMMEDIATE has done it
	}
	return t.exec(ctx, "lock revisions", "SELECT kind FROM catalog_revision ORDER BY kind FOR UPDATE")
}

// written says where the source stands after a write to the kinds.
func (t *tx) written(ctx context.Context, kinds ...snapshot.Kind) (snapshot.Written, error) {
	c, err := t.counters(ctx)
	if err == nil {
		err = c.complete()
	}
	if err != nil {
		return snapshot.Written{}, err
	}
	w := snapshot.Written{Lineage: c.lineage, Revisions: make(map[snapshot.Kind]int64, len(kinds))}
	for _, kind := range kinds {
		w.Revisions[kind] = c.byKind[kind]
	}
	return w, nil
}

// approvalsFor is how long a removal is remembered as one that was meant. It has
// to be published by then, or an operator is asked again.
const approvalsFor = 7 * 24 * time.Hour

// approve records that the removal of id, at the revision just written, is meant.
func (t *tx) approve(ctx context.Context, w snapshot.Written, kind snapshot.Kind, id, reason string) error {
	now := time.Now()
	err := t.exec(ctx, "record approval",
		`INSERT INTO approvals (kind, id, revision, reason, at) VALUES ($1, $2, $3, $4, $5)
		ON CONFLICT (kind, id) DO UPDATE SET revision = excluded.revision, reason = excluded.reason, at = excluded.at`,
		string(kind), id, w.Revisions[kind], reason, now.UnixMilli())
	if err != nil {
		return err
	}
	return t.exec(ctx, "forget old approvals", "DELETE FROM approvals WHERE at < $1", now.Add(-approvalsFor).UnixMilli())
}

// because is the reason given, or else what happened.
func because(a *Approve, what string) string {
	if a != nil {
		return a.Reason
	}
	return what
}

// checkApproval reports an approval without the reason it must have.
func checkApproval(a *Approve) error {
	if a == nil {
		return nil
	}
	if strings.TrimSpace(a.Reason) == "" {
		return fmt.Errorf("reason is blank: %w", snapshot.ErrInvalid)
	}
	return storable(a.Reason)
}

// approved returns the removals that were meant, by kind.
func (t *tx) approved(ctx context.Context) (map[snapshot.Kind][]snapshot.Approval, error) {
	out := map[snapshot.Kind][]snapshot.Approval{}
	err := t.each(ctx, "approvals", "SELECT kind, id, revision, reason FROM approvals ORDER BY kind, id", func(r Rows) error {
		var kind string
		var a snapshot.Approval
		if err := r.Scan(&kind, &a.ID, &a.Revision, &a.Reason); err != nil {
			return err
		}
		out[snapshot.Kind(kind)] = append(out[snapshot.Kind(kind)], a)
		return nil
	})
	return out, err
}

// MintLineage gives the source a new id that sorts after both its own and the
// one given, so that what it holds now counts as newer than anything published
// before. It is for an operator who knows that the database was restored or
// replaced. The counters keep their values.
func (d *DB) MintLineage(ctx context.Context, after string) (string, error) {
	var id string
	err := d.writing(ctx, func(t *tx) error {
		if err := t.lock(ctx); err != nil {
			return err
		}
		c, err := t.counters(ctx)
		if err != nil {
			return err
		}
		id = snapshot.NewLineage(time.Now(), max(after, c.lineage))
		return t.exec(ctx, "set source id", "UPDATE catalog_revision SET source_id = $1", id)
	})
	if err != nil {
		return "", fmt.Errorf("mint lineage: %w", err)
	}
	d.log.Warn("the source has a new lineage", "lineage", id, "after", after)
	return id, nil
}
