// Package progress tells people how far work is that takes long: it should not
// look like work that hangs.
//
//	Begin ──Add──▶ Book ──Under──▶ /readyz
//	          └──a line a second──▶ log
//
// The log hears nothing of work that ends within a second.
package progress

import (
	"cmp"
	"log/slog"
	"maps"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/routex/cachewarmer/internal/snapshot"
)

// sayEvery is how often the log hears of work that takes long.
const sayEvery = time.Second

// words are what the log says while work is under way, and when it is over.
var words = map[snapshot.WorkName][2]string{
	snapshot.WorkSource:  {"Cache is being read whole from the source", "Cache was read whole from the source"},
	snapshot.WorkPublish: {"Cache is being staged in Redis", "Cache was staged in Redis"},
	snapshot.WorkRedis:   {"Cache is being read whole from Redis", "Cache was read whole from Redis"},
}

// Book knows the work of this process that is under way. It is safe for
// concurrent use.
type Book struct {
	log *slog.Logger

	mu    sync.Mutex
	under map[*Work]struct{}
}

// NewBook returns a Book that tells log, by default slog.Default(), of what takes
// long.
func NewBook(log *slog.Logger) *Book {
	return &Book{log: cmp.Or(log, slog.Default()), under: map[*Work]struct{}{}}
}

// Work is one piece of it. One goroutine does it.
type Work struct {
	b     *Book
	name  snapshot.WorkName
	kind  snapshot.Kind
	of    int
	began time.Time
	said  time.Time // when the log last heard of it
	loud  bool      // the log has heard of it
	done  atomic.Int64
}

// Begin notes work on so many records of kind, until End.
func (b *Book) Begin(name snapshot.WorkName, kind snapshot.Kind, of int) *Work {
	now := time.Now()
	w := &Work{b: b, name: name, kind: kind, of: of, began: now, said: now}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.under[w] = struct{}{}
	return w
}

// Add notes that n more records are done, and says so once in a while. It does
// nothing for a nil Work.
func (w *Work) Add(n int) {
	if w == nil {
		return
	}
	done := w.done.Add(int64(n))
	if time.Since(w.said) < sayEvery {
		return
	}
	w.said, w.loud = time.Now(), true
	w.b.log.Info(words[w.name][0], "kind", w.kind, "records", done, "of", w.of, "for", time.Since(w.began).Round(time.Millisecond))
}

// End notes that it is over.
func (w *Work) End() {
	w.b.mu.Lock()
	delete(w.b.under, w)
	w.b.mu.Unlock()
	if w.loud {
		w.b.log.Info(words[w.name][1], "kind", w.kind, "records", w.done.Load(), "took", time.Since(w.began).Round(time.Millisecond))
	}
}

// Under lists what is under way, in the order in which a record passes: of the
// same work on the same kind the one that has come farthest.
func (b *Book) Under() []snapshot.Progress {
	type one struct {
		name snapshot.WorkName
		kind snapshot.Kind
	}
	farthest := map[one]snapshot.Progress{}
	b.mu.Lock()
	defer b.mu.Unlock()
	for w := range b.under {
		p := snapshot.Progress{Work: w.name, Kind: w.kind, Done: int(w.done.Load())}
		p.Of = max(w.of, p.Done)
		if was, some := farthest[one{w.name, w.kind}]; p.Of > 0 && (!some || p.Done >= was.Done) {
			farthest[one{w.name, w.kind}] = p
		}
	}
	return slices.SortedFunc(maps.Values(farthest), func(a, b snapshot.Progress) int {
		return cmp.Or(cmp.Compare(a.Work.Index(), b.Work.Index()), cmp.Compare(a.Kind.Index(), b.Kind.Index()))
	})
}
