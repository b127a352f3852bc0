package api_test

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"sync"
	"unicode/utf8"

	"github.com/routex/cachewarmer/internal/api"
	"github.com/routex/cachewarmer/internal/snapshot"
)

// fakeCache serves what it was given.
type fakeCache struct {
	copies map[snapshot.Kind]api.Copy
	status snapshot.Status
	fail   error
	boom   any                    // panics with it
	asked  snapshot.VerifyRequest // the newest one
}

func (f *fakeCache) Read(_ context.Context, kind snapshot.Kind) (api.Copy, error) {
	if f.boom != nil {
		panic(f.boom)
	}
	return f.copies[kind], f.fail
}

// Verify and Imprints say of every kind that c1 differs.
func (f *fakeCache) Verify(_ context.Context, r snapshot.VerifyRequest) []snapshot.Verified {
	f.asked = r
	var out []snapshot.Verified
	for _, kind := range r.Kinds {
		v := snapshot.Verified{
			Kind: kind, Served: snapshot.Side{Tag: content(7), Digest: 0xabc, Count: 2}, Agree: 1, Differ: 1,
			Mismatches: []snapshot.Mismatch{{Kind: kind, ID: "c1", Party: snapshot.PartyServed, Against: snapshot.PartyCopy, Tag: content(7), Fields: []string{"weight"}}},
			Events:     []snapshot.Event{{At: epoch, What: "pull", Tag: content(7), Note: "changed: ok"}},
		}
		if r.Redis {
			v.Redis = &snapshot.Side{Tag: content(7), Order: snapshot.Order{Lineage: "l", Revision: 9}, At: epoch}
		}
		if r.Source {
			v.Source, v.NotFollowed = &snapshot.Side{Err: "the source does not answer"}, "pinned"
		}
		out = append(out, v)
	}
	return out
}

func (f *fakeCache) Imprints(_ context.Context, _ snapshot.Kind, party snapshot.Party) (snapshot.Imprints, error) {
	if party == snapshot.PartySource {
		return snapshot.Imprints{}, fmt.Errorf("fingerprints: %w", snapshot.ErrUnavailable)
	}
	return snapshot.Imprints{Tag: content(7), Digest: 6, Records: []snapshot.Imprint{{ID: "a", Hash: 1}, {ID: "b", Hash: 2, Kept: true}, {ID: "c", Hash: 3}}}, f.fail
}

func (f *fakeCache) Status() snapshot.Status { return f.status }

// fakeSource is a database in memory, with the checks of the real one.
type fakeSource struct {
	mu       sync.Mutex
	keys     *snapshot.Keyring
	chans    []snapshot.Channel
	ruleset  []snapshot.Rule
	revision int64
	fail     error
	guard    error    // answered by writes without a reason
	reasons  []string // of the writes that took one
}

func (f *fakeSource) wrote(kinds ...snapshot.Kind) snapshot.Written {
	f.revision++
	w := snapshot.Written{Lineage: "l", Revisions: map[snapshot.Kind]int64{}}
	for _, k := range kinds {
		w.Revisions[k] = f.revision
	}
	return w
}

func (f *fakeSource) forced(reason string) error {
	f.reasons = append(f.reasons, reason)
	if reason == "" {
		return f.guard
	}
	return nil
}

// storable is what PostgreSQL says of text that it cannot hold.
func storable(id string) error {
	if !utf8.ValidString(id) || strings.ContainsRune(id, 0) {
		return fmt.Errorf("id %q reached the database: %w", id, snapshot.ErrUnavailable)
	}
	return nil
}

func (f *fakeSource) at(id string) (int, error) {
	if err := storable(id); err != nil {
		return 0, err
	}
	i := slices.IndexFunc(f.chans, func(c snapshot.Channel) bool { return c.ID == id })
	if i < 0 {
		return 0, fmt.Errorf("channel %q: %w", id, snapshot.ErrNotFound)
	}
	return i, f.fail
}

func (f *fakeSource) Channels(context.Context) ([]snapshot.Channel, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return slices.Clone(f.chans), f.fail
}

func (f *fakeSource) Channel(_ context.Context, id string) (snapshot.Channel, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	i, err := f.at(id)
	if err != nil {
		return snapshot.Channel{}, err
	}
	return f.chans[i], nil
}

func (f *fakeSource) CreateChannel(_ context.Context, c snapshot.Channel, key snapshot.Secret) (snapshot.Channel, snapshot.Written, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.fail != nil {
		return c, snapshot.Written{}, f.fail
	}
	if c.ID == "" {
		c.ID = "made-" + strconv.Itoa(len(f.chans))
	}
	for _, have := range f.chans {
		if have.ID == c.ID || have.Name == c.Name {
			return c, snapshot.Written{}, fmt.Errorf("create channel: the id or name is taken: %w", snapshot.ErrConflict)
		}
	}
	c.APIKey = f.keys.Seal(snapshot.Channels, c.ID, key)
	if err := c.Check(); err != nil {
		return c, snapshot.Written{}, fmt.Errorf("create channel reached the source unchecked: %w", snapshot.ErrUnavailable)
	}
	c.CreatedAt, c.UpdatedAt = epoch.UnixMilli(), epoch.UnixMilli()
	f.chans = append(f.chans, c)
	return c, f.wrote(snapshot.Channels, snapshot.Models), nil
}

func (f *fakeSource) UpdateChannel(_ context.Context, id string, change func(*snapshot.Channel) (*snapshot.Secret, error), reason string) (snapshot.Channel, snapshot.Written, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	i, err := f.at(id)
	if err != nil {
		return snapshot.Channel{}, snapshot.Written{}, err
	}
	c := f.chans[i]
	key, err := change(&c)
	if err != nil {
		return c, snapshot.Written{}, fmt.Errorf("update channel %q: %w", id, err)
	}
	if err := f.forced(reason); err != nil {
		return c, snapshot.Written{}, err
	}
	if key != nil {
		c.APIKey = f.keys.Seal(snapshot.Channels, id, *key)
	}
	f.chans[i] = c
	return c, f.wrote(snapshot.Channels, snapshot.Models), nil
}

func (f *fakeSource) DeleteChannel(_ context.Context, id, reason string) (snapshot.Written, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	i, err := f.at(id)
	if err != nil {
		return snapshot.Written{}, err
	}
	if err := f.forced(reason); err != nil {
		return snapshot.Written{}, err
	}
	f.chans = slices.Delete(f.chans, i, i+1)
	return f.wrote(snapshot.Channels, snapshot.Models), nil
}

func (f *fakeSource) ruleAt(id string) (int, error) {
	if err := storable(id); err != nil {
		return 0, err
	}
	i := slices.IndexFunc(f.ruleset, func(r snapshot.Rule) bool { return r.ID == id })
	if i < 0 {
		return 0, fmt.Errorf("rule %q: %w", id, snapshot.ErrNotFound)
	}
	return i, f.fail
}

func (f *fakeSource) Rules(context.Context) ([]snapshot.Rule, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return slices.Clone(f.ruleset), f.fail
}

func (f *fakeSource) Rule(_ context.Context, id string) (snapshot.Rule, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	i, err := f.ruleAt(id)
	if err != nil {
		return snapshot.Rule{}, err
	}
	return f.ruleset[i], nil
}

func (f *fakeSource) CreateRule(_ context.Context, r snapshot.Rule) (snapshot.Rule, snapshot.Written, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if r.ID == "" {
		r.ID = "made-" + strconv.Itoa(len(f.ruleset))
	}
	if err := r.Check(); err != nil {
		return r, snapshot.Written{}, fmt.Errorf("create rule reached the source unchecked: %w", snapshot.ErrUnavailable)
	}
	if _, err := f.ruleAt(r.ID); err == nil {
		return r, snapshot.Written{}, fmt.Errorf("create rule: id %q is taken: %w", r.ID, snapshot.ErrConflict)
	}
	f.ruleset = append(f.ruleset, r)
	return r, f.wrote(snapshot.RoutingRules), f.fail
}

func (f *fakeSource) UpdateRule(_ context.Context, id string, change func(*snapshot.Rule) error, reason string) (snapshot.Rule, snapshot.Written, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	i, err := f.ruleAt(id)
	if err != nil {
		return snapshot.Rule{}, snapshot.Written{}, err
	}
	r := f.ruleset[i]
	if err := change(&r); err != nil {
		return r, snapshot.Written{}, fmt.Errorf("update rule %q: %w", id, err)
	}
	if err := f.forced(reason); err != nil {
		return r, snapshot.Written{}, err
	}
	f.ruleset[i] = r
	return r, f.wrote(snapshot.RoutingRules), nil
}

func (f *fakeSource) DeleteRule(_ context.Context, id, reason string) (snapshot.Written, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	i, err := f.ruleAt(id)
	if err != nil {
		return snapshot.Written{}, err
	}
	if err := f.forced(reason); err != nil {
		return snapshot.Written{}, err
	}
	f.ruleset = slices.Delete(f.ruleset, i, i+1)
	return f.wrote(snapshot.RoutingRules), nil
}
