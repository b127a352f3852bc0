package store

import (
	"context"
	_ "embed"
	"errors"
	"log/slog"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"
	"github.com/redis/go-redis/v9"

	"github.com/routex/cachewarmer/internal/snapshot"
	"github.com/routex/cachewarmer/internal/snapshot/progress"
)

//go:embed publish.lua
var publishLua string

//go:embed invalidate.lua
var invalidateLua string

//go:embed config.lua
var configLua string

//go:embed loads.lua
var loadsLua string

//go:embed report.lua
var reportLua string

//go:embed retell.lua
var retellLua string

//go:embed live.lua
var liveLua string

var (
	publishScript    = redis.NewScript(publishLua)
	invalidateScript = redis.NewScript(invalidateLua)
	configScript     = redis.NewScript(configLua)
	loadsScript      = redis.NewScript(loadsLua)
	reportScript     = redis.NewScript(reportLua)
	retellScript     = redis.NewScript(retellLua)
	liveScript       = redis.NewScript(liveLua)
)

// Options are the tunables of a Store; the zero value means the defaults.
type Options struct {
	By            string        // id of this replica, written beside what it does
	ChangesBytes  int64         // bytes of change entries kept for each kind; 4 MiB
	DeltaRecords  int           // a larger change replaces the snapshot whole; 1,000
	DeltaBytes    int           // likewise, in bytes; 512 KiB
	ScanCount     int64         // records a step of a whole read asks for; 1,000
	LiveFor       time.Duration // a replica silent for longer is not live; 10 s
	RefusedLength int64         // refused candidates kept for each kind; 50
	BurstCeiling  time.Duration // how long an invalidation may wait for others; 0: none does
	// Keyring seals the hints that bells carry. nil: there are none, and those of
	// others are not read.
	Keyring  *snapshot.Keyring
	Progress *progress.Book // told of whole reads and of sets that are staged; one of its own
	Log      *slog.Logger   // slog.Default()
	Reg      prometheus.Registerer
}

// Store is one process's view of the fleet's Redis. It is safe for concurrent
// use and starts nothing by itself.
type Store struct {
	c        *Clients
	keys     Keys
	o        Options
	log      *slog.Logger
	errors   *prometheus.CounterVec
	troubles troubles
	seen     seen
	told     told
	voids    voids
	made     made
}

// New returns a Store on the clients, for the keys of one namespace.
func New(c *Clients, keys Keys, o Options) (*Store, error) {
	if c == nil || keys.prefix == "" {
		return nil, errors.New("store: clients and keys are required")
	}
	if o.By == "" {
		return nil, errors.New("store: By is required")
	}
	o.ChangesBytes = orElse(o.ChangesBytes, 4<<20)
	o.DeltaRecords = orElse(o.DeltaRecords, 1000)
	o.DeltaBytes = orElse(o.DeltaBytes, 512<<10)
	o.ScanCount = orElse(o.ScanCount, 1000)
	o.LiveFor = orElse(o.LiveFor, 10*time.Second)
	o.RefusedLength = orElse(o.RefusedLength, 50)
	if o.Log == nil {
		o.Log = slog.Default()
	}
	if o.Progress == nil {
		o.Progress = progress.NewBook(o.Log)
	}
	s := &Store{c: c, keys: keys, o: o, log: o.Log, voids: voids{turn: make(chan struct{}, 1)}}
	s.errors = promauto.With(o.Reg).NewCounterVec(prometheus.CounterOpts{
		Name: "routex_store_errors_total",
		Help: "Redis calls that failed, by class (timeout, refused, loading, readonly, oom, noperm, cluster, other).",
	}, []string{"class"})
	c.export(o.Reg)
	for _, class := range errorClasses {
		s.errors.WithLabelValues(class)
	}
	return s, nil
}

func orElse[T ~int | ~int64](v, fallback T) T {
	if v <= 0 {
		return fallback
	}
	return v
}

// Keys returns the names in use, for the locks.
func (s *Store) Keys() Keys { return s.keys }

// Ping reports whether Redis answers.
func (s *Store) Ping(ctx context.Context) error {
	if err := s.c.Ping(ctx); err != nil {
		return s.fault("ping", err)
	}
	return nil
}

// Head reads the head on a connection of its own. A Redis without one gives a
// Head that is not Known: flushed, evicted or new, never "empty".
//
//	source  hash head
//
// A field that somebody has edited into something that is no tag counts as
// missing, and is logged once.
//
//	errors  snapshot.ErrUnavailable  Redis did not answer
//	cost    one command
func (s *Store) Head(ctx context.Context) (snapshot.Head, error) {
	fields := s.c.Look.HGetAll(ctx, s.keys.Head())
	if err := fields.Err(); err != nil && !isWrongType(err) { // foreign data in our place is no head either
		return snapshot.Head{}, s.fault("read head", err)
	}
	return s.headOf(fields), nil
}

func (s *Store) headOf(fields *redis.MapStringStringCmd) snapshot.Head {
	s.examine(fields.Val(), isWrongType(fields.Err()))
	return parseHead(fields.Val())
}

func parseHead(fields map[string]string) snapshot.Head {
	h := snapshot.Head{Incarnation: fields["incarnation"], Tags: make(map[snapshot.Kind]snapshot.Tag, len(snapshot.Kinds))}
	for _, kind := range snapshot.Kinds {
		if tag, err := snapshot.ParseTag(fields[string(kind)]); err == nil && tag != "" {
			h.Tags[kind] = tag
		}
	}
	h.Config = number(fields["config"])
	return h
}
