package store

import (
	"context"
	"encoding/json"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/routex/cachewarmer/internal/snapshot"
)

// forgetAfter is how long a silent replica stays in the sorted set, for people
// who look with redis-cli. It counts as live for Options.LiveFor only.
const forgetAfter = 10 * time.Minute

// floorField names the field of replica:ID that holds the floor of a kind.
func floorField(kind snapshot.Kind) string { return "floor:" + string(kind) }

func floorText(o snapshot.Order) string {
	if o.IsZero() {
		return ""
	}
	return o.String()
}

// breakersText is the field breakers of replica:ID.
func breakersText(all []snapshot.Breaker) string {
	if len(all) == 0 {
		return ""
	}
	text, err := snapshot.Encode(all[:min(len(all), snapshot.MaxBreakers)])
	if err != nil {
		return "" // cannot be: plain strings and numbers always encode
	}
	return text
}

// parseBreakers reads that field. What is no list of them says nothing.
func parseBreakers(text string) []snapshot.Breaker {
	var all []snapshot.Breaker
	if text == "" || json.Unmarshal([]byte(text), &all) != nil {
		return nil
	}
	return all[:min(len(all), snapshot.MaxBreakers)]
}

// Withdraw takes a replica out of the registry.
func (s *Store) Withdraw(ctx context.Context, id string) error {
	_, err := s.c.Command.TxPipelined(ctx, func(pipe redis.Pipeliner) error {
		pipe.ZRem(ctx, s.keys.Replicas(), id)
		pipe.Unlink(ctx, s.keys.Replica(id))
		return nil
	})
	if err != nil {
		return s.fault("withdraw replica", err)
	}
	s.seen.forget(id)
	s.tell(ctx, bell("left", "", id, ""))
	return nil
}

// Replicas lists the live replicas by id: those heard of within LiveFor.
//
//	cost  two round trips, one of them a pipeline of one command a replica
func (s *Store) Replicas(ctx context.Context) ([]snapshot.ReplicaInfo, error) {
	live, beats, err := s.registry(ctx, nil)
	if err == nil {
		s.seen.note(beats)
	}
	return live, err
}

// registry is Replicas, with the heartbeats that it comes from. Where there are any,
// also asks for what is to be read right after the reports; it may be nil.
func (s *Store) registry(ctx context.Context, also func(redis.Pipeliner)) ([]snapshot.ReplicaInfo, beats, error) {
	reply, err := liveScript.Run(ctx, s.c.Command, []string{s.keys.Replicas()}, s.o.LiveFor.Milliseconds()).Slice()
	if err != nil {
		return nil, beats{}, s.fault("list replicas", err)
	}
	live := parseBeats(reply)
	ids := slices.Sorted(maps.Keys(live.at))
	rows := make([]*redis.MapStringStringCmd, len(ids))
	if len(rows) == 0 {
		return nil, live, nil
	}
	_, err = s.c.Command.Pipelined(ctx, func(pipe redis.Pipeliner) error {
		for i := range rows {
			rows[i] = pipe.HGetAll(ctx, s.keys.Replica(ids[i]))
		}
		if also != nil {
			also(pipe)
		}
		return nil
	})
	if err != nil && !isWrongType(err) { // a row that somebody has replaced tells nothing, its heartbeat does
		return nil, beats{}, s.fault("list replicas", err)
	}
	out := make([]snapshot.ReplicaInfo, 0, len(rows))
	for i, row := range rows {
		info := parseReplica(ids[i], row.Val())
		info.HeartbeatAge = time.Duration(max(0, live.now-live.at[ids[i]])) * time.Millisecond
		for k := range info.Breakers { // it said so with that heartbeat
			b := &info.Breakers[k]
			b.RestingMs = max(0, b.RestingMs-info.HeartbeatAge.Milliseconds())
		}
		out = append(out, info)
	}
	return out, live, nil
}

func parseReplica(id string, row map[string]string) snapshot.ReplicaInfo {
	info := snapshot.ReplicaInfo{
		ID: id, Address: row["address"], Build: row["build"],
		Role: snapshot.Role(row["role"]), State: snapshot.State(row["state"]),
		Tags: map[snapshot.Kind]snapshot.Tag{}, In: map[snapshot.Kind]string{}, Config: number(row["config"]), Started: millis(row["started"]), Since: millis(row["since"]),
		Schema: max(int(number(row["schema"])), snapshot.FirstSchema), Skew: row["skew"],
		Floor: map[snapshot.Kind]snapshot.Order{}, Held: row["held"], Breakers: parseBreakers(row["breakers"]),
	}
	in := strings.Split(row["incarnations"], ",") // in the order of the kinds
	for i, kind := range snapshot.Kinds {
		if floor, err := snapshot.ParseOrder(row[floorField(kind)]); err == nil {
			info.Floor[kind] = floor
		}
		if tag, err := snapshot.ParseTag(row[string(kind)]); err == nil && tag != "" {
			info.Tags[kind] = tag
			if i < len(in) {
				info.In[kind] = in[i]
			}
		}
	}
	return info
}

// bell is the JSON of one message on the events channel that is about no tag.
func bell(event, kind, by, reason string) string {
	text, err := snapshot.Encode(struct {
		Event  string       `json:"event"`
		Kind   string       `json:"kind"`
		Tag    snapshot.Tag `json:"tag"`
		By     string       `json:"by"`
		Reason string       `json:"reason"`
	}{Event: event, Kind: kind, By: by, Reason: reason})
	if err != nil {
		return "{}" // cannot be: plain strings always encode
	}
	return text
}

// tell rings the bell for what stands in Redis already. It is no part of the
// transaction before it: a user without the right to publish would lose both,
// and a bell that is not heard costs a poll.
func (s *Store) tell(ctx context.Context, message string) {
	_ = s.fault("ring", s.c.Command.Publish(ctx, s.keys.Events(), message).Err()) // counted
}

// Announce rings the bell for an event that has no data of its own in Redis,
// such as a lease handed over.
func (s *Store) Announce(ctx context.Context, event, reason string) error {
	if err := s.c.Command.Publish(ctx, s.keys.Events(), bell(event, "", s.o.By, reason)).Err(); err != nil {
		return s.fault("announce "+event, err)
	}
	return nil
}
