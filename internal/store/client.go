package store

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/redis/go-redis/v9/maintnotifications"
)

// Timeouts of a small command. A frozen Redis is noticed after them, and the
// caller goes on with what it has in memory.
const (
	dialTimeout    = time.Second
	commandTimeout = time.Second
	bulkTimeout    = 10 * time.Second
	clusterReload  = 2 * time.Second // go-redis's own 60 s leaves a dead node in use for a minute
	idleConns      = 4               // what a burst of more needed is closed after it: after an outage every client has one
)

// Clients are the connections of one process, kept apart so that none waits
// for another: a whole read never delays a look.
type Clients struct {
	Command redis.UniversalClient // small commands and scripts
	Look    redis.UniversalClient // the head, on a connection of its own
	Bulk    redis.UniversalClient // whole reads and staging
	Bell    redis.UniversalClient // the subscription

	masters *masters // nil unless the URL names Sentinels
	content *lines   // of Look, Bulk and Bell
	command *lines   // of Command
}

// Dial prepares the clients of a Redis URL; nothing connects yet. Accepted are
// go-redis's own forms: redis://, rediss:// and unix://, several addr= for a
// Cluster, master_name= for Sentinel.
func Dial(rawURL string) (*Clients, error) {
	quietDriver()
	u, err := url.Parse(rawURL)
	if err != nil {
		return nil, errors.New("redis: the URL does not parse") // its text may hold a password
	}
	c := &Clients{content: newLines(), command: newLines()}
	newClient := newSingle
	switch {
	case u.Query().Get("master_name") != "":
		newClient = c.newFailover
	case len(u.Query()["addr"]) > 0:
		newClient = newCluster
	}
	for _, part := range []struct {
		to    *redis.UniversalClient
		lines *lines
		size  int
		read  time.Duration
	}{
		{&c.Command, c.command, 16, commandTimeout},
		{&c.Look, c.content, 2, commandTimeout},
		{&c.Bulk, c.content, 4, bulkTimeout},
		{&c.Bell, c.content, 2, commandTimeout},
	} {
		client, err := newClient(rawURL, part.lines, part.size, part.read)
		if err != nil {
			return nil, errors.Join(err, c.Close())
		}
		*part.to = client
	}
	return c, nil
}

// CutContent ends at once whatever waits for content or listens to the bell.
// Commands still go, such as those by which a process says goodbye.
func (c *Clients) CutContent() { c.content.cut() }

// Cut ends at once whatever waits for Redis, for good: a context that ends does
// not end a read that has begun.
func (c *Clients) Cut() {
	c.content.cut()
	c.command.cut()
}

// Close closes all connections.
func (c *Clients) Close() error {
	var errs []error
	for _, client := range []redis.UniversalClient{c.Command, c.Look, c.Bulk, c.Bell} {
		if client != nil {
			errs = append(errs, client.Close())
		}
	}
	if c.masters != nil {
		errs = append(errs, c.masters.close())
	}
	return errors.Join(errs...)
}

// The three kinds of clients have in common that contexts bound their I/O, and
// that a command is retried once at most: retries re-run scripts, and patience
// belongs to the loops above, which know what may be repeated. All of them read
// from masters alone, whatever the URL says: what a replica has is older.

func noMaintenance() *maintnotifications.Config {
	return &maintnotifications.Config{Mode: maintnotifications.ModeDisabled}
}

func newSingle(rawURL string, l *lines, poolSize int, read time.Duration) (redis.UniversalClient, error) {
	o, err := redis.ParseURL(rawURL)
	if err != nil {
		return nil, fmt.Errorf("redis: URL: %w", scrub(err))
	}
	o.DialTimeout, o.ReadTimeout, o.WriteTimeout = dialTimeout, read, read
	o.MaxIdleConns = min(poolSize, idleConns)
	o.ContextTimeoutEnabled, o.MaxRetries, o.DialerRetries, o.PoolSize = true, 1, 1, poolSize
	o.MaintNotificationsConfig, o.DisableIdentity = noMaintenance(), true
	o.MinIdleConns = 0 // they would be dialled before the hook is there
	client := redis.NewClient(o)
	client.AddHook(l)
	return client, nil
}

func (c *Clients) newFailover(rawURL string, l *lines, poolSize int, read time.Duration) (redis.UniversalClient, error) {
	o, err := redis.ParseFailoverURL(rawURL)
	if err != nil {
		return nil, fmt.Errorf("redis: sentinel URL: %w", scrub(err))
	}
	o.DialTimeout, o.ReadTimeout, o.WriteTimeout = dialTimeout, read, read
	o.MaxIdleConns = min(poolSize, idleConns)
	o.ContextTimeoutEnabled, o.MaxRetries, o.DialerRetries, o.PoolSize = true, 1, 1, poolSize
	o.DisableIdentity = true
	o.ReplicaOnly, o.RouteByLatency, o.RouteRandomly = false, false, false
	o.MinIdleConns = 0 // they would be dialled before the hook is there
	if c.masters == nil {
		c.masters = newMasters(o)
	}
	client := redis.NewFailoverClient(o)
	client.AddHook(l)
	client.AddHook(c.masters)
	return client, nil
}

func newCluster(rawURL string, l *lines, poolSize int, read time.Duration) (redis.UniversalClient, error) {
	o, err := redis.ParseClusterURL(rawURL)
	if err != nil {
		return nil, fmt.Errorf("redis: cluster URL: %w", scrub(err))
	}
	o.DialTimeout, o.ReadTimeout, o.WriteTimeout = dialTimeout, read, read
	o.MaxIdleConns = min(poolSize, idleConns)
	o.ContextTimeoutEnabled, o.DialerRetries, o.PoolSize = true, 1, poolSize
	// Redirections count as retries here, and it takes two to find a key whose
	// slot is on the move. The clients of single nodes retry nothing.
	o.MaxRetries, o.MaxRedirects = -1, 2
	o.ClusterStateReloadInterval = clusterReload
	o.MaintNotificationsConfig, o.DisableIdentity = noMaintenance(), true
	o.ReadOnly, o.RouteByLatency, o.RouteRandomly = false, false, false
	client := redis.NewClusterClient(o)
	client.AddHook(reloader{client})
	client.OnNewNode(func(node *redis.Client) { node.AddHook(l) })
	return client, nil
}

// scrub keeps an URL, and the password in it, out of an error.
func scrub(err error) error {
	if u, ok := errors.AsType[*url.Error](err); ok {
		return u.Err
	}
	return err
}

// Ping reports whether Redis answers a small command.
func (c *Clients) Ping(ctx context.Context) error { return c.Command.Ping(ctx).Err() }
