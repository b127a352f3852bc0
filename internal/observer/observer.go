// Package observer says how far a fleet agrees, as somebody outside it sees.
//
//	every round:  source ◀──compare── redis ◀──compare── each replica
//
// A subject is a replica, compared with what is published, or Redis, compared
// with the source. It agrees if it holds the newest version there is, and if that
// version's content is what it should be. One that does not is given time: for a
// window W an observation counts against a subject only once it has not agreed
// with anything younger than W. A version that is only on its way is therefore
// never an error of a window longer than the way.
//
// Every round is one observation of each subject, kind and window. Those of the
// first W count for no window W: nothing could have been W old. Ages are counted
// from when the observer saw the newer version, so they are short by at most the
// time between two rounds.
//
// It does no I/O.
package observer

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/routex/cachewarmer/internal/snapshot"
)

// Redis is the name of the subject that is compared with the source.
const Redis = "redis"

// State is what a party holds of one kind.
type State struct {
	Tag    snapshot.Tag
	Order  snapshot.Order
	Digest string // "" if it is not known
	Count  int
}

// Look is what one round saw. What is published was read before the replicas,
// and the source before that, so that nobody is blamed for what came later.
type Look struct {
	At        time.Time
	Source    map[snapshot.Kind]State            // nil: not read, or it does not answer
	Published map[snapshot.Kind]State            // nil: Redis does not answer
	Replicas  map[string]map[snapshot.Kind]State // those that answered
	Silent    map[string]string                  // those that did not, with the reason
}

// Tally counts for one window.
type Tally struct {
	Window       time.Duration
	Observations int64
	Agreeing     int64
}

// Share is the part that agrees as text, with digits enough to tell one
// disagreement in all of them, and "none" without an observation.
func (t Tally) Share() string {
	switch {
	case t.Observations == 0:
		return "none"
	case t.Agreeing == t.Observations:
		return "100 %"
	}
	digits := 2
	for n := t.Observations; n > 1000; n /= 10 {
		digits++
	}
	// Rounded down: what is not whole must not look so.
	scale := 1.0
	for range digits {
		scale *= 10
	}
	share := float64(int64(float64(t.Agreeing)/float64(t.Observations)*100*scale)) / scale
	return fmt.Sprintf("%.*f %%", digits, share)
}

// Disagreement is a time in which one subject did not agree on one kind.
type Disagreement struct {
	Subject string
	Kind    snapshot.Kind
	Why     string // in words
	Have    State
	Want    State
	Since   time.Time
	Until   time.Time // when it was last seen
	Over    bool      // it agrees again
}

// Age is how long it was seen.
func (d Disagreement) Age() time.Duration { return d.Until.Sub(d.Since) }

// maxKept bounds the disagreements that are kept: the first of them tell how it
// began, the newest how it is.
const maxKept = 1000

// Observer counts. It is not safe for concurrent use.
type Observer struct {
	windows []time.Duration
	tallies []Tally
	began   time.Time
	rounds  int
	silent  map[string]int // observations missed, by replica

	published map[snapshot.Kind]*trail
	source    map[snapshot.Kind]*trail
	open      map[key]*Disagreement
	closed    []Disagreement
	omitted   int // closed, and not kept
}

type key struct {
	subject string
	kind    snapshot.Kind
}

// New returns an observer for these windows.
func New(windows []time.Duration) *Observer {
	o := &Observer{
		windows: slices.Sorted(slices.Values(windows)), silent: map[string]int{},
		published: map[snapshot.Kind]*trail{}, source: map[snapshot.Kind]*trail{}, open: map[key]*Disagreement{},
	}
	for _, w := range o.windows {
		o.tallies = append(o.tallies, Tally{Window: w})
	}
	return o
}

// See takes in one round. It returns the disagreements that have just outlived
// the shortest window, for whoever wants to look closer while they last.
func (o *Observer) See(look Look) (grown []Disagreement) {
	if o.began.IsZero() {
		o.began = look.At
	}
	o.rounds++
	for name := range look.Silent {
		o.silent[name]++
	}
	if look.Published == nil {
		return nil // there is nothing to compare with
	}
	for kind, want := range look.Published {
		o.trail(o.published, kind).note(want.Tag.Version(), want.Tag, look.At)
		if rows, ok := look.Source[kind]; ok {
			grown = append(grown, o.count(look, key{Redis, kind}, o.againstSource(look, kind, want, rows), want, rows)...)
		}
		for name, kinds := range look.Replicas {
			if have, ok := kinds[kind]; ok || want.Tag != "" {
				grown = append(grown, o.count(look, key{name, kind}, o.againstPublished(kind, have, want), have, want)...)
			}
		}
	}
	slices.SortFunc(grown, func(a, b Disagreement) int {
		return cmp.Or(strings.Compare(a.Subject, b.Subject), strings.Compare(string(a.Kind), string(b.Kind)))
	})
	return grown
}

// finding is the result of one comparison.
type finding struct {
	why   string    // "" for agreement
	since time.Time // zero: since now, or since an earlier round found the same
	ahead bool      // likely only read before what it is compared with: it has to be the same twice
}

func (o *Observer) againstPublished(kind snapshot.Kind, have, want State) finding {
	switch {
	case have.Tag == want.Tag && (!want.Tag.HasContent() || have.Digest == "" || want.Digest == "" || have.Digest == want.Digest):
		return finding{}
	case have.Tag == want.Tag:
		return finding{why: "the content is not that of its tag"}
	case have.Tag == "":
		return finding{why: "nothing is served"}
	case have.Tag.HasContent() && want.Tag.HasContent() && have.Digest != "" && have.Digest == want.Digest:
		return finding{} // the same content, numbered by two data sets
	case have.Tag.Version() < want.Tag.Version() && (want.Order.IsZero() || have.Order.Compare(want.Order) <= 0):
		return finding{why: "an older version is served", since: o.published[kind].after(have.Tag.Version())}
	}
	return finding{why: "another version is served", ahead: true}
}

func (o *Observer) againstSource(look Look, kind snapshot.Kind, have, rows State) finding {
	t := o.trail(o.source, kind)
	t.note(uint64(max(rows.Order.Revision, 0)), snapshot.Tag(rows.Order.String()), look.At)
	switch c := have.Order.Compare(rows.Order); {
	case have.Digest == rows.Digest, !have.Tag.HasContent() || have.Digest == "" || rows.Digest == "":
		return finding{}
	case c == 0:
		return finding{why: "the content is not that of the source at the same revision"}
	case c > 0:
		return finding{why: "the source is older than what is published", ahead: true}
	case have.Order.Lineage != rows.Order.Lineage:
		return finding{why: "another source is published"}
	}
	return finding{why: "an older revision is published", since: t.after(uint64(max(have.Order.Revision, 0)))}
}

// count takes one comparison into the tallies.
func (o *Observer) count(look Look, k key, f finding, have, want State) (grown []Disagreement) {
	d := o.open[k]
	if f.why == "" || d != nil && (d.Why != f.why || f.ahead && (d.Have != have || d.Want != want)) {
		o.end(k)
		d = nil
	}
	age := time.Duration(-1)
	if f.why != "" {
		since := f.since
		switch {
		case !since.IsZero():
		case d != nil:
			since = d.Since
		default:
			since = look.At
		}
		fresh := d == nil || d.Age() < o.windows[0]
		if d == nil || since.After(d.Since) {
			o.end(k) // it came as far as that, and fell behind anew
			d = &Disagreement{Subject: k.subject, Kind: k.kind, Why: f.why, Since: since}
			o.open[k] = d
			fresh = true
		}
		d.Have, d.Want, d.Until = have, want, look.At
		if age = d.Age(); fresh && age >= o.windows[0] {
			grown = append(grown, *d)
		}
	}
	for i := range o.tallies {
		t := &o.tallies[i]
		if look.At.Sub(o.began) < t.Window {
			continue
		}
		t.Observations++
		if age < t.Window {
			t.Agreeing++
		}
	}
	return grown
}

// end closes a disagreement, and keeps it if it outlived a window.
func (o *Observer) end(k key) {
	d := o.open[k]
	delete(o.open, k)
	if d == nil || d.Age() < o.windows[0] {
		return
	}
	if len(o.closed) == maxKept {
		o.closed = slices.Delete(o.closed, maxKept/2, maxKept/2+1)
		o.omitted++
	}
	d.Over = true
	o.closed = append(o.closed, *d)
}

// Tallies returns the counts, by rising window.
func (o *Observer) Tallies() []Tally { return slices.Clone(o.tallies) }

// Rounds is how many looks there were.
func (o *Observer) Rounds() int { return o.rounds }

// Silent counts the rounds in which each replica did not answer.
func (o *Observer) Silent() map[string]int { return o.silent }

// Omitted is how many disagreements are over and were too many to be kept.
func (o *Observer) Omitted() int { return o.omitted }

// Disagreements returns those that outlived the shortest window, the oldest first.
func (o *Observer) Disagreements() []Disagreement {
	out := slices.Clone(o.closed)
	for _, d := range o.open {
		if d.Age() >= o.windows[0] {
			out = append(out, *d)
		}
	}
	slices.SortStableFunc(out, func(a, b Disagreement) int {
		return cmp.Or(a.Since.Compare(b.Since), strings.Compare(a.Subject, b.Subject), strings.Compare(string(a.Kind), string(b.Kind)))
	})
	return out
}

func (o *Observer) trail(of map[snapshot.Kind]*trail, kind snapshot.Kind) *trail {
	if of[kind] == nil {
		of[kind] = &trail{}
	}
	return of[kind]
}
