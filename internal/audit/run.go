package audit

import (
	"context"
	"math/rand/v2"
	"slices"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"

	"github.com/routex/cachewarmer/internal/snapshot"
)

// roundTimeout bounds one round, however slow Redis and the source are.
const roundTimeout = 30 * time.Second

type metrics struct{ records, mismatches *prometheus.CounterVec }

func newMetrics(reg prometheus.Registerer) *metrics {
	f := promauto.With(reg)
	m := &metrics{
		records: f.NewCounterVec(prometheus.CounterOpts{
			Name: "routex_audit_records_total",
			Help: "Records compared by the audit, by result (agree, differ, inflight: the versions differ, so it says nothing).",
		}, []string{"result"}),
		mismatches: f.NewCounterVec(prometheus.CounterOpts{
			Name: "routex_audit_mismatches_total",
			Help: "Records found wrong by the audit, by kind and party (served: what requests see; copy: the text in memory; redis: the published snapshot). All are mended; zero is normal.",
		}, []string{"kind", "party"}),
	}
	for _, result := range []string{"agree", "differ", "inflight"} {
		m.records.WithLabelValues(result)
	}
	for _, kind := range snapshot.Kinds {
		for _, party := range []snapshot.Party{snapshot.PartyServed, snapshot.PartyCopy, snapshot.PartyRedis} {
			m.mismatches.WithLabelValues(string(kind), string(party))
		}
	}
	return m
}

// Run compares a sample at every Interval, until ctx ends. It returns nil.
func (a *Auditor) Run(ctx context.Context) error {
	for a.o.Interval > 0 {
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(time.Duration((0.8 + 0.4*rand.Float64()) * float64(a.o.Interval))):
		}
		a.Round(ctx)
	}
	<-ctx.Done()
	return nil
}

// Round compares once what Run compares at every Interval, and mends what is
// wrong. One call at a time.
func (a *Auditor) Round(ctx context.Context) {
	if a.o.Enabled != nil && !a.o.Enabled() {
		return // nothing is served from memory, and nobody publishes
	}
	ctx, cancel := context.WithTimeout(ctx, roundTimeout)
	defer cancel()
	r := snapshot.VerifyRequest{Kinds: snapshot.Kinds, Sample: a.o.Sample, Redis: true}
	refreshes := a.o.Refreshing != nil && a.o.Refreshing()
	if refreshes && time.Since(a.readAt) >= a.o.SourceEvery {
		a.readAt, r.Source = time.Now(), true
	}
	a.rounds++
	whole := a.rounds%a.o.WholeEvery == 0
	if whole && (refreshes || a.torn()) {
		r.Sample = 0
	}
	found := a.compare(ctx, r, a.o.SampleBytes)
	if whole && r.Sample > 0 {
		// What stands in Redis is the same for all: one reads all of it. Whether
		// the copy is what was pulled each finds out by itself.
		found = append(found, a.compare(ctx, snapshot.VerifyRequest{Kinds: snapshot.Kinds}, 0)...)
	}
	for _, v := range found {
		a.m.records.WithLabelValues("agree").Add(float64(v.Agree))
		a.m.records.WithLabelValues("differ").Add(float64(v.Differ))
		a.m.records.WithLabelValues("inflight").Add(float64(v.InFlight))
		a.mend(v)
	}
}

// torn reports whether the text of a copy is not that which its digest is of.
func (a *Auditor) torn() bool {
	return slices.ContainsFunc(snapshot.Kinds, func(kind snapshot.Kind) bool {
		held, ok := a.cache.Held(kind)
		return ok && held.torn()
	})
}

func (h *Held) torn() bool { return h.Snapshot.Set.Recount() != h.Snapshot.Set.Digest() }

// mend has what is wrong replaced by what is right, and says so.
func (a *Auditor) mend(v snapshot.Verified) {
	if len(v.Mismatches) == 0 {
		return
	}
	held, ok := a.cache.Held(v.Kind)
	if !ok || held.Snapshot.Tag != v.Served.Tag {
		return // it was replaced meanwhile
	}
	torn := held.torn()
	var memory, redis, behind bool
	for i := range v.Mismatches {
		m := &v.Mismatches[i]
		if torn && m.Party == snapshot.PartyRedis {
			m.Party, m.Against = snapshot.PartyCopy, m.Party // Redis is right
		}
		switch {
		case m.Party != snapshot.PartyRedis:
			memory = true
		case m.Against == snapshot.PartySource:
			behind = behind || v.NotFollowed == ""
		default:
			redis = true
		}
		a.m.mismatches.WithLabelValues(string(m.Kind), string(m.Party)).Inc()
		a.tell(*m, v.Events)
	}
	if memory || torn {
		done, err := a.cache.Mend(v.Kind, v.Served.Tag)
		a.log.Warn("Cache copy was damaged and is replaced", "kind", v.Kind, "tag", v.Served.Tag, "by", done, "err", err)
	}
	if a.o.Publish != nil && (redis || behind) {
		a.o.Publish([]snapshot.Kind{v.Kind}, redis, "the audit found records that are wrong in Redis")
	}
}

const (
	tellAgain = time.Hour // a mismatch that stays is logged again after so long
	maxTold   = 1000
	lastFew   = 6
)

// tell logs one mismatch, once.
func (a *Auditor) tell(m snapshot.Mismatch, events []snapshot.Event) {
	key := strings.Join([]string{string(m.Kind), m.ID, string(m.Party), string(m.Against), string(m.Tag)}, "\x00")
	if at, told := a.told[key]; told && time.Since(at) < tellAgain {
		return
	}
	if len(a.told) >= maxTold {
		clear(a.told)
	}
	a.told[key] = time.Now()
	a.log.Error("Cache record is wrong", "kind", m.Kind, "id", m.ID, "where", m.Party, "against", m.Against,
		"fields", strings.Join(m.Fields, ","), "tag", m.Tag, "lastEvents", describe(events))
}

// describe is the newest few events on one line.
func describe(events []snapshot.Event) string {
	parts := make([]string, 0, lastFew)
	for _, e := range events[max(0, len(events)-lastFew):] {
		parts = append(parts, strings.TrimSpace(e.At.UTC().Format("15:04:05.000")+" "+strings.TrimSpace(e.What+" "+string(e.Tag)+" "+e.Note)))
	}
	return strings.Join(parts, "; ")
}
