package warmer

import (
	"context"

	"github.com/routex/cachewarmer/internal/snapshot"
)

// Source is the SQL database as a warm needs it.
type Source interface {
	// LoadSince reads everything in one transaction, or what changed since a state
	// of which it can say that for sure; nil: everything. A partial read is an error.
	LoadSince(ctx context.Context, since *snapshot.Point, withAnalytics bool) (*snapshot.Catalog, error)
	// MintLineage gives the source a new id that sorts after the given one.
	MintLineage(ctx context.Context, after string) (string, error)
	// Position reads where the source stands, in one cheap query.
	Position(ctx context.Context) (Position, error)
}

// Position is where the source stands.
type Position struct {
	Lineage   string
	Revisions map[snapshot.Kind]int64
	Config    int64 // version of cache_config
}

// Store is Redis as a warm needs it.
type Store interface {
	Head(ctx context.Context) (snapshot.Head, error)
	Pull(ctx context.Context, kind snapshot.Kind, have *snapshot.Snapshot) (*snapshot.Snapshot, error)
	Publish(ctx context.Context, p snapshot.Publication) (*snapshot.Published, error)
	Invalidate(ctx context.Context, kinds []snapshot.Kind, reason string, count int) (map[snapshot.Kind]snapshot.Tag, error)
	Refuse(ctx context.Context, r *snapshot.Refusal, o snapshot.Order, reason string) error
	// Begin is Standings and BeginLoad at once; a number of 0 is none.
	Begin(ctx context.Context, kinds []snapshot.Kind) (snapshot.Head, map[snapshot.Kind]snapshot.Standing, int64, error)
	BeginLoad(ctx context.Context) (int64, error)
	Loads(ctx context.Context) (int64, error)
	Standings(ctx context.Context, kinds []snapshot.Kind) (snapshot.Head, map[snapshot.Kind]snapshot.Standing, error)
	// Replicas lists the live replicas, with the schema each of them reads and
	// the highest order of each kind it served.
	Replicas(ctx context.Context) ([]snapshot.ReplicaInfo, error)
}

// Lock is the lease that at most one warm of the fleet holds. held is the exact
// value under its key; the context of f ends with the lease.
type Lock interface {
	Do(ctx context.Context, f func(ctx context.Context, held string) error) error
	Try(ctx context.Context, f func(ctx context.Context, held string) error) (bool, error)
}

// Serving is this process's own copy: what guards compare with when Redis has
// lost its own, and how far a replica may not step back.
type Serving interface {
	// Last is a copy that was published, by its tag; nil if there is none.
	Last(kind snapshot.Kind) *snapshot.Snapshot
	// LastGood is the newest copy, wherever it came from, also while it is not
	// served.
	LastGood(kind snapshot.Kind) *snapshot.Snapshot
	Floor(kind snapshot.Kind) snapshot.Order
	// Placed is the highest order that was read in Redis.
	Placed(kind snapshot.Kind) snapshot.Order
}
