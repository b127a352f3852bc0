package snapshot

import (
	"maps"
	"slices"
)

// Point is one state of the source. Revisions alone do not name it: after a
// restore the same ones come again, for other changes.
type Point struct {
	Lineage   string
	Revisions map[Kind]int64 // without analytics
	Seq, Mark int64          // of the newest entry in the list of changes; 0: there is none
}

// Changes names the rows that were changed, made or removed since a Point.
type Changes struct {
	Channels []string // ids
	Rules    []string // ids
	Prices   []string // models
}

// Empty reports whether nothing changed.
func (c *Changes) Empty() bool { return len(c.Channels)+len(c.Rules)+len(c.Prices) == 0 }

// Entry is one in the source's list of changes.
type Entry struct {
	Seq, Mark int64 // its number, and what tells it from one of another history
	Kind      Kind  // whose rows: Models stands for the prices
	IDs       []string
	Any       bool  // any row may have changed
	Raised    int64 // how often the counter of the kind rose with it
}

// ChangesBetween returns what changed between two states of the source, and nil
// where the entries, of which the first is the newest that from knew, do not
// prove to be all of it: the list was cut off or belongs to another history, a
// counter rose without an entry or an entry came without its counter, or one says
// that any row may have changed.
func ChangesBetween(from, to Point, entries []Entry) *Changes {
	if from.Lineage != to.Lineage || len(entries) == 0 || entries[0].Seq != from.Seq || entries[0].Mark != from.Mark {
		return nil
	}
	raised := map[Kind]int64{}
	touched := map[Kind]map[string]bool{Channels: {}, Models: {}, RoutingRules: {}}
	for _, e := range entries[1:] {
		ids := touched[e.Kind]
		if ids == nil || e.Any {
			return nil
		}
		for _, id := range e.IDs {
			ids[id] = true
		}
		raised[e.Kind] += e.Raised
	}
	raised[Models] += raised[Channels] // which raises both
	for _, kind := range catalogKinds {
		if to.Revisions[kind]-from.Revisions[kind] != raised[kind] {
			return nil
		}
	}
	return &Changes{
		Channels: slices.Sorted(maps.Keys(touched[Channels])),
		Rules:    slices.Sorted(maps.Keys(touched[RoutingRules])),
		Prices:   slices.Sorted(maps.Keys(touched[Models])),
	}
}
