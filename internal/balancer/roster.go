package balancer

import (
	"cmp"
	"slices"
	"sort"
	"strings"
)

// roster is the channels that a Balancer remembers: those of the newest table,
// and others with requests in flight. It costs 8 bytes a channel, where a map
// has 35. What moves waits for settle.
type roster struct {
	all []*channel // by stripe, then by id
	moves
}

// moves are channels that come to a roster and leave it.
type moves struct {
	late []*channel // to be among them
	left []*channel // of the roster's; gone from the table
}

// inRoster compares a channel's stripe and id with those of c.
func (c *channel) inRoster(stripe uint32, id string) int {
	if stripe != c.stripe { // mostly, and no id has to be looked at
		return cmp.Compare(stripe, c.stripe)
	}
	return strings.Compare(id, c.id)
}

// at returns where the channel with this id is in all, or would be.
func (r *roster) at(stripe uint32, id string) (at int, there bool) {
	return sort.Find(len(r.all), func(i int) int { return r.all[i].inRoster(stripe, id) })
}

// get returns the channel with this id, or nil. One that is late is not found.
func (r *roster) get(id string) *channel {
	if at, there := r.at(stripeOf(id), id); there {
		return r.all[at]
	}
	return nil
}

// add is for a channel that get does not find.
func (m *moves) add(c *channel) { m.late = append(m.late, c) }

// leave is for a channel that the table to come does not have.
func (m *moves) leave(c *channel) {
	c.gone.Store(true) // before the look at what is in flight: the last one to end looks the other way round
	m.left = append(m.left, c)
}

// join takes over other moves.
func (m *moves) join(other moves) {
	m.late, m.left = append(m.late, other.late...), append(m.left, other.left...)
}

// remove is for a channel that is gone and has nothing in flight any more.
func (r *roster) remove(c *channel) {
	if at, there := r.at(c.stripe, c.id); there && r.all[at] == c {
		r.all = slices.Delete(r.all, at, at+1)
	}
}

// fewLeft is how many are removed one by one, which moves all behind each:
// with more each channel is looked at once.
const fewLeft = 32

// settle lets those go that have left, but for requests in flight, and takes in
// those that are late.
//
//	cost  for each of them a search and, for all, one move of the list; with more
//	      than fewLeft that have left a look at each channel
func (r *roster) settle() {
	if len(r.left) > fewLeft {
		r.all = slices.DeleteFunc(r.all, (*channel).forgettable)
	} else {
		for _, c := range r.left {
			if c.forgettable() {
				r.remove(c)
			}
		}
	}
	byStripe := orderBy(r.late, func(c **channel) string { return (*c).id }, func(c **channel) uint64 { return uint64((*c).stripe) })
	r.late = inOrder(r.late, byStripe)
	places := make([]int, len(r.late))
	for i, c := range r.late {
		places[i], _ = r.at(c.stripe, c.id)
	}
	end := len(r.all)
	r.all = slices.Grow(r.all, len(r.late))[:end+len(r.late)]
	for i, at := range slices.Backward(places) {
		copy(r.all[at+i+1:], r.all[at:end])
		r.all[at+i], end = r.late[i], at
	}
	r.moves = moves{}
}
