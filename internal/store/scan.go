package store

import (
	"context"
	"fmt"
	"time"

	"github.com/routex/cachewarmer/internal/snapshot"
)

const (
	// trustedCount is the number of records that meta:KIND is believed to
	// announce before they are there: more are made room for as they come.
	trustedCount = 10_000
	// pagesAhead bounds what is read of a hash before it is taken in.
	pagesAhead = 4
	// A step that Redis took long to answer had others in front of it: the next one
	// asks for half as much, down to fewestRecords, so that many who read at once
	// hold up nobody. One that was answered quickly lets the next be larger again.
	slowAnswer, quickAnswer = 20 * time.Millisecond, 5 * time.Millisecond
	fewestRecords           = 200
)

// reading is a hash that is being read in steps.
//
//	HSCAN ──page──▶ taken in and added up ──▶ recs
//	  └── the next step is on its way meanwhile
type reading struct {
	kind  snapshot.Kind
	recs  map[string]string
	tally snapshot.Tally
}

// take adds a page. A record may come twice, and may have changed meanwhile.
func (r *reading) take(page []string) {
	for i := 0; i+1 < len(page); i += 2 {
		id, body := page[i], page[i+1]
		if was, twice := r.recs[id]; twice {
			r.tally.Drop(id, was)
		}
		r.recs[id] = body
		r.tally.Add(id, body)
	}
}

// set is what was read. The reading must not be used again.
func (r *reading) set() *snapshot.Set { return r.tally.Set(r.kind, r.recs) }

// scan reads a snapshot's hash in steps, while it may change. About is how many
// records it is said to have. Each step is a short command of Redis, and no more
// than a few of them are in memory beside what was taken in.
func (s *Store) scan(ctx context.Context, kind snapshot.Kind, about int) (*reading, error) {
	r := &reading{kind: kind, recs: make(map[string]string, max(0, min(about, trustedCount)))}
	pages, taken := make(chan []string, pagesAhead), make(chan struct{})
	go func() {
		defer close(taken)
		for page := range pages {
			r.take(page)
		}
	}()
	err := s.pages(ctx, kind, about, pages)
	close(pages)
	<-taken
	return r, err
}

// pages reads the hash, and hands on what each step brings.
func (s *Store) pages(ctx context.Context, kind snapshot.Kind, about int, pages chan<- []string) error {
	w := s.o.Progress.Begin(snapshot.WorkRedis, kind, about)
	defer w.End()
	count := s.o.ScanCount
	for cursor := uint64(0); ; {
		asked := time.Now()
		page, next, err := s.c.Bulk.HScan(ctx, s.keys.Snapshot(kind), cursor, "", count).Result()
		if err != nil {
			if isWrongType(err) {
				return fmt.Errorf("read snapshot of %s: %w: %w", kind, snapshot.ErrInvalid, err)
			}
			return s.fault("read snapshot of "+string(kind), err)
		}
		count = s.step(count, time.Since(asked))
		pages <- page
		w.Add(len(page) / 2)
		if cursor = next; cursor == 0 {
			return nil
		}
	}
}

// step is how many records to ask for after a step of count took so long.
func (s *Store) step(count int64, took time.Duration) int64 {
	switch {
	case took > slowAnswer:
		return max(count/2, min(fewestRecords, s.o.ScanCount))
	case took < quickAnswer:
		return min(2*count, s.o.ScanCount)
	}
	return count
}
