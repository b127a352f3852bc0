package model_test

import (
	"strconv"

	"github.com/routex/cachewarmer/internal/snapshot"
	"github.com/routex/cachewarmer/test/history"
)

// chronicle records a run for Porcupine: the head of each kind, as long as its
// Redis loses nothing, and what each replica serves.
type chronicle struct {
	*history.History
	data *dataSet // whose head is recorded
	loss int      // the referee's count of losses when that began
	r    *referee
	era  int
	tags [4]snapshot.Tag
}

func point(tag snapshot.Tag) history.Point {
	if tag == "" {
		return history.Point{}
	}
	return history.Point{N: tag.Version(), Sum: string(tag)}
}

func (c *chronicle) register(i int) string {
	return "head of " + string(kinds[i]) + " in data set " + strconv.Itoa(c.era)
}

// renew begins another era if Redis is not what it was.
func (c *chronicle) renew(d *dataSet) {
	if c.data == d && c.loss == c.r.losses {
		return
	}
	c.data, c.loss = d, c.r.losses
	c.era++
	_, c.tags = headOf(d)
	for i, tag := range c.tags {
		if tag != "" {
			c.Begin(c.register(i)).Wrote(point(tag))
		}
	}
}

// moved notes what a script made of the head.
func (c *chronicle) moved(d *dataSet, tags [4]snapshot.Tag) {
	c.renew(d)
	for i, tag := range tags {
		if tag != c.tags[i] {
			c.Begin(c.register(i)).Wrote(point(tag))
		}
	}
	c.tags = tags
}

// head notes a head that a replica has read.
func (c *chronicle) head(d *dataSet, tags [4]snapshot.Tag) {
	c.renew(d)
	for i, tag := range tags {
		c.Begin(c.register(i)).Read(point(tag))
	}
}

func served(p *process, i int) string { return string(kinds[i]) + " at " + p.id }

func at(o snapshot.Order) history.Point { return history.Point{Era: o.Lineage, N: uint64(o.Revision)} }

// served notes what a replica serves from now on.
func (c *chronicle) served(p *process, i int, snap *snapshot.Snapshot) {
	c.Begin(served(p, i)).Read(at(snap.Meta.Order))
}

// applied notes that a receipt says so of a replica. A tag that came to stand for
// two lineages is the same content, and says nothing of their order.
func (c *chronicle) applied(p *process, i int, o *origin) {
	if !o.first.IsZero() && o.first.Lineage == o.order.Lineage {
		c.Begin(served(p, i)).AtLeast(at(o.first))
	}
}
