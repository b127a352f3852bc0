package observer_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/routex/cachewarmer/internal/observer"
	"github.com/routex/cachewarmer/internal/snapshot"
)

var start = time.UnixMilli(1760697683939)

const lineage = "0190000000000-aaaaaaaa"

// at is version v of channels as somebody holds it: revision and content follow
// from the version, unless wrong says that the content is other.
func at(v uint64, wrong ...string) observer.State {
	s := observer.State{
		Tag: snapshot.NewTag(v, snapshot.Digest(v)<<32), Digest: fmt.Sprintf("%016x", v), Count: 3,
		Order: snapshot.Order{Lineage: lineage, Revision: int64(v)},
	}
	if len(wrong) > 0 {
		s.Digest = wrong[0]
	}
	return s
}

// renumbered is version v as a data set that began later numbers it.
func renumbered(v, number uint64) observer.State {
	s := at(v)
	s.Tag = snapshot.NewTag(number, snapshot.Digest(v)<<32)
	return s
}

// step is what one round sees of channels.
type step struct {
	after     time.Duration
	source    observer.State // zero: not read
	published observer.State // zero: Redis does not answer
	replica   observer.State // zero: it does not answer
}

// steady repeats a step every half second from..to.
func steady(from, to time.Duration, s step) (out []step) {
	for d := from; d <= to; d += 500 * time.Millisecond {
		s.after = d
		out = append(out, s)
	}
	return out
}

func see(o *observer.Observer, steps []step) (grown []observer.Disagreement) {
	kind := snapshot.Channels
	for _, s := range steps {
		look := observer.Look{At: start.Add(s.after), Replicas: map[string]map[snapshot.Kind]observer.State{}, Silent: map[string]string{}}
		if s.published != (observer.State{}) {
			look.Published = map[snapshot.Kind]observer.State{kind: s.published}
		}
		if s.source != (observer.State{}) {
			look.Source = map[snapshot.Kind]observer.State{kind: s.source}
		}
		if s.replica != (observer.State{}) {
			look.Replicas["r1"] = map[snapshot.Kind]observer.State{kind: s.replica}
		} else {
			look.Silent["r1"] = "connection refused"
		}
		grown = append(grown, o.See(look)...)
	}
	return grown
}

func TestWhatCountsAsDisagreement(t *testing.T) {
	const s = time.Second
	invalid := observer.State{Tag: snapshot.InvalidTag(8)}
	churn := func() (out []step) { // each round two versions more, one of them never seen; the replica is one behind
		for i := range uint64(20) {
			out = append(out, step{after: time.Duration(i) * s / 2, published: at(10 + 2*i), replica: at(9 + 2*i)})
		}
		return out
	}
	ahead := func() (out []step) { // each round the replica is read after the next version came
		for i := range uint64(20) {
			out = append(out, step{after: time.Duration(i) * s / 2, source: at(9 + i), published: at(10 + i), replica: at(11 + i)})
		}
		return out
	}
	tests := []struct {
		name  string
		steps []step
		// differ is the number of disagreeing observations for 1 s, 2 s, 5 s.
		differ [3]int64
		why    string // of the disagreement that outlived 1 s; "" for none
	}{
		{"everything is the same", steady(0, 6*s, step{source: at(7), published: at(7), replica: at(7)}), [3]int64{}, ""},
		{"one field is wrong at the right tag", steady(0, 3*s, step{published: at(7), replica: at(7, "other")}), [3]int64{5, 3, 0}, "the content is not that of its tag"},
		{"what is wrong is mended in time", append(steady(0, s/2, step{published: at(7), replica: at(7, "other")}), steady(s, 6*s, step{published: at(7), replica: at(7)})...), [3]int64{}, ""},
		{"a content that stays wrong over new versions is one disagreement", append(steady(0, 2*s, step{published: at(7), replica: at(7, "x")}), steady(5*s/2, 4*s, step{published: at(8), replica: at(8, "y")})...), [3]int64{7, 5, 0}, "the content is not that of its tag"},
		{"a replica stays behind", append(steady(0, s, step{published: at(7), replica: at(7)}), steady(3*s/2, 4*s, step{published: at(8), replica: at(7)})...), [3]int64{4, 2, 0}, "an older version is served"},
		{"a replica is behind by a little all the time", churn(), [3]int64{}, ""},
		{"the version it serves was never seen by us", append(steady(0, 3*s, step{published: at(5), replica: at(5)}), steady(7*s/2, 6*s, step{published: at(9), replica: at(7)})...), [3]int64{4, 2, 0}, "an older version is served"},
		{"a replica was read after the next version came", steady(0, 0, step{published: at(7), replica: at(8)}), [3]int64{}, ""},
		{"a replica serves a version of another data set, and a greater one", steady(0, 3*s, step{published: at(2), replica: at(40)}), [3]int64{5, 3, 0}, "another version is served"},
		{"a flush begins the numbers anew", append(steady(0, s, step{published: at(40), replica: at(40)}), steady(3*s/2, 6*s, step{published: at(1), replica: at(1)})...), [3]int64{}, ""},
		{"each reading comes before the next version", ahead(), [3]int64{}, ""},
		{"a version of the data set after a flush is older by a moment", append(append(steady(0, 4*s, step{published: at(40), replica: at(40)}), steady(9*s/2, 6*s, step{published: at(1), replica: at(1)})...), step{after: 13 * s / 2, published: at(2), replica: at(1)}), [3]int64{}, ""},
		{"a replica was read after a flush that we have not seen yet", append(steady(0, 4*s, step{published: at(7), replica: at(7)}), append(steady(9*s/2, 6*s, step{published: at(8), replica: at(8)}), step{after: 13 * s / 2, published: at(8), replica: renumbered(9, 1)})...), [3]int64{}, ""},
		{"the same content under the number of another data set", steady(0, 6*s, step{published: at(7), replica: renumbered(7, 3)}), [3]int64{}, ""},
		{"an invalid kind is known to be invalid", steady(0, 6*s, step{published: invalid, replica: invalid}), [3]int64{}, ""},
		{"an invalid kind is served as good", append(steady(0, 0, step{published: at(7), replica: at(7)}), steady(s/2, 3*s, step{published: invalid, replica: at(7)})...), [3]int64{4, 2, 0}, "an older version is served"},
		{"nothing is served", steady(0, 3*s, step{published: at(7), replica: observer.State{Count: 1}}), [3]int64{5, 3, 0}, "nothing is served"},
		{"Redis is behind the source", append(steady(0, s, step{source: at(7), published: at(7), replica: at(7)}), steady(3*s/2, 4*s, step{source: at(8), published: at(7), replica: at(7)})...), [3]int64{4, 2, 0}, "an older revision is published"},
		{"Redis holds other content than the source at its revision", steady(0, 3*s, step{source: at(7, "rows"), published: at(7), replica: at(7)}), [3]int64{5, 3, 0}, "the content is not that of the source at the same revision"},
		{"the source was read before a change that is published", append(steady(0, 0, step{source: at(6), published: at(7), replica: at(7)}), steady(s/2, 6*s, step{source: at(7), published: at(7), replica: at(7)})...), [3]int64{}, ""},
		{"the source went back", steady(0, 3*s, step{source: at(6), published: at(7), replica: at(7)}), [3]int64{5, 3, 0}, "the source is older than what is published"},
		{"the revision moved and the content did not", steady(0, 6*s, step{source: func() observer.State { x := at(8); x.Digest = at(7).Digest; return x }(), published: at(7), replica: at(7)}), [3]int64{}, ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			o := observer.New([]time.Duration{5 * s, s, 2 * s})
			grown := see(o, tt.steps)
			var differ [3]int64
			for i, tally := range o.Tallies() {
				differ[i] = tally.Observations - tally.Agreeing
			}
			if differ != tt.differ {
				t.Errorf("%v observations differ, want %v", differ, tt.differ)
			}
			all := o.Disagreements()
			switch {
			case tt.why == "" && (len(all) > 0 || len(grown) > 0):
				t.Errorf("it reports %+v", all)
			case tt.why != "" && (len(all) != 1 || len(grown) != 1 || all[0].Why != tt.why):
				t.Errorf("it reports %+v, and while it lasted %+v; want one: %s", all, grown, tt.why)
			}
		})
	}
}

func TestObservationsAreOfThingsThatCanBeThatOld(t *testing.T) {
	o := observer.New([]time.Duration{time.Second, time.Minute})
	see(o, steady(0, 3*time.Second, step{published: at(7), replica: at(7)}))
	all := o.Tallies()
	if all[0].Observations != 5 || all[0].Share() != "100 %" {
		t.Errorf("a window of 1s has %+v after 3s in 7 rounds, want the 5 from 1s on", all[0])
	}
	if all[1].Observations != 0 || all[1].Share() != "none" {
		t.Errorf("a window of 1m has %+v after 3s, want none", all[1])
	}
}

func TestWhoDoesNotAnswerIsNoObservation(t *testing.T) {
	o := observer.New([]time.Duration{time.Second})
	see(o, append(steady(0, 2*time.Second, step{published: at(7)}), steady(5*time.Second/2, 4*time.Second, step{replica: at(7)})...))
	if got := o.Tallies()[0]; got.Observations != 0 {
		t.Errorf("%+v, want no observation", got)
	}
	if o.Silent()["r1"] != 5 || o.Rounds() != 9 {
		t.Errorf("silent %v in %d rounds, want r1 in 5 of 9", o.Silent(), o.Rounds())
	}
}

func TestShareNeverLooksWhole(t *testing.T) {
	for _, tt := range []struct {
		agreeing, of int64
		want         string
	}{
		{0, 0, "none"},
		{0, 4, "0.00 %"},
		{3, 4, "75.00 %"},
		{999, 1000, "99.90 %"},
		{999_999, 1_000_000, "99.99990 %"},
		{9_999_999, 10_000_000, "99.999990 %"},
		{10, 10, "100 %"},
	} {
		got := observer.Tally{Observations: tt.of, Agreeing: tt.agreeing}.Share()
		if got != tt.want {
			t.Errorf("%d of %d is %s, want %s", tt.agreeing, tt.of, got, tt.want)
		}
		if tt.agreeing < tt.of && strings.HasPrefix(got, "100") {
			t.Errorf("%d of %d looks whole: %s", tt.agreeing, tt.of, got)
		}
	}
}

func TestSeveralSubjectsAreToldApart(t *testing.T) {
	o := observer.New([]time.Duration{time.Second})
	for i := range 5 {
		o.See(observer.Look{
			At:        start.Add(time.Duration(i) * time.Second / 2),
			Published: map[snapshot.Kind]observer.State{snapshot.Channels: at(7), snapshot.Models: at(3)},
			Replicas: map[string]map[snapshot.Kind]observer.State{
				"r1": {snapshot.Channels: at(7), snapshot.Models: at(3)},
				"r2": {snapshot.Channels: at(7), snapshot.Models: at(3, "x")},
			},
		})
	}
	all := o.Disagreements()
	if !slices.ContainsFunc(all, func(d observer.Disagreement) bool { return d.Subject == "r2" && d.Kind == snapshot.Models && !d.Over }) || len(all) != 1 {
		t.Errorf("it reports %+v, want the models of r2", all)
	}
}

// Whoever falls behind again and again is named for each time that counted.
func TestWhoFallsBehindAnewIsNamedForBoth(t *testing.T) {
	const s = time.Second
	o := observer.New([]time.Duration{s})
	steps := steady(0, s, step{published: at(7), replica: at(7)})
	steps = append(steps, steady(3*s/2, 4*s, step{published: at(8), replica: at(7)})...)
	steps = append(steps, steady(9*s/2, 5*s, step{published: at(9), replica: at(8)})...)
	see(o, steps)
	if tally := o.Tallies()[0]; tally.Observations-tally.Agreeing != 4 {
		t.Fatalf("%+v, want 4 that differ", tally)
	}
	all := o.Disagreements()
	if len(all) != 1 || !all[0].Over || all[0].Have.Tag != at(7).Tag || all[0].Want.Tag != at(8).Tag {
		t.Errorf("it reports %+v, want the one in which version 7 was served", all)
	}
}

func TestALongWatchKeepsTheFirstAndTheNewest(t *testing.T) {
	const s = time.Second
	o := observer.New([]time.Duration{s})
	const times = 1500
	for i := range times {
		from := time.Duration(i) * 10 * s
		see(o, steady(from, from+2*s, step{published: at(7), replica: at(7, "other")}))
		see(o, []step{{after: from + 3*s, published: at(7), replica: at(7)}})
	}
	all := o.Disagreements()
	if len(all)+o.Omitted() != times || len(all) > 1000 {
		t.Fatalf("%d are kept and %d are not, of %d", len(all), o.Omitted(), times)
	}
	first, last := all[0].Since.Sub(start), all[len(all)-1].Since.Sub(start)
	if first != 0 || last != (times-1)*10*s {
		t.Errorf("they are of %v to %v, want the first and the last", first, last)
	}
}
