package store

import (
	"fmt"
	"regexp"

	"github.com/routex/cachewarmer/internal/snapshot"
)

// Keys names everything one fleet has in Redis. The braces keep a namespace in
// one Cluster slot.
type Keys struct{ prefix string }

var namespaceForm = regexp.MustCompile(`^[a-z0-9-]{1,32}$`)

// NewKeys returns the names of namespace, which must match [a-z0-9-]{1,32}.
func NewKeys(namespace string) (Keys, error) {
	if !namespaceForm.MatchString(namespace) {
		return Keys{}, fmt.Errorf("namespace %q, want [a-z0-9-]{1,32}: %w", namespace, snapshot.ErrInvalid)
	}
	return Keys{prefix: "routex:{" + namespace + "}:"}, nil
}

// Head is the hash that says which tag of each kind is current.
func (k Keys) Head() string { return k.prefix + "head" }

// Snapshot is the hash of kind's records.
func (k Keys) Snapshot(kind snapshot.Kind) string { return k.prefix + "snapshot:" + string(kind) }

// Meta is the hash that describes kind's snapshot.
func (k Keys) Meta(kind snapshot.Kind) string { return k.prefix + "meta:" + string(kind) }

// Changes is the stream of kind's versions.
func (k Keys) Changes(kind snapshot.Kind) string { return k.prefix + "changes:" + string(kind) }

// Refused is the list of kind's refused candidates.
func (k Keys) Refused(kind snapshot.Kind) string { return k.prefix + "refused:" + string(kind) }

// Pin is the hash that exists while kind is held.
func (k Keys) Pin(kind snapshot.Kind) string { return k.prefix + "pin:" + string(kind) }

// Stage is where a large set of kind is built before it is brought in.
func (k Keys) Stage(kind snapshot.Kind, attempt string) string {
	return k.prefix + "stage:" + string(kind) + ":" + attempt
}

// Config is the hash that mirrors the source's cache_config.
func (k Keys) Config() string { return k.prefix + "config" }

// Stats is the hash of the fleet's counters.
func (k Keys) Stats() string { return k.prefix + "stats" }

// RefresherLock is held by the one replica that warms on a timer.
func (k Keys) RefresherLock() string { return k.prefix + "lock:refresher" }

// WarmLock is held by whoever warms just now.
func (k Keys) WarmLock() string { return k.prefix + "lock:warm" }

// Replicas is the sorted set of replica ids by last heartbeat.
func (k Keys) Replicas() string { return k.prefix + "replicas" }

// Replica is the hash of what one replica says of itself.
func (k Keys) Replica(id string) string { return k.prefix + "replica:" + id }

// Events is the pub/sub channel of the bell.
func (k Keys) Events() string { return k.prefix + "events" }
