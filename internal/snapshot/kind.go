package snapshot

import (
	"fmt"
	"strings"
)

// Kind names one of the four sets of records a fleet shares. Its text is the
// same in JSON, in Redis keys and in metric labels.
type Kind string

// The kinds, in the order in which they are loaded, published and listed.
const (
	Channels     Kind = "channels"
	Models       Kind = "models"
	RoutingRules Kind = "routingRules"
	Analytics    Kind = "analytics"
)

// Kinds lists every kind in its fixed order. It must not be changed.
var Kinds = []Kind{Channels, Models, RoutingRules, Analytics}

// ParseKind returns the kind spelled s. The error is ErrInvalid and lists the
// accepted spellings.
func ParseKind(s string) (Kind, error) {
	for _, k := range Kinds {
		if string(k) == s {
			return k, nil
		}
	}
	return "", fmt.Errorf("kind %q, want one of %s: %w", s, KindList(), ErrInvalid)
}

// KindList returns the accepted spellings, for messages.
func KindList() string {
	names := make([]string, len(Kinds))
	for i, k := range Kinds {
		names[i] = string(k)
	}
	return strings.Join(names, ", ")
}

// Index is the kind's place in Kinds, and -1 for anything else.
func (k Kind) Index() int {
	for i, have := range Kinds {
		if have == k {
			return i
		}
	}
	return -1
}

// FromCatalog reports whether the kind is read from the source's tables, whose
// triggers count its changes. Analytics is computed, and has no trigger.
func (k Kind) FromCatalog() bool { return k != Analytics }

// Dependents returns k and the kinds derived from it: models come from
// channels, so whatever makes channels invalid makes models invalid too.
func (k Kind) Dependents() []Kind {
	if k == Channels {
		return []Kind{Channels, Models}
	}
	return []Kind{k}
}
