package balancer

import (
	"cmp"
	"encoding/binary"
	"slices"
	"strings"
)

// sortedByID returns list in the order of ids. It looks at each id a few times
// only, for they lie far apart in memory: mostly eight bytes behind what all have in
// common decide.
func sortedByID[T any](list []T, id func(*T) string) []T {
	if len(list) < 2 {
		return list
	}
	common := id(&list[0])
	for i := range list {
		if other := id(&list[i]); !strings.HasPrefix(other, common) {
			common = common[:lenCommon(common, other)]
		}
	}
	return sortedBy(list, id, func(m *T) uint64 {
		var head [8]byte
		copy(head[:], id(m)[len(common):])
		return binary.BigEndian.Uint64(head[:])
	})
}

// sortedBy returns list in the order of a number, asked for once, and of ids where
// that is the same.
func sortedBy[T any](list []T, id func(*T) string, number func(*T) uint64) []T {
	type keyed struct {
		number uint64
		at     int
	}
	all := make([]keyed, len(list))
	for i := range list {
		all[i] = keyed{number(&list[i]), i}
	}
	slices.SortFunc(all, func(x, y keyed) int {
		if x.number != y.number {
			return cmp.Compare(x.number, y.number)
		}
		return strings.Compare(id(&list[x.at]), id(&list[y.at]))
	})
	sorted := make([]T, len(list))
	for i, k := range all {
		sorted[i] = list[k.at]
	}
	return sorted
}

func (m *member) byID() string { return m.id }

// lenCommon returns how many bytes x and y begin with alike.
func lenCommon(x, y string) int {
	n := min(len(x), len(y))
	for i := range n {
		if x[i] != y[i] {
			return i
		}
	}
	return n
}
