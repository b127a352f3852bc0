package balancer

// seat is a channel with what decides where in a pool it belongs. The seats of
// channels that change at once lie side by side: pools of many thousands that looked
// into the records would miss the processor's cache for each of their members.
type seat struct {
	member
	at    place // where priorities count
	wires uint8 // it speaks: one bit for each of them
}

func seatOf(m member) seat {
	s := seat{member: m, at: place{rankOf(m.ch, true), weightOf(m.ch)}}
	for i, wire := range wires {
		if m.ch.Speaks(wire) {
			s.wires |= 1 << i
		}
	}
	return s
}

// seatsOf returns those of members that are in a pool already.
func seatsOf(members []member) []*seat {
	all, seats := make([]seat, len(members)), make([]*seat, len(members))
	for i, m := range members {
		all[i] = seatOf(m)
		seats[i] = &all[i]
	}
	return seats
}

// place returns where the channel belongs.
func (s *seat) place(priorities bool) place {
	at := s.at
	if !priorities {
		at.rank[1] = 0
	}
	return at
}

// change is what becomes of a channel in the pools of one model.
type change struct {
	*seat
	gone bool // it does not offer the model any more; then only its id counts
}

func (c change) id() string { return c.ch.ID }

// serves reports whether the channel belongs in a pool of one of wires.
func (c change) serves(wire int) bool { return !c.gone && c.wires>>wire&1 == 1 }

// concerns reports whether the change is one of a pool of one of wires; before may
// be nil.
func (c change) concerns(before *Pool, wire int) bool {
	if c.serves(wire) {
		return true
	}
	if before == nil {
		return false
	}
	_, was := before.find(c.id())
	return was
}

// in is what a change comes to for a pool of one of wires: nil if the channel is not
// in it.
func (c change) in(wire int) *member {
	if !c.serves(wire) {
		return nil
	}
	return &c.member
}
