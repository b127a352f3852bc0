package audit

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/routex/cachewarmer/internal/snapshot"
)

// Held is one kind as the replica holds it at one moment. It is not changed.
type Held struct {
	Snapshot *snapshot.Snapshot             // the copy, with its tag
	IDs      func() []string                // of the compiled records
	Text     func(id string) (string, bool) // a compiled record, encoded anew
	Faults   map[string]snapshot.Fault      // by id: records that do not decode here
}

// Cache is this replica's copy.
type Cache interface {
	// Held returns what is served of kind from memory, and false if nothing is.
	Held(kind snapshot.Kind) (Held, bool)
	// Mend replaces a copy that was found damaged at that tag.
	Mend(kind snapshot.Kind, tag snapshot.Tag) (done string, err error)
	// Recent returns what last happened to kind here.
	Recent(kind snapshot.Kind) []snapshot.Event
}

// Store is Redis, just as it is found.
type Store interface {
	Inspect(ctx context.Context, kind snapshot.Kind, ids []string) (snapshot.Inspection, error)
}

// Options says how an Auditor works. Zero fields mean the defaults given.
type Options struct {
	Interval    time.Duration // between two samples, jittered; 0: Run does nothing
	Sample      int           // records of each kind in a sample at most; 100
	SampleBytes int           // of these records together, about; 4096
	WholeEvery  int           // one round in so many compares all records; 20
	SourceEvery time.Duration // least between two reads of the source by Run; 1m
	// ReadSource reads the source in one transaction, as a load would publish
	// it. nil: it is never read.
	ReadSource func(ctx context.Context) (map[snapshot.Kind]*snapshot.Snapshot, error)
	// Enabled says whether the cache is in use; Run does nothing while it is not.
	// nil: it always is.
	Enabled func() bool
	// Follows says whether changes of the source are published without anybody
	// asking for it. nil: they are.
	Follows func() bool
	// Refreshing says whether this replica is the one that reads the source.
	// nil: it is not.
	Refreshing func() bool
	// Publish has kinds loaded and published again, because what stands in Redis
	// is wrong. damaged: it is not what its tag says. It must not block. nil:
	// nobody is asked.
	Publish func(kinds []snapshot.Kind, damaged bool, why string)

	Log *slog.Logger          // slog.Default()
	Reg prometheus.Registerer // nil: metrics work but are not exported
}

// Auditor compares. It is safe for concurrent use.
type Auditor struct {
	cache Cache
	store Store
	o     Options
	log   *slog.Logger
	m     *metrics

	whole  *memo[string, []snapshot.Verified]
	redis  *memo[snapshot.Kind, snapshot.Inspection]
	source *memo[struct{}, map[snapshot.Kind]*snapshot.Snapshot]

	rounds int                  // of Run
	readAt time.Time            // when Run last read the source
	told   map[string]time.Time // mismatches that were logged
}

// New returns an Auditor of cache. It starts nothing; Run does.
func New(cache Cache, store Store, o Options) (*Auditor, error) {
	if cache == nil || store == nil {
		return nil, errors.New("audit: cache and store are required")
	}
	if o.Interval < 0 || o.Sample < 0 || o.SampleBytes < 0 || o.WholeEvery < 0 || o.SourceEvery < 0 {
		return nil, fmt.Errorf("audit: Interval %v, Sample %d, SampleBytes %d, WholeEvery %d, SourceEvery %v: want 0 or more",
			o.Interval, o.Sample, o.SampleBytes, o.WholeEvery, o.SourceEvery)
	}
	o.Sample, o.SampleBytes, o.WholeEvery = cmp.Or(o.Sample, 100), cmp.Or(o.SampleBytes, 4096), cmp.Or(o.WholeEvery, 20)
	o.SourceEvery = cmp.Or(o.SourceEvery, time.Minute)
	a := &Auditor{
		cache: cache, store: store, o: o, log: cmp.Or(o.Log, slog.Default()), m: newMetrics(o.Reg),
		whole: newMemo[string, []snapshot.Verified](0), redis: newMemo[snapshot.Kind, snapshot.Inspection](memoFor),
		source: newMemo[struct{}, map[snapshot.Kind]*snapshot.Snapshot](memoFor), told: map[string]time.Time{},
	}
	return a, nil
}

// movedTries is how often a whole read of Redis begins anew because a version
// came meanwhile.
const movedTries = 3

// wholeRedis reads all that Redis holds of kind.
func (a *Auditor) wholeRedis(ctx context.Context, kind snapshot.Kind) (snapshot.Inspection, error) {
	in, _, err := a.redis.get(ctx, kind, func(ctx context.Context) (in snapshot.Inspection, err error) {
		for range movedTries {
			if in, err = a.store.Inspect(ctx, kind, nil); err != nil || !in.Moved {
				break
			}
		}
		return in, err
	})
	return in, err
}

// wholeSource reads the source.
func (a *Auditor) wholeSource(ctx context.Context) (map[snapshot.Kind]*snapshot.Snapshot, time.Time, error) {
	if a.o.ReadSource == nil {
		return nil, time.Time{}, fmt.Errorf("the source is not read by this replica: %w", snapshot.ErrUnavailable)
	}
	return a.source.get(ctx, struct{}{}, a.o.ReadSource)
}
