package model_test

import (
	"cmp"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"
)

// The types of a key.
const (
	aString = "string"
	aHash   = "hash"
	aList   = "list"
	aStream = "stream"
	aZset   = "zset"
)

// entry is what stands under one key. It belongs to the command that made it:
// any other one copies it before it writes.
type entry struct {
	owner   uint64
	kind    string
	expires time.Time // zero: never
	str     string
	hash    []pair // in the order in which the fields came
	list    []string
	stream  []message
	last    id // greatest id a stream ever had
	zset    []scored
}

type pair struct{ field, value string }

type id struct{ ms, seq uint64 }

func (a id) compare(b id) int { return cmp.Or(cmp.Compare(a.ms, b.ms), cmp.Compare(a.seq, b.seq)) }

func (a id) String() string {
	return strconv.FormatUint(a.ms, 10) + "-" + strconv.FormatUint(a.seq, 10)
}

type message struct {
	at     id
	fields []string
}

type scored struct {
	member string
	score  float64
}

// dataSet is everything one Redis holds. It knows its last writes, so that it
// can lose them, and is copied in the number of its keys.
type dataSet struct {
	keys  map[string]*entry
	undo  []change // what the last writes replaced
	owner uint64   // the command that runs now
	next  *uint64  // the next command of any data set
	bell  func(channel, payload string)
	now   func() time.Time
	// ledger is what the referee wrote down about this data set. It is lost and
	// found with the data.
	ledger ledger
}

// change is a key as it stood before a command.
type change struct {
	owner  uint64
	key    string
	was    *entry
	ledger *ledger // for the first change of a command
}

const undoMax = 256

func newDataSet(next *uint64) *dataSet {
	return &dataSet{keys: map[string]*entry{}, next: next, now: time.Now, ledger: newLedger()}
}

// begin starts a command.
func (d *dataSet) begin() {
	*d.next++
	d.owner = *d.next
	if len(d.undo) > undoMax {
		d.undo = append(d.undo[:0:0], d.undo[len(d.undo)-undoMax/2:]...)
	}
}

// clone copies the data set. Both go on by themselves.
func (d *dataSet) clone() *dataSet {
	c := &dataSet{keys: maps.Clone(d.keys), undo: slices.Clone(d.undo), next: d.next, now: d.now, ledger: d.ledger}
	c.begin()
	d.begin() // neither owns what both show
	return c
}

// lose takes back the last n commands that wrote.
func (d *dataSet) lose(n int) {
	d.begin()
	for ; n > 0 && len(d.undo) > 0; n-- {
		owner := d.undo[len(d.undo)-1].owner
		for len(d.undo) > 0 && d.undo[len(d.undo)-1].owner == owner {
			last := d.undo[len(d.undo)-1]
			d.undo = d.undo[:len(d.undo)-1]
			if last.was == nil {
				delete(d.keys, last.key)
			} else {
				d.keys[last.key] = last.was
			}
			if last.ledger != nil {
				d.ledger = *last.ledger
			}
		}
	}
}

// note remembers what key was before this command.
func (d *dataSet) note(key string, was *entry) {
	c := change{owner: d.owner, key: key, was: was}
	if n := len(d.undo); n == 0 || d.undo[n-1].owner != d.owner {
		before := d.ledger
		c.ledger = &before
	}
	d.undo = append(d.undo, c)
}

// get returns what stands under key, nil for nothing.
func (d *dataSet) get(key string) *entry {
	e := d.keys[key]
	if e != nil && !e.expires.IsZero() && !time.Now().Before(e.expires) {
		return nil
	}
	return e
}

// put returns key for writing, made new if there is none.
func (d *dataSet) put(key, kind string) *entry {
	e := d.get(key)
	switch {
	case e == nil:
		d.note(key, d.keys[key])
		e = &entry{owner: d.owner, kind: kind}
		d.keys[key] = e
	case e.owner != d.owner:
		d.note(key, e)
		c := *e
		c.owner = d.owner
		c.hash, c.list = slices.Clone(e.hash), slices.Clone(e.list)
		c.stream, c.zset = slices.Clone(e.stream), slices.Clone(e.zset)
		e = &c
		d.keys[key] = e
	}
	return e
}

// drop deletes key and reports whether it was there.
func (d *dataSet) drop(key string) bool {
	was := d.get(key)
	if e := d.keys[key]; e != nil {
		d.note(key, e)
		delete(d.keys, key)
	}
	return was != nil
}

// dropEmpty deletes key if nothing is left in it. A stream stays.
func (d *dataSet) dropEmpty(key string, e *entry) {
	if e.kind != aStream && len(e.hash)+len(e.list)+len(e.zset) == 0 {
		d.drop(key)
	}
}

func (e *entry) field(name string) (string, bool) {
	if e == nil {
		return "", false
	}
	for i := range e.hash {
		if e.hash[i].field == name {
			return e.hash[i].value, true
		}
	}
	return "", false
}

// setField reports whether the field is new.
func (e *entry) setField(name, value string) bool {
	for i := range e.hash {
		if e.hash[i].field == name {
			e.hash[i].value = value
			return false
		}
	}
	e.hash = append(e.hash, pair{name, value})
	return true
}

func (e *entry) delField(name string) bool {
	for i := range e.hash {
		if e.hash[i].field == name {
			e.hash = slices.Delete(e.hash, i, i+1)
			return true
		}
	}
	return false
}

func (e *entry) setScore(member string, score float64) (fresh bool) {
	e.zset = slices.DeleteFunc(e.zset, func(s scored) bool { return s.member == member })
	fresh = true
	at, _ := slices.BinarySearchFunc(e.zset, scored{member, score}, func(a, b scored) int {
		return cmp.Or(cmp.Compare(a.score, b.score), strings.Compare(a.member, b.member))
	})
	e.zset = slices.Insert(e.zset, at, scored{member, score})
	return fresh
}
