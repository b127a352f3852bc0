package balancer

import (
	"cmp"
	"slices"
	"sort"
	"strings"
)

// roster is the channels that a Balancer remembers: those of the newest table,
// and others with requests in flight. It costs 8 bytes a channel, where a map
// has 35.
type roster struct {
	all  []*channel // by hash, then by id
	late []*channel // to be among them when the table is made, in no order
	left bool       // some may have gone for good
}

// inRoster compares a channel's stripe and id with those of c.
func (c *channel) inRoster(stripe uint32, id string) int {
	if stripe != c.stripe { // mostly, and no id has to be looked at
		return cmp.Compare(stripe, c.stripe)
	}
	return strings.Compare(id, c.id)
}

// at returns where the channel with this id is in all, or would be.
func (r *roster) at(id string) (at int, there bool) {
	stripe := stripeOf(id)
	return sort.Find(len(r.all), func(i int) int { return r.all[i].inRoster(stripe, id) })
}

// get returns the channel with this id, or nil. One that is late is not found.
func (r *roster) get(id string) *channel {
	if at, there := r.at(id); there {
		return r.all[at]
	}
	return nil
}

// remove is for a channel that is gone and has nothing in flight any more.
func (r *roster) remove(c *channel) {
	if at, there := r.at(c.id); there && r.all[at] == c {
		r.all = slices.Delete(r.all, at, at+1)
	}
}

// settle takes in those that are late, and lets those go that have left.
func (r *roster) settle() {
	if r.left {
		r.left, r.all = false, slices.DeleteFunc(r.all, (*channel).forgettable)
	}
	if len(r.late) <= few {
		for _, c := range r.late {
			at, _ := r.at(c.id)
			r.all = slices.Insert(r.all, at, c)
		}
	} else {
		r.all = slices.Concat(r.all, r.late)
		slices.SortFunc(r.all, func(x, y *channel) int { return y.inRoster(x.stripe, x.id) })
	}
	r.late = nil
}
