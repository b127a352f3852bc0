package store

import (
	"maps"
	"sync"
	"time"

	"github.com/routex/cachewarmer/internal/snapshot"
)

// beats are the heartbeats of the live replicas, in Unix ms of Redis's clock.
type beats struct {
	now int64
	at  map[string]int64 // by id
}

// parseBeats reads what live.lua returns.
func parseBeats(reply []any) beats {
	b := beats{at: map[string]int64{}}
	text := func(i int) string {
		s, _ := reply[i].(string)
		return s
	}
	if len(reply) > 0 {
		b.now = number(text(0))
	}
	for i := 1; i+1 < len(reply); i += 2 {
		b.at[text(i)] = number(text(i + 1))
	}
	return b
}

// seen remembers the heartbeats of others, for the time after Redis has lost
// its registry: a replica that is live and has not reported since is not there.
type seen struct {
	mu sync.Mutex
	at map[string]int64 // by id: newest heartbeat, in Unix ms of Redis's clock
}

// note keeps the heartbeats of a registry.
func (s *seen) note(b beats) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.noteLocked(b)
}

func (s *seen) noteLocked(b beats) {
	if s.at == nil {
		s.at = make(map[string]int64, len(b.at))
	}
	maps.Copy(s.at, b.at)
}

// forget is for a replica that has left.
func (s *seen) forget(id string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.at, id)
}

// lost returns the replicas that count as live and that the registry lacks
// because Redis lost it after their last heartbeat. A registry that has had
// anybody in it since before that lacks those that took themselves out.
func (s *seen) lost(b beats, rows []snapshot.ReplicaInfo, liveFor time.Duration) []string {
	var oldest int64 // when the first of those listed joined; 0: nobody is
	for _, row := range rows {
		if since := row.Since.UnixMilli(); !row.Since.IsZero() && (oldest == 0 || since < oldest) {
			oldest = since
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.noteLocked(b)
	lost := []string{}
	for id, at := range s.at {
		switch _, listed := b.at[id]; {
		case listed:
		case b.now-at >= liveFor.Milliseconds(), oldest != 0 && oldest <= at:
			delete(s.at, id)
		default:
			lost = append(lost, id)
		}
	}
	return lost
}
