package balancer

import (
	"cmp"
	"encoding/binary"
	"slices"
	"strings"
)

// sortByID looks at each id a few times only, for they lie far apart in memory:
// mostly eight bytes behind what all have in common decide.
func sortByID(members []member) {
	if len(members) < 2 {
		return
	}
	type keyed struct {
		head uint64
		member
	}
	common := members[0].id
	for _, m := range members[1:] {
		if !strings.HasPrefix(m.id, common) {
			common = common[:lenCommon(common, m.id)]
		}
	}
	all := make([]keyed, len(members))
	for i, m := range members {
		var head [8]byte
		copy(head[:], m.id[len(common):])
		all[i] = keyed{binary.BigEndian.Uint64(head[:]), m}
	}
	slices.SortFunc(all, func(x, y keyed) int {
		if x.head != y.head {
			return cmp.Compare(x.head, y.head)
		}
		return strings.Compare(x.id, y.id)
	})
	for i := range all {
		members[i] = all[i].member
	}
}

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
