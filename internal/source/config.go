package source

import (
	"cmp"
	"context"
	"encoding/json"
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
//	errors  snapshot.ErrInvalid      the row, edited by hand, cannot be used
//	        snapshot.ErrNotFound     somebody deleted the row
//	        snapshot.ErrUnavailable  the database does not answer
func (d *DB) LoadConfig(ctx context.Context) (snapshot.VersionedConfig, error) {
	t, err := d.alone()
	if err != nil {
		return snapshot.VersionedConfig{}, err
	}
	c, err := t.config(ctx, "")
	if err == nil {
		err = storedConfig(c)
	}
	if err != nil {
		return snapshot.VersionedConfig{}, fmt.Errorf("load cache config: %w", err)
	}
	return c, nil
}

// SaveConfig changes the cache config: f gets it as it stands and changes it.
// f runs inside the transaction, so it must be quick, and it may run more than
// once. The version rises by one. by names who asks; "" is this replica.
//
//	errors  snapshot.ErrPrecondition  ifVersion is given and not the current version
//	        snapshot.ErrInvalid       the result fails its Check
//	        those of LoadConfig, and whatever f returned
func (d *DB) SaveConfig(ctx context.Context, ifVersion *int64, by string, f func(*snapshot.CacheConfig) error) (snapshot.VersionedConfig, error) {
	var c snapshot.VersionedConfig
	err := d.writing(ctx, func(t *tx) (err error) {
		if c, err = t.config(ctx, t.dialect().forUpdate); err != nil {
			return err
		}
		if ifVersion != nil && *ifVersion != c.Version {
			return fmt.Errorf("version is %d, not %d: %w", c.Version, *ifVersion, snapshot.ErrPrecondition)
		}
		before := c.CacheConfig
		if err := f(&c.CacheConfig); err != nil {
			return err
		}
		if c.Strategy == before.Strategy { // one that was bad may be replaced, and only that
			err = storedConfig(c)
		} else {
			err = c.Check()
		}
		if err != nil {
			return err
		}
		if c.CacheConfig == before {
			return nil // no new version: whoever holds this one still does
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

// storedConfig checks a config whose strategy was not given by a caller.
func storedConfig(c snapshot.VersionedConfig) error {
	if err := c.Strategy.Check(); err != nil {
		return fmt.Errorf("cache_config: %w", err)
	}
	return c.Check()
}

// config reads the row and, in a writing transaction, locks it. The strategy is
// not checked: whoever writes a better one must not stumble over it.
func (t *tx) config(ctx context.Context, lock string) (snapshot.VersionedConfig, error) {
	c := snapshot.VersionedConfig{CacheConfig: snapshot.DefaultCacheConfig()}
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
	case !strings.HasPrefix(strings.TrimSpace(body), "{"): // null would silently be the defaults
		return c, fmt.Errorf("cache_config.json is no JSON object: %w", snapshot.ErrInvalid)
	}
	if err := json.Unmarshal([]byte(body), &c.CacheConfig); err != nil {
		return c, fmt.Errorf("cache_config.json: %w: %w", snapshot.ErrInvalid, err)
	}
	if err := c.Check(); err != nil {
		return c, fmt.Errorf("cache_config.json: %w", err)
	}
	c.Strategy, c.UpdatedAt = strategy, time.UnixMilli(at)
	return c, nil
}
