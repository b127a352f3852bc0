package snapshot_test

import (
	"fmt"
	"maps"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/routex/cachewarmer/internal/snapshot"
)

// version is what Records should hold, beside them.
type version struct {
	plain map[string]int
	recs  *snapshot.Records[int]
}

// agrees compares every way of reading.
func (v version) agrees(t *rapid.T, asked []string) {
	t.Helper()
	if v.recs.Len() != len(v.plain) {
		t.Fatalf("Len() = %d, want %d", v.recs.Len(), len(v.plain))
	}
	got := map[string]int{}
	for id, n := range v.recs.All() {
		if _, twice := got[id]; twice {
			t.Fatalf("All yields %q twice", id)
		}
		got[id] = n
	}
	if diff := cmp.Diff(v.plain, got); diff != "" {
		t.Fatalf("All (-want +got):\n%s", diff)
	}
	for _, id := range asked {
		n, ok := v.recs.Get(id)
		if want, there := v.plain[id]; n != want || ok != there || v.recs.At(id) != want {
			t.Fatalf("Get(%q) = %d, %v, want %d, %v", id, n, ok, want, there)
		}
	}
}

// since compares Since with a look at everything.
func (v version) since(t *rapid.T, before version) {
	t.Helper()
	want, got := map[string]snapshot.Changed[int]{}, map[string]snapshot.Changed[int]{}
	for id, n := range v.plain {
		if was, had := before.plain[id]; !had || was != n {
			want[id] = snapshot.Changed[int]{ID: id, Was: was, Is: n, Had: had, Has: true}
		}
	}
	for id, was := range before.plain {
		if _, has := v.plain[id]; !has {
			want[id] = snapshot.Changed[int]{ID: id, Was: was, Had: true}
		}
	}
	for c := range v.recs.Since(before.recs) {
		if _, twice := got[c.ID]; twice {
			t.Fatalf("Since yields %q twice", c.ID)
		}
		got[c.ID] = c
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Fatalf("Since (-want +got):\n%s", diff)
	}
}

// TestRecordsAreAMap follows random changes, small and large, and compares each
// version, and what it says of an earlier one, with plain maps.
func TestRecordsAreAMap(t *testing.T) {
	ids := make([]string, 900)
	for i := range ids {
		ids[i] = fmt.Sprint(i * i) // of one to six bytes
		if i%3 == 0 {
			ids[i] = fmt.Sprintf("channel-number-%d", i)
		}
	}
	rapid.Check(t, func(t *rapid.T) {
		all := []version{{map[string]int{}, nil}}
		for step := range rapid.IntRange(1, 12).Draw(t, "steps") {
			was := all[len(all)-1]
			size := rapid.SampledFrom([]int{1, 1, 3, 40, 400}).Draw(t, "size")
			set, gone := map[string]int{}, []string{"nobody"}
			for range size {
				id := rapid.SampledFrom(ids).Draw(t, "id")
				if rapid.IntRange(0, 2).Draw(t, "gone") == 0 {
					gone = append(gone, id, id)
				} else {
					set[id] = step
				}
			}
			next := version{maps.Clone(was.plain), was.recs.With(set, gone)}
			for _, id := range gone {
				delete(next.plain, id)
			}
			maps.Copy(next.plain, set)
			if rapid.IntRange(0, 9).Draw(t, "anew") == 0 {
				next.recs = snapshot.NewRecords(next.plain)
			}
			all = append(all, next)
		}
		for _, v := range all { // those before are as they were
			v.agrees(t, ids)
		}
		some := rapid.SampledFrom(all)
		for range 6 {
			some.Draw(t, "version").since(t, some.Draw(t, "before"))
		}
	})
}

// TestManyRecordsAreLaidOutByAllCores makes as many at once as several goroutines
// share.
func TestManyRecordsAreLaidOutByAllCores(t *testing.T) {
	const n = 30_000
	plain, listed := make(map[string]int, n), func(yield func(string, int) bool) {
		for i := range n {
			if !yield(fmt.Sprint("record-", i), i) {
				return
			}
		}
	}
	maps.Insert(plain, listed)
	few := snapshot.NewRecords(map[string]int{"record-0": -1, "gone": -2})
	for name, recs := range map[string]*snapshot.Records[int]{
		"of a list":        snapshot.RecordsOf(n, listed),
		"added to none":    snapshot.NewRecords(map[string]int{}).With(plain, nil),
		"in place of some": few.With(plain, []string{"gone", "record-0", "record-1"}),
	} {
		if got := maps.Collect(recs.All()); recs.Len() != n || !maps.Equal(got, plain) {
			t.Errorf("%s: Len() = %d, All() yields %d records; want %d, as they were given", name, recs.Len(), len(got), n)
		}
		for id, want := range plain {
			if got, ok := recs.Get(id); !ok || got != want {
				t.Fatalf("%s: Get(%q) = %d, %v, want %d", name, id, got, ok, want)
			}
		}
	}
	if few.Len() != 2 || few.At("record-0") != -1 || few.At("gone") != -2 {
		t.Errorf("those before have become %v", maps.Collect(few.All()))
	}
}

// TestIDsSpreadOverTheBuckets sees that no form of id makes a bucket long.
func TestIDsSpreadOverTheBuckets(t *testing.T) {
	const bound = 40 // of a mean of 7; by chance it is 22
	for name, form := range map[string]string{
		"short": "%x", "counted": "channel-%06d", "padded": "%032d", "long": "provider/region/%d/the-same-end-of-many-bytes", "zeros": "\x00\x00%d",
	} {
		recs := map[string]int{}
		for i := range 100_000 {
			recs[fmt.Sprintf(form, i)] = i
		}
		if got := snapshot.LongestBucket(snapshot.NewRecords(recs)); got > bound {
			t.Errorf("%s ids: %d share a bucket, at most %d should", name, got, bound)
		}
	}
}

// TestReadersOfEveryVersion reads while successors are made. The race detector
// and the values are the judges.
func TestReadersOfEveryVersion(t *testing.T) {
	const n, changes = 500, 2000
	first := map[string]int{}
	for i := range n {
		first[fmt.Sprint(i)] = 0
	}
	var newest atomic.Pointer[snapshot.Records[int]]
	newest.Store(snapshot.NewRecords(first))
	var done atomic.Bool
	var wg sync.WaitGroup
	for range 2 {
		wg.Go(func() {
			for last := 0; !done.Load(); {
				recs := newest.Load()
				got := recs.At("7")
				if got < last || recs.Len() != n || recs.At("7") != got {
					t.Errorf("record 7 was at %d and is at %d, of %d records", last, got, recs.Len())
					return
				}
				last = got
			}
		})
	}
	for i := range changes {
		newest.Store(newest.Load().With(map[string]int{"7": i, fmt.Sprint(i % n): i}, nil))
	}
	done.Store(true)
	wg.Wait()
}

// TestAChangeCopiesLittle is the promise that cost follows the change.
func TestAChangeCopiesLittle(t *testing.T) {
	const bound = 16
	for _, n := range []int{1000, 100_000} {
		recs := numbered(n)
		set := map[string]int{"channel-000777": -1}
		allocs := testing.AllocsPerRun(100, func() { recs.With(set, nil) })
		reads := testing.AllocsPerRun(100, func() { recs.At("channel-000777") })
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		for range 100 {
			recs.With(set, nil)
		}
		runtime.ReadMemStats(&after)
		bytes := (after.TotalAlloc - before.TotalAlloc) / 100
		t.Logf("figure: one change of %d records allocates %.0f times and %d bytes, at most %d and 8192 are allowed; a read %.0f times, 0 is", n, allocs, bytes, bound, reads)
		if allocs > bound || bytes > 8192 || reads > 0 {
			t.Error("that is too much")
		}
		if !recs.With(set, nil).Kin(recs) || numbered(n).Kin(recs) {
			t.Error("what a change shares is not seen, or what nobody shares is")
		}
	}
}

func numbered(n int) *snapshot.Records[int] {
	recs := make(map[string]int, n)
	for i := range n {
		recs[fmt.Sprintf("channel-%06d", i)] = i
	}
	return snapshot.NewRecords(recs)
}

// TestSharingKeepsOneTextOfEachRecord reads a set anew, and sees that it takes
// the texts that are there already.
func TestSharingKeepsOneTextOfEachRecord(t *testing.T) {
	texts := func(changed string) map[string]string {
		out := map[string]string{}
		for i := range 100 {
			out[fmt.Sprint(i)] = fmt.Sprintf(`{"id":"%d"}`, i)
		}
		out["7"] = changed
		return out
	}
	before := snapshot.NewSet(snapshot.Channels, texts("old"))
	again := snapshot.NewSet(snapshot.Channels, texts("new"))
	got := again.Sharing(before)
	if got == again || got.Digest() != again.Digest() || got.Bytes() != again.Bytes() || got.Recount() != got.Digest() {
		t.Fatalf("it is not the same set: %s, want %s", got.Digest(), again.Digest())
	}
	if got.Sharing(before) != got || before.Sharing(before) != before || again.Sharing(nil) != again {
		t.Error("what shares already is made anew")
	}
	if other := snapshot.NewSet(snapshot.Models, texts("new")); other.Sharing(before) != other {
		t.Error("it shares with another kind")
	}
	for i := range 100 {
		if text, _ := got.Get(fmt.Sprint(i)); i != 7 && !sameText(text, before, fmt.Sprint(i)) {
			t.Fatalf("record %d has a text of its own", i)
		}
	}
	torn := snapshot.NewSet(snapshot.Channels, texts("old"))
	snapshot.Overcount(torn)
	if again.Sharing(torn) != again {
		t.Error("it shares with a set that is not what its digest says")
	}
}
