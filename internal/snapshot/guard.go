package snapshot

import "fmt"

// Guards are the limits a candidate has to keep before it may become current.
// The zero value means the defaults.
type Guards struct {
	MaxRemoved     float64 // refuse the removal of this share or more; 0.5
	MinForShrink   int     // sets smaller than this may shrink freely, but not to zero; 10
	MaxRecords     int     // of one kind; 200,000
	MaxBytes       int     // of one kind; 256 MiB
	MaxRecordBytes int     // of one channel or rule; a longer one is quarantined; 256 KiB
}

// WithDefaults fills in what is zero.
func (g Guards) WithDefaults() Guards {
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

// Shrink judges a candidate that removes that many records which nobody asked
// to remove. Models follow the channels of the same load and analytics is one
// record, so neither is judged.
func (g Guards) Shrink(kind Kind, had, got, removed int) *Refusal {
	if kind != Channels && kind != RoutingRules {
		return nil
	}
	r := &Refusal{Kind: kind, Had: had, Got: got, Removed: removed}
	switch {
	case got == 0 && removed > 0:
		r.Guard = GuardEmpty
		r.Detail = fmt.Sprintf("the source has none, %d are current; warm with force and a reason if that is meant", had)
	case had >= g.MinForShrink && float64(removed) >= g.MaxRemoved*float64(had):
		r.Guard = GuardShrink
		r.Detail = fmt.Sprintf("%d of %d would go, %.0f%% or more is refused; warm with force and a reason if that is meant", removed, had, 100*g.MaxRemoved)
	default:
		return nil
	}
	return r
}

// Ceilings judges the size of a candidate. No force passes them: what breaks
// readers stays out, and the limits are settings.
func (g Guards) Ceilings(set *Set) *Refusal {
	r := &Refusal{Kind: set.Kind(), Got: set.Len()}
	switch {
	case set.Len() > g.MaxRecords:
		r.Guard = GuardCount
		r.Detail = fmt.Sprintf("%d records, at most %d are allowed", set.Len(), g.MaxRecords)
	case set.Bytes() > g.MaxBytes:
		r.Guard = GuardBytes
		r.Detail = fmt.Sprintf("%d bytes, at most %d are allowed", set.Bytes(), g.MaxBytes)
	default:
		return nil
	}
	return r
}
