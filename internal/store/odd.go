package store

import (
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/routex/cachewarmer/internal/snapshot"
)

// refusedFor is how long Redis counts as refusing what we ask after it last did
// so: longer than a heartbeat, which is a write.
const refusedFor = 5 * time.Second

// refusalMeans says what to do about a Redis that answers and refuses, by class.
var refusalMeans = map[string]string{
	"oom":      "Redis is out of memory and refuses writes: raise maxmemory or make room; replicas go on serving what they have",
	"readonly": "Redis refuses writes: it is a replica, or cannot save to its disk",
	"noperm":   "Redis refuses us: the user, password or permissions do not do",
}

// troubles are what somebody should see to: keys and fields edited into
// something of no use, and a Redis that refuses. Each is logged once for as long
// as it lasts.
type troubles struct {
	mu      sync.Mutex
	places  map[string]string    // key or field: why it is odd
	refused map[string]time.Time // class of error: when last
}

// set notes that what stands at a place is odd, or, without a why, that it is not.
func (t *troubles) set(log *slog.Logger, place, why string) {
	t.mu.Lock()
	_, was := t.places[place]
	switch {
	case why == "":
		delete(t.places, place)
	case t.places == nil:
		t.places = map[string]string{place: why}
	default:
		t.places[place] = why
	}
	t.mu.Unlock()
	if why != "" && !was {
		log.Warn("Cache key in Redis was edited by somebody", "key", place, "why", why)
	}
}

// refuse notes that Redis refused something.
func (t *troubles) refuse(log *slog.Logger, class string, err error) {
	means, ok := refusalMeans[class]
	if !ok {
		return
	}
	t.mu.Lock()
	fresh := time.Since(t.refused[class]) > refusedFor
	if t.refused == nil {
		t.refused = map[string]time.Time{}
	}
	t.refused[class] = time.Now()
	t.mu.Unlock()
	if fresh {
		log.Error("Cache: "+means, "err", err)
	}
}

// Problems names, in sentences, what somebody should see to in Redis.
func (s *Store) Problems() []string {
	t := &s.troubles
	t.mu.Lock()
	defer t.mu.Unlock()
	var all []string
	for _, place := range slices.Sorted(maps.Keys(t.places)) {
		all = append(all, fmt.Sprintf("%s was edited by somebody: %s", place, t.places[place]))
	}
	for _, class := range slices.Sorted(maps.Keys(t.refused)) {
		if time.Since(t.refused[class]) <= refusedFor {
			all = append(all, refusalMeans[class])
		}
	}
	return all
}

// examine notes which fields of a head are no tags. They count as missing.
func (s *Store) examine(head map[string]string, noHash bool) {
	why := ""
	if noHash {
		why = "it is no hash"
	}
	s.troubles.set(s.log, s.keys.Head(), why)
	for _, kind := range snapshot.Kinds {
		why := ""
		if _, err := snapshot.ParseTag(head[string(kind)]); err != nil {
			why = "it counts as missing: " + err.Error()
		}
		s.troubles.set(s.log, s.keys.Head()+" "+string(kind), why)
	}
}

// replaced logs the keys of other types that a script found in our places.
func (s *Store) replaced(keys []any) {
	for _, key := range keys {
		s.log.Warn("Cache key in Redis had another type and was replaced", "key", key)
	}
}

// oddly reports whether the head names content that its meta does not tell of.
func oddly(tag snapshot.Tag, version, digest string) bool {
	if !tag.HasContent() {
		return false
	}
	d, err := snapshot.ParseDigest(digest)
	return err != nil || tag != snapshot.NewTag(uint64(max(number(version), 0)), d)
}
