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

// readChanges notes in At which state this is, and in Since what changed after
// l.since, if the list of changes proves to hold all of that.
func (l *loading) readChanges(ctx context.Context, t *tx) error {
	l.At = snapshot.Point{Lineage: l.Lineage, Revisions: maps.Clone(l.Revisions)}
	const newest = "SELECT seq, mark, kind, id, was, raised FROM catalog_changes ORDER BY seq DESC LIMIT 1"
	const later = "SELECT seq, mark, kind, id, was, raised FROM catalog_changes WHERE seq >= $1 ORDER BY seq LIMIT $2"
	var entries []snapshot.Entry
	scan := func(r Rows) error {
		var e snapshot.Entry
		var id, was sql.NullString
		err := r.Scan(&e.Seq, &e.Mark, &e.Kind, &id, &was, &e.Raised)
		e.Any = !id.Valid
		if e.IDs = append(e.IDs, id.String); was.Valid {
			e.IDs = append(e.IDs, was.String)
		}
		entries = append(entries, e)
		return err
	}
	if l.since != nil {
		if err := t.each(ctx, "catalog_changes", later, scan, l.since.Seq, changesMax+1); err != nil {
			return err
		}
		if len(entries) <= changesMax {
			l.Since = snapshot.ChangesBetween(*l.since, l.At, entries)
		}
	}
	if l.Since == nil {
		entries = nil
		if err := t.each(ctx, "catalog_changes", newest, scan); err != nil {
			return err
		}
	}
	if n := len(entries); n > 0 {
		l.At.Seq, l.At.Mark = entries[n-1].Seq, entries[n-1].Mark
	}
	return nil
}

// changed names the rows to read; nobody asks when it is all of them.
func (l *loading) changed() snapshot.Changes {
	if l.Since == nil {
		return snapshot.Changes{}
	}
	return *l.Since
}

// each calls read with a condition for all rows, or for a few of those named at
// a time. Of a read of all people can see how far it is.
func (l *loading) each(t *tx, kind snapshot.Kind, ids []string, column string, read func(where string, args []any) error) error {
	if l.Since == nil {
		t.work = t.progress.Begin(snapshot.WorkSource, kind, l.rows[kind])
		defer func() { t.work.End(); t.work = nil }()
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
