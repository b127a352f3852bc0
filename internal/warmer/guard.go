package warmer

import (
	"fmt"

	"github.com/routex/cachewarmer/internal/snapshot"
)

// Guards are the limits a candidate has to keep before it may become current.
// The zero value means the defaults.
type Guards struct {
	MaxRemoved     float64 // refuse the removal of this share or more; 0.5
	MinForShrink   int     // sets smaller than this may shrink freely, but not to zero; 10
	MaxRecords     int     // of one kind; 200,000
	MaxBytes       int     // of one kind; 256 MiB
	MaxRecordBytes int     // of one channel or rule; a longer one is quarantined; 256 KiB
}

func (g Guards) withDefaults() Guards {
	if g.MaxRemoved <= 0 {
		g.MaxRemoved = 0.5
	}
	if g.MinForShrink <= 0 {
		g.MinForShrink = 10
	}
	if g.MaxRecords <= 0 {
		g.MaxRecords = 200_000
	}
	if g.MaxBytes <= 0 {
		g.MaxBytes = 256 << 20
	}
	if g.MaxRecordBytes <= 0 {
		g.MaxRecordBytes = 256 << 10
	}
	return g
}

// shrink judges how many records a candidate removes. Models follow the
// channels of the same load and analytics is one record, so neither is judged.
func (g Guards) shrink(kind snapshot.Kind, had, got, removed int) *snapshot.Refusal {
	if kind != snapshot.Channels && kind != snapshot.RoutingRules {
		return nil
	}
	r := &snapshot.Refusal{Kind: kind, Had: had, Got: got, Removed: removed}
	switch {
	case got == 0 && had > 0:
		r.Guard = snapshot.GuardEmpty
		r.Detail = fmt.Sprintf("the source has none, %d are current; warm with force and a reason if that is meant", had)
	case had >= g.MinForShrink && float64(removed) >= g.MaxRemoved*float64(had):
		r.Guard = snapshot.GuardShrink
		r.Detail = fmt.Sprintf("%d of %d would go, %.0f%% or more is refused; warm with force and a reason if that is meant", removed, had, 100*g.MaxRemoved)
	default:
		return nil
	}
	return r
}

// ceilings judges the size of a candidate. No force passes them: what breaks
// readers stays out, and the limits are settings.
func (g Guards) ceilings(set *snapshot.Set) *snapshot.Refusal {
	r := &snapshot.Refusal{Kind: set.Kind(), Got: set.Len()}
	switch {
	case set.Len() > g.MaxRecords:
		r.Guard = snapshot.GuardCount
		r.Detail = fmt.Sprintf("%d records, at most %d are allowed", set.Len(), g.MaxRecords)
	case set.Bytes() > g.MaxBytes:
		r.Guard = snapshot.GuardBytes
		r.Detail = fmt.Sprintf("%d bytes, at most %d are allowed", set.Bytes(), g.MaxBytes)
	default:
		return nil
	}
	return r
}

// order judges whether the source went back or was replaced, compared with the
// place of what is current.
func (g Guards) order(kind snapshot.Kind, current, got snapshot.Order) *snapshot.Refusal {
	if current.IsZero() || (got.Lineage == current.Lineage && got.Revision >= current.Revision) {
		return nil
	}
	why := "went back: it was restored from a backup"
	if got.Lineage != current.Lineage {
		why = "is another one: it was replaced"
	}
	return &snapshot.Refusal{
		Kind: kind, Guard: snapshot.GuardLineage,
		Detail: fmt.Sprintf("the source %s (it says %s, current is %s); warm with force and a reason if that is meant", why, got, current),
	}
}
