package router

import (
	"maps"
	"slices"
	"strings"

	"github.com/routex/cachewarmer/internal/snapshot"
)

// aims says which channel each rule sends its requests to. It knows the channels
// that rules aim at and no others, so that it can follow a change of any channel
// without a look at the rest.
type aims struct {
	channels *snapshot.Records[*snapshot.Channel]
	rules    map[string][]int               // places of the rules that aim at an id or name
	named    map[string][]*snapshot.Channel // enabled channels with one of these as their name, by id
	targets  []*snapshot.Channel            // by place of the rule; nil where there is no enabled channel
}

// follow returns the aims of rules at channels. Same says that rules are those
// of a.
func (a *aims) follow(rules []*rule, same bool, channels *snapshot.Records[*snapshot.Channel]) aims {
	next := aims{channels: channels, rules: a.rules, named: a.named, targets: a.targets}
	if !same {
		next.rules, next.targets = map[string][]int{}, make([]*snapshot.Channel, len(rules))
		for i, r := range rules {
			next.rules[r.TargetChannel] = append(next.rules[r.TargetChannel], i)
		}
	}
	var moved map[string]bool
	switch {
	case same:
		moved = next.rename(a.channels)
	case a.knows(next.rules):
		next.named = maps.Clone(a.named)
		maps.DeleteFunc(next.named, func(name string, _ []*snapshot.Channel) bool { return next.rules[name] == nil })
		_ = next.rename(a.channels)
	default:
		next.findNamed()
	}
	if !same {
		for target := range next.rules {
			next.resolve(target)
		}
		return next
	}
	if len(moved) > 0 {
		next.targets = slices.Clone(a.targets)
	}
	for target := range moved {
		next.resolve(target)
	}
	return next
}

// knows reports whether the channels of all these names are in a.named.
func (a *aims) knows(rules map[string][]int) bool {
	for target := range rules {
		if _, ok := a.rules[target]; !ok {
			return false
		}
	}
	return true
}

// rename brings named, which is that of before, up to date, and returns what
// rules aim at and may have changed; nil where that is nothing, as mostly.
func (a *aims) rename(before *snapshot.Records[*snapshot.Channel]) (moved map[string]bool) {
	for c := range a.channels.Since(before) {
		itself, was, is := a.rules[c.ID] != nil, a.aimedAt(c.Was), a.aimedAt(c.Is)
		if !itself && !was && !is {
			continue
		}
		if moved == nil {
			moved, a.named = map[string]bool{}, maps.Clone(a.named)
		}
		if itself {
			moved[c.ID] = true
		}
		if was {
			a.rehold(c.Was, false)
			moved[c.Was.Name] = true
		}
		if is {
			a.rehold(c.Is, true)
			moved[c.Is.Name] = true
		}
	}
	return moved
}

// aimedAt reports whether a channel is enabled and a rule aims at its name.
func (a *aims) aimedAt(ch *snapshot.Channel) bool {
	return ch != nil && ch.Status != snapshot.StatusDisabled && a.rules[ch.Name] != nil
}

// rehold lets a channel come to those of its name, or go.
func (a *aims) rehold(ch *snapshot.Channel, comes bool) {
	held := slices.DeleteFunc(slices.Clone(a.named[ch.Name]), func(other *snapshot.Channel) bool { return other.ID == ch.ID })
	if comes {
		held = append(held, ch)
		slices.SortFunc(held, byID)
	}
	a.named[ch.Name] = held
}

// findNamed looks at every channel: a rule aims at something new.
func (a *aims) findNamed() {
	a.named = make(map[string][]*snapshot.Channel, len(a.rules))
	for _, ch := range a.channels.All() {
		if a.aimedAt(ch) {
			a.named[ch.Name] = append(a.named[ch.Name], ch)
		}
	}
	for _, held := range a.named {
		slices.SortFunc(held, byID)
	}
}

// resolve finds the channel of the rules that aim at target: by id, else by
// name. Names are unique in a set that passed its checks; if they are not, every
// replica has to take the same one.
func (a *aims) resolve(target string) {
	ch := a.channels.At(target)
	if ch == nil || ch.Status == snapshot.StatusDisabled {
		if ch = nil; len(a.named[target]) > 0 {
			ch = a.named[target][0]
		}
	}
	for _, i := range a.rules[target] {
		a.targets[i] = ch
	}
}

func byID(x, y *snapshot.Channel) int { return strings.Compare(x.ID, y.ID) }
