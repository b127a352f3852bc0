package source

import (
	"context"
	"database/sql"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/routex/cachewarmer/internal/snapshot"
)

const (
	// changesMax is how many entries of catalog_changes a load looks through:
	// beyond that it is quicker to read everything.
	changesMax = 4000
	// idsAtOnce bounds the parameters of one query.
	idsAtOnce = 500
)

// entry is a row of catalog_changes.
type entry struct {
	seq, mark, raised int64
	kind              snapshot.Kind
	id, was           sql.NullString
}

// readChanges notes in At which state this is, and in Since what changed after
// l.since, if the list of changes proves to hold all of that.
func (l *loading) readChanges(ctx context.Context, t *tx) error {
	l.At = snapshot.Point{Lineage: l.Lineage, Revisions: maps.Clone(l.Revisions)}
	const newest = "SELECT seq, mark, kind, id, was, raised FROM catalog_changes ORDER BY seq DESC LIMIT 1"
	const later = "SELECT seq, mark, kind, id, was, raised FROM catalog_changes WHERE seq >= $1 ORDER BY seq LIMIT $2"
	var entries []entry
	scan := func(r Rows) error {
		var e entry
		err := r.Scan(&e.seq, &e.mark, &e.kind, &e.id, &e.was, &e.raised)
		entries = append(entries, e)
		return err
	}
	if l.since != nil {
		if err := t.each(ctx, "catalog_changes", later, scan, l.since.Seq, changesMax+1); err != nil {
			return err
		}
		if len(entries) <= changesMax {
			l.Since = changesFrom(l.since, &l.At, entries)
		}
	}
	if l.Since == nil {
		entries = nil
		if err := t.each(ctx, "catalog_changes", newest, scan); err != nil {
			return err
		}
	}
	if n := len(entries); n > 0 {
		l.At.Seq, l.At.Mark = entries[n-1].seq, entries[n-1].mark
	}
	return nil
}

// changesFrom returns what changed between two states of the source, and nil
// where the entries, of which the first is from's newest, do not prove that they
// are all there is: the list was cut off or belongs to another history, a counter
// rose without an entry or an entry came without a counter, or an entry says that
// any row may have changed.
func changesFrom(from, to *snapshot.Point, entries []entry) *snapshot.Changes {
	if from.Lineage != to.Lineage || len(entries) == 0 || entries[0].seq != from.Seq || entries[0].mark != from.Mark {
		return nil
	}
	raised := map[snapshot.Kind]int64{}
	touched := map[snapshot.Kind]map[string]bool{snapshot.Channels: {}, snapshot.Models: {}, snapshot.RoutingRules: {}}
	for _, e := range entries[1:] {
		ids := touched[e.kind]
		if ids == nil || !e.id.Valid {
			return nil
		}
		ids[e.id.String] = true
		if e.was.Valid {
			ids[e.was.String] = true
		}
		raised[e.kind] += e.raised
	}
	raised[snapshot.Models] += raised[snapshot.Channels] // which raises both
	for _, kind := range counted {
		if to.Revisions[kind]-from.Revisions[kind] != raised[kind] {
			return nil
		}
	}
	return &snapshot.Changes{
		Channels: slices.Sorted(maps.Keys(touched[snapshot.Channels])),
		Rules:    slices.Sorted(maps.Keys(touched[snapshot.RoutingRules])),
		Prices:   slices.Sorted(maps.Keys(touched[snapshot.Models])),
	}
}

// changed names the rows to read; nobody asks when it is all of them.
func (l *loading) changed() snapshot.Changes {
	if l.Since == nil {
		return snapshot.Changes{}
	}
	return *l.Since
}

// each calls read with a condition for all rows, or for a few of those named at
// a time.
func (l *loading) each(ids []string, column string, read func(where string, args []any) error) error {
	if l.Since == nil {
		return read("", nil)
	}
	for some := range slices.Chunk(ids, idsAtOnce) {
		args := make([]any, len(some))
		for i, id := range some {
			args[i] = id
		}
		if err := read(" WHERE "+column+" IN ("+places(len(args))+")", args); err != nil {
			return err
		}
	}
	return nil
}

// places is "$1, $2, …, $n".
func places(n int) string {
	var b strings.Builder
	for i := range n {
		if i > 0 {
			b.WriteString(", ")
		}
		fmt.Fprintf(&b, "$%d", i+1)
	}
	return b.String()
}
