package api

import (
	"context"
	"net/http"
	"time"

	"github.com/routex/cachewarmer/internal/snapshot"
)

// Fleet is what the API asks of all replicas together. Its errors wrap the
// sentinels of package snapshot.
type Fleet interface {
	// Warm loads, checks and publishes. A guard's refusal is a
	// *snapshot.Refusal or snapshot.Refused; while caching is switched off the
	// error is snapshot.ErrDisabled. The tags are by kind, as in a receipt.
	Warm(ctx context.Context, req snapshot.WarmRequest) (map[string]snapshot.Tag, error)
	// Invalidate marks kinds as having no current content; nil means all.
	Invalidate(ctx context.Context, kinds []snapshot.Kind, reason string) (map[string]snapshot.Tag, error)
	// Changed publishes what a write to the source changed. Where nothing is to
	// be published (caching off, changes not followed) it returns no tags and
	// no error.
	Changed(ctx context.Context, w snapshot.Written) (map[string]snapshot.Tag, error)
	// Config returns the fleet's config as the source holds it.
	Config(ctx context.Context) (snapshot.VersionedConfig, error)
	// SetConfig changes the config by f, and returns snapshot.ErrPrecondition
	// when ifVersion is given and is not the current version. f may be called
	// again after a lost race. A config with a Version beside an error means:
	// the source holds it, and Redis could not be told.
	SetConfig(ctx context.Context, ifVersion *int64, f func(*snapshot.CacheConfig) error) (snapshot.VersionedConfig, map[string]snapshot.Tag, error)
	// Stats returns the counters of the fleet.
	Stats(ctx context.Context) (snapshot.Stats, error)
	// ResetStats sets them to zero and leaves the content alone.
	ResetStats(ctx context.Context) error
	// Receipt waits until every live replica carries tags, or newer ones, and
	// at most wait; 0 looks once. Laggards at the deadline are no error.
	Receipt(ctx context.Context, tags map[string]snapshot.Tag, wait time.Duration) (snapshot.Receipt, error)
	// Replicas returns the live replicas.
	Replicas(ctx context.Context) ([]snapshot.ReplicaInfo, error)
	// Snapshots describes what is published, by kind.
	Snapshots(ctx context.Context) (map[snapshot.Kind]SnapshotInfo, error)
}

// SnapshotInfo is one kind as Redis holds it.
type SnapshotInfo struct {
	Meta   snapshot.Meta // of the last good content
	Tag    snapshot.Tag  // the head's: says whether that content is current
	Pinned bool
}

// Cache is this replica's own copy.
type Cache interface {
	// Read returns the copy of kind that this replica serves now. The error is
	// snapshot.ErrUnavailable when there is none.
	Read(ctx context.Context, kind snapshot.Kind) (Copy, error)
	// Status says how this replica stands. It never blocks.
	Status() snapshot.Status
}

// Copy is one kind as a replica serves it.
type Copy struct {
	Snapshot *snapshot.Snapshot
	Stale    bool // known to be out of date
}

// Source is the database that owns channels and rules. Every write returns
// where the source stands after it.
//
//	errors  snapshot.ErrNotFound   no such channel or rule
//	        snapshot.ErrConflict   the id or name is taken
//	        snapshot.ErrInvalid    the values cannot be used
//	        *snapshot.Refusal      a guard forbids it until it is forced
//	        snapshot.ErrUnavailable the database did not answer
//
// A reason that is not "" forces the write past the guards. The functions given
// to UpdateChannel and UpdateRule may be called more than once; their errors
// come back wrapped.
type Source interface {
	Channels(ctx context.Context) ([]snapshot.Channel, error)
	Channel(ctx context.Context, id string) (snapshot.Channel, error)
	// CreateChannel makes an id if c has none, and seals key.
	CreateChannel(ctx context.Context, c snapshot.Channel, key snapshot.Secret) (snapshot.Channel, snapshot.Written, error)
	// UpdateChannel seals and stores the key that f returns; nil keeps the old.
	UpdateChannel(ctx context.Context, id string, f func(*snapshot.Channel) (*snapshot.Secret, error), reason string) (snapshot.Channel, snapshot.Written, error)
	DeleteChannel(ctx context.Context, id, reason string) (snapshot.Written, error)

	Rules(ctx context.Context) ([]snapshot.Rule, error)
	Rule(ctx context.Context, id string) (snapshot.Rule, error)
	// CreateRule makes an id if r has none.
	CreateRule(ctx context.Context, r snapshot.Rule) (snapshot.Rule, snapshot.Written, error)
	UpdateRule(ctx context.Context, id string, f func(*snapshot.Rule) error, reason string) (snapshot.Rule, snapshot.Written, error)
	DeleteRule(ctx context.Context, id, reason string) (snapshot.Written, error)
}

// Explainer routes a request without sending it.
type Explainer interface {
	// Explain says what routing would do with a request to path, a route of the
	// data plane such as /v1/messages. The body is one JSON object; of the header
	// counts what counts for routing, such as X-Session-Id. A request that nobody
	// can serve is no error: the explanation says why. No counter moves.
	//
	//	errors  snapshot.ErrInvalid      the body is no request of that route
	//	        snapshot.ErrUnavailable  there is no copy to route by
	Explain(ctx context.Context, path string, body []byte, header http.Header) (*snapshot.Explanation, error)
}
