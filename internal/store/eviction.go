package store

import (
	"context"
	"fmt"
	"strings"

	"github.com/routex/cachewarmer/internal/snapshot"
)

// EvictionWarning returns a sentence for people if Redis may evict our keys,
// and "" if it may not or does not say. Locks and registrations have a time to
// live, so even the volatile policies take them.
//
//	cost  one command
func (s *Store) EvictionWarning(ctx context.Context) (string, error) {
	info, err := s.c.Command.Info(ctx, "memory").Result()
	if err != nil {
		return "", fmt.Errorf("read the eviction policy: %w: %w", snapshot.ErrUnavailable, err)
	}
	fields := map[string]string{}
	for line := range strings.Lines(info) {
		if name, value, ok := strings.Cut(strings.TrimSpace(line), ":"); ok {
			fields[name] = value
		}
	}
	policy := fields["maxmemory_policy"]
	if policy == "" || policy == "noeviction" {
		return "", nil
	}
	return fmt.Sprintf("Redis has maxmemory-policy %s and may evict the Cache's keys and locks; that costs re-warms, so set it to noeviction", policy), nil
}
