package snapshot

import (
	"cmp"
	"crypto/rand"
	"encoding/hex"
	"fmt"
	"strconv"
	"strings"
	"time"
)

// Order is the place of a snapshot in the history of its source. Lineage is
// the source's own id, Revision its change counter. Later means: greater
// lineage, or the same lineage and a greater revision. NewLineage keeps
// lineages rising, so the order is total and no replica needs to step back.
type Order struct {
	Lineage  string
	Revision int64
}

// Compare returns -1, 0 or 1 as o is before, at or after p.
func (o Order) Compare(p Order) int {
	return cmp.Or(strings.Compare(o.Lineage, p.Lineage), cmp.Compare(o.Revision, p.Revision))
}

// Max returns the later of o and p.
func (o Order) Max(p Order) Order {
	if p.Compare(o) > 0 {
		return p
	}
	return o
}

// IsZero reports whether nothing is known of the place.
func (o Order) IsZero() bool { return o == Order{} }

// String is "LINEAGE@REVISION".
func (o Order) String() string { return fmt.Sprintf("%s@%d", o.Lineage, o.Revision) }

// ParseOrder reads what String writes. A lineage may hold an "@" of its own.
func ParseOrder(s string) (Order, error) {
	at := strings.LastIndexByte(s, '@')
	if at < 0 {
		return Order{}, fmt.Errorf("order %q, want LINEAGE@REVISION: %w", s, ErrInvalid)
	}
	revision, err := strconv.ParseInt(s[at+1:], 10, 64)
	if err != nil || revision < 0 {
		return Order{}, fmt.Errorf("order %q has no revision: %w", s, ErrInvalid)
	}
	return Order{Lineage: s[:at], Revision: revision}, nil
}

// NewLineage returns an id that sorts after the one given: 13 hexadecimal
// digits of Unix milliseconds, a dash, 8 random digits.
func NewLineage(now time.Time, after string) string {
	ms := now.UnixMilli()
	prefix, _, _ := strings.Cut(after, "-")
	if old, err := strconv.ParseInt(prefix, 16, 64); err == nil && len(prefix) == 13 && old >= ms {
		ms = old + 1
	}
	id := fmt.Sprintf("%013x-%s", ms, RandomID(4))
	if id <= after { // a hand-made id that sorts high
		id = after + "." + RandomID(4)
	}
	return id
}

// RandomID returns n random bytes as hexadecimal digits.
func RandomID(n int) string {
	b := make([]byte, n)
	_, _ = rand.Read(b) // never fails: crypto/rand ends the process instead
	return hex.EncodeToString(b)
}
