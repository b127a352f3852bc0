package main

import (
	"encoding/json"
	"net/url"
	"strconv"

	"github.com/dustin/go-humanize"
	"github.com/spf13/cobra"

	"github.com/routex/cachewarmer/internal/snapshot"
)

// standing is how the replica that was asked stands.
type standing struct {
	ID            string                         `json:"id"`
	Role          snapshot.Role                  `json:"role"`
	State         snapshot.State                 `json:"state"`
	Tags          map[snapshot.Kind]snapshot.Tag `json:"tags"`
	AgeMs         int64                          `json:"ageMs"`
	VerifiedMsAgo int64                          `json:"verifiedMsAgo"`
	Hits          int64                          `json:"hits"`
	Misses        int64                          `json:"misses"`
	StaleServed   int64                          `json:"staleServed"`
}

type stats struct {
	warmed
	BackgroundRefreshCount int64    `json:"backgroundRefreshCount"`
	InvalidationCount      int64    `json:"invalidationCount"`
	Replica                standing `json:"replica"`
}

func (p *program) statsCommand() *cobra.Command {
	cmd := &cobra.Command{Use: "stats", Short: "Show the fleet's counters and how the replica asked stands", Args: noArguments}
	c := p.reads(cmd)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		return show(cmd.Context(), c, "/api/cache/stats", nil, p.printStats)
	}
	return cmd
}

func (p *program) printStats(s stats) {
	p.table([]string{"FLEET", ""}, [][]string{
		{"warms", number(s.TotalWarms)},
		{"last warm", at(s.LastWarmTime)},
		{"took", took(s.LastWarmDuration)},
		{"background refreshes", number(s.BackgroundRefreshCount)},
		{"invalidations", number(s.InvalidationCount)},
	})
	p.table([]string{"KIND", "CACHED"}, s.rows())
	verified := "never"
	if s.Replica.VerifiedMsAgo >= 0 {
		verified = took(s.Replica.VerifiedMsAgo) + " ago"
	}
	p.table([]string{"REPLICA", s.Replica.ID}, [][]string{
		{"role", string(s.Replica.Role)},
		{"state", string(s.Replica.State)},
		{"verified", verified},
		{"content published", took(s.Replica.AgeMs) + " ago"},
		{"reads from memory", number(s.Replica.Hits)},
		{"reads without a copy", number(s.Replica.Misses)},
		{"stale answers", number(s.Replica.StaleServed)},
	})
}

type replicaList struct {
	Replicas []struct {
		standing
		Address        string `json:"address"`
		Build          string `json:"build"`
		HeartbeatAgeMs int64  `json:"heartbeatAgeMs"`
		Since          int64  `json:"since"`
		Skew           string `json:"skew"`
		Held           string `json:"held"`

		Breakers []snapshot.Breaker `json:"breakers"`
	} `json:"replicas"`
}

func (p *program) replicasCommand() *cobra.Command {
	cmd := &cobra.Command{Use: "replicas", Short: "List the live replicas and what each serves", Args: noArguments}
	c := p.reads(cmd)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		return show(cmd.Context(), c, "/api/cache/replicas", nil, p.printReplicas)
	}
	return cmd
}

func (p *program) printReplicas(list replicaList) {
	header := append([]string{"ID", "ADDRESS", "ROLE", "STATE"}, kindNames()...)
	header = append(header, "HEARTBEAT", "SINCE", "BUILD")
	var rows, skewed, held, resting [][]string
	for _, r := range list.Replicas {
		if r.Skew != "" {
			skewed = append(skewed, []string{r.ID, r.Skew})
		}
		if r.Held != "" {
			held = append(held, []string{r.ID, r.Held})
		}
		for _, b := range r.Breakers {
			resting = append(resting, []string{r.ID, b.ID, b.State, took(b.RestingMs)})
		}
		row := []string{r.ID, r.Address, string(r.Role), string(r.State)}
		for _, k := range snapshot.Kinds {
			row = append(row, string(r.Tags[k]))
		}
		rows = append(rows, append(row, took(r.HeartbeatAgeMs)+" ago", at(r.Since), r.Build))
	}
	p.table(header, rows)
	if len(skewed) > 0 {
		p.table([]string{"SKEWED", "WHY"}, skewed)
	}
	if len(held) > 0 {
		p.table([]string{"HELD BACK", "WHY"}, held)
	}
	if len(resting) > 0 {
		p.table([]string{"KEEPS REQUESTS AWAY", "FROM CHANNEL", "STATE", "FOR"}, resting)
	}
}

type published struct {
	Tag         string           `json:"tag"`
	Count       int              `json:"count"`
	Bytes       uint64           `json:"bytes"`
	Revision    int64            `json:"revision"`
	Reason      string           `json:"reason"`
	WarmedAt    int64            `json:"warmedAt"`
	WarmedBy    string           `json:"warmedBy"`
	DurationMs  int64            `json:"durationMs"`
	Pinned      bool             `json:"pinned"`
	Quarantined []snapshot.Fault `json:"quarantined"`
}

// page is a part of the records of one kind.
type page struct {
	Tag        string            `json:"tag"`
	Count      int               `json:"count"`
	Records    []json.RawMessage `json:"records"`
	NextCursor string            `json:"nextCursor"`
}

func (p *program) snapshotsCommand() *cobra.Command {
	var limit int
	var cursor string
	cmd := &cobra.Command{
		Use:   "snapshots [KIND]",
		Short: "Show what is published, or the records of a kind as the replica serves them",
		Long:  "Show what is published, or the records of a kind as the replica serves them, secrets masked.\nKIND is one of " + snapshot.KindList() + ".",
	}
	c := p.reads(cmd)
	cmd.Flags().IntVar(&limit, "limit", 100, "records a call, at most 1000")
	cmd.Flags().StringVar(&cursor, "cursor", "", "where to go on, as the call before printed it")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		kinds, err := kindsOf(args)
		switch {
		case err != nil:
			return err
		case len(kinds) > 1:
			return misuse("routex snapshots takes one kind, or none for an overview")
		case len(kinds) == 0:
			return show(cmd.Context(), c, "/api/cache/snapshots", nil, p.printSnapshots)
		}
		query := url.Values{"limit": {strconv.Itoa(limit)}}
		if cursor != "" {
			query.Set("cursor", cursor)
		}
		return show(cmd.Context(), c, "/api/cache/snapshots/"+string(kinds[0]), query, p.printPage)
	}
	return cmd
}

func (p *program) printSnapshots(all map[snapshot.Kind]published) {
	var rows, held [][]string
	for _, k := range snapshot.Kinds {
		s := all[k]
		rows = append(rows, []string{
			string(k), s.Tag, number(s.Count), humanize.IBytes(s.Bytes), number(s.Revision),
			at(s.WarmedAt), s.WarmedBy, took(s.DurationMs), boolean(s.Pinned), s.Reason,
		})
		for _, f := range s.Quarantined {
			kept := "left out"
			if f.Kept {
				kept = "last good version served"
			}
			held = append(held, []string{string(k), f.ID, kept, f.Reason})
		}
	}
	p.table([]string{"KIND", "TAG", "RECORDS", "SIZE", "REVISION", "WARMED", "BY", "TOOK", "PINNED", "REASON"}, rows)
	if len(held) > 0 {
		p.table([]string{"HELD BACK", "ID", "MEANWHILE", "WHY"}, held)
	}
}

func (p *program) printPage(pg page) {
	for _, r := range pg.Records {
		p.say("%s", r)
	}
	p.say("%d of %d records, tag %s.", len(pg.Records), pg.Count, pg.Tag)
	if pg.NextCursor != "" {
		p.say("Go on with --cursor %s", pg.NextCursor)
	}
}

func number[T int | int64](n T) string { return strconv.FormatInt(int64(n), 10) }

func boolean(b bool) string { return strconv.FormatBool(b) }
