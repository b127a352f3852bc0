package source_test

import (
	"testing"

	"github.com/routex/cachewarmer/internal/snapshot"
)

// Somebody who may edit channels and nothing else still raises the counters.
func TestEditorNeedsNoRightToTheCounters(t *testing.T) {
	t.Parallel()
	e := postgresEngine(t)
	d := open(t, e)
	before := revisions(t, d)
	role := `"editor ` + snapshot.RandomID(6) + `"`
	e.hand(t, `CREATE ROLE `+role+`; GRANT INSERT ON channels TO `+role+`; SET ROLE `+role+`;
		INSERT INTO channels (id, name) VALUES ('x', 'x'); RESET ROLE; DROP OWNED BY `+role+`; DROP ROLE `+role)
	if after := revisions(t, d); after.ByKind[snapshot.Channels] != before.ByKind[snapshot.Channels]+1 {
		t.Errorf("revisions went from %v to %v", before.ByKind, after.ByKind)
	}
}

// The tables may live in a schema that the editor's session does not search.
func TestTablesMayLiveInASchemaOfTheirOwn(t *testing.T) {
	t.Parallel()
	e := postgresEngine(t)
	e.hand(t, "CREATE SCHEMA gateway")
	d := open(t, engine{url: e.url + "&search_path=gateway"})
	bell := start(t, d)
	rings(t, bell, "the watch began")
	before := revisions(t, d)
	e.hand(t, "INSERT INTO gateway.channels (id, name) VALUES ('x', 'x')")
	rings(t, bell, "a change")
	if after := revisions(t, d); after.ByKind[snapshot.Channels] != before.ByKind[snapshot.Channels]+1 {
		t.Errorf("revisions went from %v to %v", before.ByKind, after.ByKind)
	}
}
