package app

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promauto"

	"github.com/routex/cachewarmer/internal/api"
	"github.com/routex/cachewarmer/internal/audit"
	"github.com/routex/cachewarmer/internal/balancer"
	"github.com/routex/cachewarmer/internal/embedded"
	"github.com/routex/cachewarmer/internal/lease"
	"github.com/routex/cachewarmer/internal/proxy"
	"github.com/routex/cachewarmer/internal/replica"
	"github.com/routex/cachewarmer/internal/requestlog"
	"github.com/routex/cachewarmer/internal/settings"
	"github.com/routex/cachewarmer/internal/snapshot"
	"github.com/routex/cachewarmer/internal/snapshot/progress"
	"github.com/routex/cachewarmer/internal/source"
	"github.com/routex/cachewarmer/internal/store"
	"github.com/routex/cachewarmer/internal/warmer"
)

// Build says which program runs.
type Build struct {
	Version   string
	Commit    string
	GoVersion string
}

// Options are what a replica needs besides its settings.
type Options struct {
	Log      *slog.Logger // slog.Default()
	Build    Build
	Embedded bool // Redis is in this process, though the settings name its URL
	// Loaded, if set, runs in every warm between the load and the publication.
	Loaded func(ctx context.Context)
}

// App is one replica. New makes it, Run runs it once.
type App struct {
	settings    *settings.Settings
	o           Options
	log         *slog.Logger
	reg         *prometheus.Registry
	convergence prometheus.Histogram

	redis     *embedded.Server // nil unless the settings name no Redis
	clients   *store.Clients
	store     *store.Store
	progress  *progress.Book
	db        *database
	cache     *replica.Cache
	state     *keeper // nil without a state folder
	warmer    *warmer.Warmer
	refresher *warmer.Refresher
	auditor   *audit.Auditor
	balancer  *balancer.Balancer
	proxy     *proxy.Proxy
	journal   *requestlog.Journal
	leader    *lease.Lease
	warming   *lease.Lease // held for one warm
	api       *api.API
	listener  net.Listener
	server    *http.Server

	needs      needs      // what the replica lacks in Redis
	doubts     needs      // what the audit found to differ from the source
	pace       pace       // of warms asked for through the API
	following  sync.Mutex // held while followed and the cache's config change, together
	followed   atomic.Pointer[snapshot.VersionedConfig]
	configured chan struct{}          // 1 slot: followed changed
	evicts     atomic.Pointer[string] // why Redis may drop our keys; nil or "": it may not
	another    chan struct{}          // 1 slot: Redis may be another server now, or have a lock that nobody holds
	closers    []func() error
}

// New builds a replica: it binds its address, opens the database and prepares
// the connections to Redis. Neither has to answer yet.
//
//	errors  snapshot.ErrInvalid  the settings cannot work
//	        otherwise the address is taken, or a file cannot be used
func New(ctx context.Context, s *settings.Settings, o Options) (_ *App, err error) {
	if o.Log == nil {
		o.Log = slog.Default()
	}
	a := &App{
		settings: s, o: o, log: o.Log, reg: prometheus.NewRegistry(),
		needs: needs{wake: make(chan struct{}, 1)}, doubts: needs{wake: make(chan struct{}, 1)},
		configured: make(chan struct{}, 1), another: make(chan struct{}, 1),
		progress: progress.NewBook(o.Log),
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, a.close())
		}
	}()
	a.measure()
	for _, warning := range s.Warnings {
		a.log.Warn(warning)
	}
	if a.listener, err = (&net.ListenConfig{}).Listen(ctx, "tcp", s.Listen); err != nil {
		return nil, fmt.Errorf("listen on %s: %w", s.Listen, err)
	}
	a.closers = append(a.closers, a.listener.Close)
	keys, err := s.Keys()
	if err != nil {
		return nil, err
	}
	keyring, err := snapshot.NewKeyring(s.Namespace, keys...)
	if err != nil {
		return nil, err
	}
	a.state = a.newKeeper(keyring)
	if a.db, err = openDatabase(ctx, s.DatabaseURL, source.Options{Keyring: keyring, Progress: a.progress, Log: a.log, Reg: a.reg, By: s.ReplicaID}); err != nil {
		return nil, err
	}
	a.closers = append(a.closers, a.db.Close)
	if err := a.connect(keyring); err != nil {
		return nil, err
	}
	if err := a.assemble(); err != nil {
		return nil, err
	}
	if err := a.openDataPlane(keyring); err != nil {
		return nil, err
	}
	a.api, err = api.New(fleet{a}, copies{a.cache}, a.db, a.auditor, api.Options{
		AdminTokens: s.AdminTokens, ReadTokens: s.ReadTokens, Listen: s.Listen, AllowedHosts: s.AllowedHosts,
		Embedded: a.redis != nil || o.Embedded, Keyring: keyring, Log: a.log, Reg: a.reg, Gatherer: a.reg,
		Problems: a.problems, Explainer: smart{a}, DataPlane: a.proxy,
		Build: api.Build{Version: o.Build.Version, Commit: o.Build.Commit, Go: o.Build.GoVersion},
	})
	if err != nil {
		return nil, err
	}
	a.server = api.NewServer(a.Addr(), a.api, a.log)
	return a, nil
}

// measure sets up what is measured of the process as a whole.
func (a *App) measure() {
	a.reg.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	f := promauto.With(a.reg)
	f.NewGaugeVec(prometheus.GaugeOpts{
		Name: "routex_build_info", Help: "1, with the program's version, commit and Go version as labels.",
	}, []string{"version", "commit", "go"}).WithLabelValues(a.o.Build.Version, a.o.Build.Commit, a.o.Build.GoVersion).Set(1)
	a.convergence = f.NewHistogram(prometheus.HistogramOpts{
		Name:    "routex_convergence_seconds",
		Help:    "Seconds from a publication until every live replica served it, for writes that waited for the fleet.",
		Buckets: []float64{.001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10},
	})
}

// connect prepares Redis, and starts the embedded one if none is named.
func (a *App) connect(keyring *snapshot.Keyring) error {
	url := a.settings.RedisURL
	if url == "" {
		server, err := embedded.Start("127.0.0.1:0")
		if err != nil {
			return err
		}
		a.redis, url = server, server.URL()
		a.closers = append(a.closers, func() error { server.Close(); return nil })
		a.log.Warn("Redis is embedded: it lives in this process and serves this one replica; set ROUTEX_REDIS_URL for a fleet",
			"redis", server.Addr())
	}
	keys, err := store.NewKeys(a.settings.Namespace)
	if err != nil {
		return err
	}
	if a.clients, err = store.Dial(url); err != nil {
		return err
	}
	a.closers = append(a.closers, a.clients.Close)
	a.store, err = store.New(a.clients, keys, store.Options{
		By: a.settings.ReplicaID, BurstCeiling: a.settings.BurstCeiling, Keyring: keyring, Progress: a.progress, Log: a.log, Reg: a.reg,
	})
	return err
}

// assemble connects the hops with each other.
func (a *App) assemble() (err error) {
	s, keys := a.settings, a.store.Keys()
	first := snapshot.VersionedConfig{CacheConfig: snapshot.DefaultCacheConfig()}
	a.followed.Store(&first)
	locks := lease.Options{TTL: s.LeaseTTL, Holder: s.ReplicaID, Unsure: a.unsure, Log: a.log}
	if a.warming, err = lease.New(a.clients.Command, keys.WarmLock(), locks); err != nil {
		return err
	}
	locks.Reg = a.reg
	if a.leader, err = lease.New(a.clients.Command, keys.RefresherLock(), locks); err != nil {
		return err
	}
	if a.balancer, err = balancer.New(balancer.Options{Log: a.log, Reg: a.reg}); err != nil {
		return err
	}
	if a.cache, err = replica.New(a.store, replica.Options{
		ID: s.ReplicaID, Address: a.advertised(), Build: a.o.Build.Version,
		Poll: s.PollInterval, MaxUnverified: s.MaxUnverified, InvalidWait: s.InvalidWait,
		Refuse: s.UnverifiedPolicy == settings.PolicyRefuse, Guards: guards(s), Role: a.role,
		Compile: Compile(a.balancer), Installed: a.installed, Invalidated: a.invalidated, Breakers: a.breakers,
		NeedWarm: a.needs.add, LoadSource: a.loadSource, Restore: a.state.restorer(), OnConfig: a.fetchConfig, Progress: a.progress.Under,
		Hint: a.store.Hint,
		Log:  a.log, Reg: a.reg,
	}); err != nil {
		return err
	}
	if a.warmer, err = warmer.New(a.db, a.store, warmLock{a.warming}, serving{a.cache}, warmer.Options{
		Guards:       guards(s),
		BurstCeiling: s.BurstCeiling, Permit: a.permit, Log: a.log, Reg: a.reg, Loaded: a.o.Loaded,
	}); err != nil {
		return err
	}
	a.refresher, err = warmer.NewRefresher(a.warmer, warmer.RefresherOptions{
		SourcePoll: s.SourcePoll, Config: a.config, Configured: a.configured, SyncConfig: a.syncConfig,
		Counted: a.db.counted, Changes: a.db.changes, Log: a.log,
	})
	if err != nil {
		return err
	}
	a.auditor, err = a.newAuditor()
	return err
}

// guards are the limits that a load has to keep.
func guards(s *settings.Settings) snapshot.Guards {
	return snapshot.Guards{
		MaxRemoved: s.GuardMaxRemoved, MaxRecords: s.GuardMaxRecords,
		MaxBytes: int(s.GuardMaxBytes), MaxRecordBytes: int(s.GuardMaxRecordBytes),
	}
}

// role is the part this replica plays now.
func (a *App) role() snapshot.Role {
	if a.leader.Leading() {
		return snapshot.Refresher
	}
	return snapshot.Follower
}

// Addr is the address that was bound, as host:port.
func (a *App) Addr() string { return a.listener.Addr().String() }

// advertised is the address that the replica list shows.
func (a *App) advertised() string {
	if a.settings.Advertise != "" {
		return a.settings.Advertise
	}
	return a.Addr()
}

// close closes what New opened, last first.
func (a *App) close() error {
	var errs []error
	for _, closer := range slices.Backward(a.closers) {
		if err := closer(); err != nil && !errors.Is(err, net.ErrClosed) {
			errs = append(errs, err)
		}
	}
	a.closers = nil
	return errors.Join(errs...)
}
