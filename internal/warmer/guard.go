package warmer

import (
	"fmt"

	"github.com/routex/cachewarmer/internal/snapshot"
)

// lineage judges whether the source went back or was replaced, compared with the
// place of what is current.
func lineage(kind snapshot.Kind, current, got snapshot.Order) *snapshot.Refusal {
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
