package snapshot

import (
	"fmt"
	"slices"
)

// update takes the changes of one catalog into an index, and notes what they
// come to.
type update struct {
	*index
	sets    map[Kind]*Set
	max     int // bytes of a channel or rule
	in      Formed
	offered map[string]bool // models whose channels changed
	gone    []string        // what may be no target any more
	deltas  map[Kind]Delta
}

// put notes that record id is body now.
func (u *update) put(kind Kind, id, body string) {
	was, had := u.sets[kind].Get(id)
	if had && was == body {
		return
	}
	d := u.deltas[kind]
	if d.Set[id] = body; had {
		d.Prev[id] = was
	}
}

// drop notes that there is no record id.
func (u *update) drop(kind Kind, id string) {
	if was, had := u.sets[kind].Get(id); had {
		d := u.deltas[kind]
		d.Prev[id] = was
		d.Removed = append(d.Removed, id)
		u.deltas[kind] = d
	}
}

// encode is put for a record that has passed, unless it is too long.
func (u *update) encode(kind Kind, id string, record any) error {
	body, err := EncodeAs(kind, u.in.of(kind), record)
	if err != nil || (len(body) > u.max && kind != Models) {
		return fmt.Errorf("%s %q has a fault: %w", kind, id, ErrPart)
	}
	u.put(kind, id, body)
	return nil
}

// byID returns the rows of a catalog of changes. One that nobody named, or that
// is there twice, is for the whole catalog to judge.
func byID[T any](rows []T, named []string, id func(*T) string) (map[string]*T, error) {
	out := make(map[string]*T, len(rows))
	for i := range rows {
		key := id(&rows[i])
		if _, expected := slices.BinarySearch(named, key); !expected || out[key] != nil {
			return nil, fmt.Errorf("%q is not one of the changed rows, or there twice: %w", key, ErrPart)
		}
		out[key] = &rows[i]
	}
	return out, nil
}

// channels takes all changed channels out of the index before it takes in what
// they are now: two of them may have changed their names with each other.
func (u *update) channels(c *Catalog) error {
	rows, err := byID(c.Channels, c.Since.Channels, func(c *Channel) string { return c.ID })
	if err != nil {
		return err
	}
	before := make(map[string]row, len(c.Since.Channels))
	for _, id := range c.Since.Channels {
		if was, had := u.index.channels[id]; had {
			before[id] = was
			u.remove(id, was)
		}
	}
	for _, id := range c.Since.Channels {
		if err := u.channel(id, before[id], rows[id]); err != nil {
			return err
		}
	}
	return nil
}

func (u *update) remove(id string, was row) {
	delete(u.index.channels, id)
	if u.names[was.name]--; u.names[was.name] == 0 {
		delete(u.names, was.name)
	}
	if was.enabled {
		delete(u.enabled, was.name)
	}
	u.gone = append(u.gone, id, was.name)
}

// channel takes in what channel id is now; nil: it is gone.
func (u *update) channel(id string, was row, now *Channel) error {
	var is row
	if now != nil {
		is = rowOf(now)
		u.index.channels[id] = is
		u.names[is.name]++
	}
	if !is.enabled {
		u.drop(Channels, id)
	} else {
		if now.Check() != nil || u.enabled[is.name] != "" {
			return fmt.Errorf("channel %q has a fault: %w", id, ErrPart)
		}
		u.enabled[is.name] = id
		if err := u.encode(Channels, id, now); err != nil {
			return err
		}
	}
	u.offering(id, was, is)
	return nil
}

// offering notes which models a channel has begun or ceased to offer.
func (u *update) offering(id string, was, is row) {
	if was.enabled && is.enabled && slices.Equal(was.models, is.models) {
		return
	}
	if was.enabled {
		for _, model := range was.models {
			u.withdraw(model, id)
			u.offered[model] = true
		}
	}
	if is.enabled {
		for _, model := range is.models {
			u.offer(model, id)
			u.offered[model] = true
		}
	}
}

// models makes the models anew that other channels offer now, or that have
// another price.
func (u *update) models(c *Catalog) error {
	rows, err := byID(c.Prices, c.Since.Prices, func(p *Price) string { return p.Model })
	if err != nil {
		return err
	}
	for _, model := range c.Since.Prices {
		if u.offered[model] = true; rows[model] != nil {
			u.prices[model] = *rows[model]
		} else {
			delete(u.prices, model)
		}
	}
	for name := range u.offered {
		ids := u.offers[name]
		if len(ids) == 0 {
			u.drop(Models, name)
			continue
		}
		m := &Model{ID: name, Channels: ListIDs(ids...)}
		if p, ok := u.prices[name]; ok {
			m.price(&p)
		}
		if err := u.encode(Models, name, m); err != nil {
			return err
		}
	}
	return nil
}

// rules takes in the changed rules, and sees that no other one has lost its
// target.
func (u *update) rules(c *Catalog) error {
	rows, err := byID(c.Rules, c.Since.Rules, func(r *Rule) string { return r.ID })
	if err != nil {
		return err
	}
	for _, id := range c.Since.Rules {
		if err := u.rule(id, rows[id]); err != nil {
			return err
		}
	}
	for _, target := range u.gone {
		if u.targets[target] > 0 && !u.isTarget(target) {
			return fmt.Errorf("rules have lost their target %q: %w", target, ErrPart)
		}
	}
	return nil
}

func (u *update) rule(id string, now *Rule) error {
	if target, was := u.index.rules[id]; was {
		delete(u.index.rules, id)
		if u.targets[target]--; u.targets[target] == 0 {
			delete(u.targets, target)
		}
	}
	if now == nil || !now.Enabled {
		u.drop(RoutingRules, id)
		return nil
	}
	if now.Check() != nil || !u.isTarget(now.TargetChannel) {
		return fmt.Errorf("rule %q has a fault: %w", id, ErrPart)
	}
	u.index.rules[id] = now.TargetChannel
	u.targets[now.TargetChannel]++
	return u.encode(RoutingRules, id, now)
}
