package store

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/routex/cachewarmer/internal/snapshot"
)

// retellFor is for how long after a whole report only changes are told: with the
// next heartbeat everything is written again, whatever became of it.
const retellFor = 900 * time.Millisecond

// told is what the registry was last told of a replica of this process.
type told struct {
	mu   sync.Mutex
	last *telling // nil: nothing is known of what the registry holds
}

// telling is one report.
type telling struct {
	id     string
	number string            // in the field "report"
	fields map[string]string // of replica:ID
	whole  time.Time         // when all of them were written
}

// take returns the last report, and leaves none: whoever comes meanwhile, or
// after a failure, tells all.
func (t *told) take() *telling {
	t.mu.Lock()
	defer t.mu.Unlock()
	last := t.last
	t.last = nil
	return last
}

func (t *told) put(last *telling) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.last = last
}

// Report writes what a replica says of itself, and its heartbeat. Within a
// second of a whole report that is what has changed since, if anything: a change
// that 32 replicas tell of whole would be most of its cost.
//
//	source  report.lua, retell.lua
//	cost    one round trip of 3 KB among 32 replicas, or of 400 bytes
func (s *Store) Report(ctx context.Context, info snapshot.ReplicaInfo) error {
	next := &telling{id: info.ID, number: snapshot.RandomID(4), fields: reportFields(info), whole: time.Now()}
	if last := s.told.take(); last != nil && last.id == info.ID && next.whole.Sub(last.whole) < retellFor {
		next.whole = last.whole
		if done, err := s.retell(ctx, last, next); done || err != nil {
			return err
		}
		next.whole = time.Now()
	}
	args := append([]any{
		info.ID, (3 * s.o.LiveFor).Milliseconds(), forgetAfter.Milliseconds(), s.keys.Events(), s.o.LiveFor.Milliseconds(),
	}, next.since(nil)...)
	reply, err := reportScript.Run(ctx, s.c.Command, []string{s.keys.Replicas(), s.keys.Replica(info.ID)}, args...).Slice()
	if err != nil || len(reply) != 2 {
		return s.fault("report replica", err)
	}
	s.told.put(next)
	if replaced, ok := reply[0].([]any); ok {
		s.replaced(replaced)
	}
	if live, ok := reply[1].([]any); ok {
		s.seen.note(parseBeats(live))
	}
	return nil
}

// retell writes what next has that last has not. It is not done where the
// registry does not hold last.
func (s *Store) retell(ctx context.Context, last, next *telling) (done bool, err error) {
	args := append([]any{next.id, (3 * s.o.LiveFor).Milliseconds(), last.number}, next.since(last.fields)...)
	reply, err := retellScript.Run(ctx, s.c.Command, []string{s.keys.Replicas(), s.keys.Replica(next.id)}, args...).Int()
	if err != nil {
		return false, s.fault("report replica", err)
	}
	if reply == 1 {
		s.told.put(next)
	}
	return reply == 1, nil
}

// since lists the fields and values that are not in before, and the number.
func (t *telling) since(before map[string]string) []any {
	args := []any{"report", t.number}
	for name, value := range t.fields {
		if was, had := before[name]; !had || was != value {
			args = append(args, name, value)
		}
	}
	return args
}

// reportFields is what replica:ID holds, but for its number. Each field is there
// in every report, also when it says nothing: a process that starts again under
// the same id says nothing of what the one before it did.
func reportFields(info snapshot.ReplicaInfo) map[string]string {
	fields := map[string]string{
		"id": info.ID, "address": info.Address, "build": info.Build,
		"role": string(info.Role), "state": string(info.State), "config": fmt.Sprint(info.Config), "started": fmt.Sprint(max(0, info.Started.UnixMilli())),
		"schema": fmt.Sprint(info.Schema), "skew": info.Skew, "held": info.Held, "breakers": breakersText(info.Breakers),
	}
	in := make([]string, len(snapshot.Kinds))
	for i, kind := range snapshot.Kinds {
		fields[string(kind)], fields[floorField(kind)] = string(info.Tags[kind]), floorText(info.Floor[kind])
		in[i] = info.In[kind]
	}
	fields["incarnations"] = strings.Join(in, ",")
	return fields
}
