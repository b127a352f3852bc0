package source

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/routex/cachewarmer/internal/snapshot"
)

// LoadConfig returns the fleet's cache config.
//
//	source  cache_config, row 1; fields that its JSON lacks have their defaults.
//	        The strategy is a column beside it, which a release that does not
//	        know of it leaves alone when it writes the others
//	errors  snapshot.ErrInvalid      the row, edited by hand, cannot be used; where
//	                                 that is the strategy alone, it is returned too
//	        snapshot.ErrNotFound     somebody deleted the row
//	        snapshot.ErrUnavailable  the database does not answer
func (d *DB) LoadConfig(ctx context.Context) (snapshot.VersionedConfig, error) {
	t, err := d.alone()
	if err != nil {
		return snapshot.VersionedConfig{}, err
	}
	c, err := t.config(ctx, "")
	if err != nil {
		return snapshot.VersionedConfig{}, fmt.Errorf("load cache config: %w", err)
	}
	if err := c.Strategy.Check(); err != nil {
		return c, fmt.Errorf("load cache config: cache_config: %w", err)
	}
	return c, nil
}

// SaveConfig changes the cache config: f gets it as it stands and changes it.
// f runs inside the transaction, so it must be quick, and it may run more than
// once. The version rises by one. by names who asks; "" is this replica.
//
// Where somebody has edited cache_config.json into something that cannot be used, f
// gets good, which everybody follows, and what it makes of that takes its place; nil
// is for callers who do not know of one. A strategy that this release does not know,
// because a later one has written it, is an error unless f chooses another.
//
//	errors  snapshot.ErrPrecondition  ifVersion is given and not the current version,
//	                                  or not that of good where it is used
//	        snapshot.ErrInvalid       the result fails its Check
//	        those of LoadConfig, and whatever f returned
func (d *DB) SaveConfig(ctx context.Context, ifVersion *int64, by string, good *snapshot.VersionedConfig, f func(*snapshot.CacheConfig) error) (snapshot.VersionedConfig, error) {
	var c snapshot.VersionedConfig
	err := d.writing(ctx, func(t *tx) (err error) {
		c, err = t.config(ctx, t.dialect().forUpdate)
		broken, version := errors.Is(err, snapshot.ErrInvalid) && good != nil, c.Version
		if err != nil && !broken {
			return err
		}
		if broken {
			strategy := c.Strategy // a column beside it
			c.CacheConfig, version = good.CacheConfig, good.Version
			c.Strategy, c.Version = strategy, max(c.Version, version) // the edit may have set a lower one
		}
		if ifVersion != nil && *ifVersion != version {
			return fmt.Errorf("version is %d, not %d: %w", version, *ifVersion, snapshot.ErrPrecondition)
		}
		changed, err := changeConfig(&c.CacheConfig, f)
		if err != nil || !changed && !broken {
			return err // without a change there is no new version: whoever holds this one still does
		}
		body, err := snapshot.Encode(c.CacheConfig)
		if err != nil {
			return err
		}
		c.Version, c.UpdatedBy = c.Version+1, cmp.Or(by, d.by)
		c.UpdatedAt = time.UnixMilli(max(time.Now().UnixMilli(), c.UpdatedAt.UnixMilli()+1))
		return t.exec(ctx, "update cache config",
			"UPDATE cache_config SET json = $1, strategy = $2, version = $3, updated_by = $4, updated_at = $5 WHERE id = 1",
			body, string(c.Strategy), c.Version, strings.ReplaceAll(c.UpdatedBy, "\x00", ""), c.UpdatedAt.UnixMilli())
	})
	if err != nil {
		return snapshot.VersionedConfig{}, fmt.Errorf("save cache config: %w", err)
	}
	return c, nil
}

// changeConfig changes c by f and checks it. A strategy that is not known is not
// shown to f, which would take the blame for it, and has to be replaced.
func changeConfig(c *snapshot.CacheConfig, f func(*snapshot.CacheConfig) error) (changed bool, err error) {
	before := *c
	if !c.Strategy.Known() {
		c.Strategy = ""
	}
	if err := f(c); err != nil {
		return false, err
	}
	if err := c.Check(); err != nil {
		return false, err
	}
	if c.Strategy == "" {
		return false, fmt.Errorf("cache_config: %w", before.Strategy.Check())
	}
	return *c != before, nil
}

// config reads the row and, in a writing transaction, locks it. The strategy is
// not checked: whoever writes a better one must not stumble over it. With a JSON that
// cannot be used all else is returned too.
func (t *tx) config(ctx context.Context, lock string) (snapshot.VersionedConfig, error) {
	var c snapshot.VersionedConfig
	var body string
	var strategy snapshot.Strategy
	var at int64
	found := false
	err := t.each(ctx, "cache_config", "SELECT json, strategy, version, updated_by, updated_at FROM cache_config WHERE id = 1"+lock, func(r Rows) error {
		found = true
		return r.Scan(&body, &strategy, &c.Version, &c.UpdatedBy, &at)
	})
	switch {
	case err != nil:
		return c, err
	case !found:
		return c, fmt.Errorf("cache_config has no row, restart to add it: %w", snapshot.ErrNotFound)
	}
	c.CacheConfig, err = parseConfig(body)
	c.Strategy, c.UpdatedAt = strategy, time.UnixMilli(at)
	if err != nil {
		return c, fmt.Errorf("cache_config.json: %w", err)
	}
	return c, nil
}

// parseConfig reads what people may have edited.
func parseConfig(body string) (snapshot.CacheConfig, error) {
	c := snapshot.DefaultCacheConfig()
	if !strings.HasPrefix(strings.TrimSpace(body), "{") { // null would silently be the defaults
		return c, fmt.Errorf("it is no JSON object: %w", snapshot.ErrInvalid)
	}
	if err := json.Unmarshal([]byte(body), &c); err != nil {
		return c, fmt.Errorf("%w: %w", snapshot.ErrInvalid, err)
	}
	return c, c.Check()
}
