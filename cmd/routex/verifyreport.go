package main

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/routex/cachewarmer/internal/observer"
	"github.com/routex/cachewarmer/internal/snapshot"
)

// wrong is a disagreement with what was found when it was looked at closely.
type wrong struct {
	observer.Disagreement
	Records []wrongRecord
	Events  []event
	Note    string // why there is no more to say
}

// about reports whether d is what was looked at.
func (f wrong) about(d observer.Disagreement) bool {
	return f.Subject == d.Subject && f.Kind == d.Kind && f.Since.Equal(d.Since)
}

// between reports whether fingerprints of these versions tell which records make
// the disagreement: it is about them, or about the content of one version, and
// they are one.
func (f wrong) between(have, want snapshot.Tag) bool {
	return have == f.Have.Tag && want == f.Want.Tag || have == want && f.Have.Tag == f.Want.Tag
}

// closer finds the records that make a disagreement, while it lasts: by their
// fingerprints, which are taken here and at the subject. The subject's own look
// at itself adds the fields and its last events.
func (w *watch) closer(ctx context.Context, d observer.Disagreement) wrong {
	out := wrong{Disagreement: d}
	subject, of, against := w.client, snapshot.PartyRedis, snapshot.PartySource
	if d.Subject != observer.Redis {
		var err error
		if subject, err = w.at(w.replicas[d.Subject]); err != nil {
			out.Note = err.Error()
			return out
		}
		of, against = snapshot.PartyServed, snapshot.PartyRedis
	}
	have, haveTag, err := w.fingerprints(ctx, subject, d.Kind, of)
	want, wantTag, err2 := w.fingerprints(ctx, w.client, d.Kind, against)
	var self verification
	err3 := w.ask(ctx, subject, "/api/cache/verify", url.Values{"kinds": {string(d.Kind)}, "against": {"source"}}, &self)
	if err := errors.Join(err, err2, err3); err != nil {
		out.Note = oneLine(err.Error())
		return out
	}
	own := self.Kinds[d.Kind]
	out.Events = own.Events
	if !out.between(haveTag, wantTag) { // what differs between other versions accuses the innocent
		out.Note = "other versions came before it could be looked at closely"
		return out
	}
	out.name(have, want, wrongRecord{Party: of, Against: against, Tag: haveTag}, own.Mismatches)
	if len(out.Records) == 0 {
		out.Note = "it was over before it could be looked at closely"
	}
	return out
}

// name names the records whose fingerprints differ, in the subject's own words
// where it has seen it too.
func (f *wrong) name(have, want map[string]string, as wrongRecord, own []wrongRecord) {
	ids := maps.Clone(have)
	maps.Copy(ids, want)
	for _, id := range slices.Sorted(maps.Keys(ids)) {
		if have[id] == want[id] || len(f.Records) == maxWrongRecords {
			continue
		}
		r := as
		r.ID = id
		for _, m := range own {
			if m.ID == id {
				r = m
			}
		}
		f.Records = append(f.Records, r)
	}
}

// maxWrongRecords bounds the records named for one disagreement.
const maxWrongRecords = 20

// fingerprints reads all fingerprints of a kind. Pages of two versions would say
// nothing, so it begins again when the tag moves.
func (w *watch) fingerprints(ctx context.Context, cl *client, kind snapshot.Kind, of snapshot.Party) (map[string]string, snapshot.Tag, error) {
	for range 5 {
		out, tag, moved := map[string]string{}, snapshot.Tag(""), false
		for cursor := ""; ; {
			var page struct {
				Tag     snapshot.Tag `json:"tag"`
				Records []struct {
					ID   string `json:"id"`
					Hash string `json:"hash"`
				} `json:"records"`
				NextCursor string `json:"nextCursor"`
			}
			query := url.Values{"of": {string(of)}, "limit": {"10000"}}
			if cursor != "" {
				query.Set("cursor", cursor)
			}
			if err := w.ask(ctx, cl, "/api/cache/fingerprints/"+string(kind), query, &page); err != nil {
				return nil, "", err
			}
			moved = moved || cursor != "" && page.Tag != tag
			tag = page.Tag
			for _, r := range page.Records {
				out[r.ID] = r.Hash
			}
			if cursor = page.NextCursor; cursor == "" || moved {
				break
			}
		}
		if !moved {
			return out, tag, nil
		}
	}
	return nil, "", errors.New("it changes too fast to be read")
}

// agreement is what routex verify found, as --json prints it.
type agreement struct {
	Agree         bool                        `json:"agree"`
	Replicas      []string                    `json:"replicas"`
	Rounds        int                         `json:"rounds"`
	Missed        int                         `json:"missedRounds"`       // the server or Redis did not answer
	Unread        int                         `json:"sourceMissedRounds"` // the source did not answer
	UnreadWhy     string                      `json:"sourceMissedReason,omitempty"`
	Windows       []windowResult              `json:"windows"`
	Silent        map[string]int              `json:"silent"`        // rounds in which a replica did not answer
	Reasons       map[string]string           `json:"silentReasons"` // the newest, by replica
	Disagreements []disagreement              `json:"disagreements"`
	Omitted       int                         `json:"omittedDisagreements"` // over, and too many to be listed
	NotFollowed   map[snapshot.Kind]string    `json:"notFollowed"`          // kinds not compared with the source at some time, and why
	Kept          map[string][]snapshot.Fault `json:"kept"`
}

type windowResult struct {
	WindowMs     int64  `json:"windowMs"`
	Observations int64  `json:"observations"`
	Agreeing     int64  `json:"agreeing"`
	Agreement    string `json:"agreement"`
}

type disagreement struct {
	Subject string        `json:"subject"`
	Kind    snapshot.Kind `json:"kind"`
	Why     string        `json:"why"`
	Have    snapshot.Tag  `json:"have"`
	Want    snapshot.Tag  `json:"want"`
	Since   int64         `json:"since"`
	LastMs  int64         `json:"lastedMs"`
	Over    bool          `json:"over"`
	Records []wrongRecord `json:"records"`
	Events  []event       `json:"events"`
	Note    string        `json:"note,omitempty"`
}

func (w *watch) result() agreement {
	out := agreement{
		Agree: len(w.Silent()) == 0, Replicas: slices.Sorted(maps.Keys(w.replicas)), Rounds: w.Rounds(), Missed: w.missed,
		Unread: w.unread, UnreadWhy: oneLine(w.because),
		Silent: w.Silent(), Reasons: w.reasons, Disagreements: []disagreement{}, Omitted: w.Omitted(), NotFollowed: w.still, Kept: w.held,
	}
	for _, t := range w.Tallies() {
		out.Windows = append(out.Windows, windowResult{t.Window.Milliseconds(), t.Observations, t.Agreeing, t.Share()})
		out.Agree = out.Agree && t.Agreeing == t.Observations
	}
	for _, d := range w.Disagreements() {
		row := disagreement{
			Subject: d.Subject, Kind: d.Kind, Why: d.Why, Have: d.Have.Tag, Want: d.Want.Tag, Since: d.Since.UnixMilli(),
			LastMs: d.Age().Milliseconds(), Over: d.Over, Records: []wrongRecord{}, Events: []event{},
		}
		for _, f := range w.found {
			if f.about(d) {
				row.Records, row.Events, row.Note = f.Records, f.Events, f.Note
			}
		}
		out.Disagreements = append(out.Disagreements, row)
	}
	return out
}

// report prints what was found. Its error carries the exit code.
func (w *watch) report(c *control) error {
	r := w.result()
	if c.asJSON {
		if err := c.p.printJSON(r); err != nil {
			return err
		}
	} else {
		c.p.printAgreement(r)
	}
	switch {
	case r.Windows[0].Observations == 0 && r.Agree:
		return errors.New("nothing was observed: the server or Redis did not answer, or the windows are longer than --for")
	case len(w.Silent()) > 0:
		return &coded{exitNotConverged, fmt.Errorf("%d of %d replicas did not answer each time", len(w.Silent()), len(r.Replicas))}
	case w.unread > 0 && w.unread == w.Rounds():
		return &coded{exitNotConverged, errors.New("the source was compared with nothing: it did not answer")}
	case !r.Agree:
		return &coded{exitNotConverged, errors.New("not everything agreed")}
	}
	return nil
}

func (p *program) printAgreement(r agreement) {
	p.say("%d replicas, %d rounds: %s", len(r.Replicas), r.Rounds, strings.Join(r.Replicas, ", "))
	var rows [][]string
	for _, w := range r.Windows {
		rows = append(rows, []string{
			"older than " + (time.Duration(w.WindowMs) * time.Millisecond).String(), number(w.Observations), number(w.Observations - w.Agreeing), w.Agreement,
		})
	}
	p.table([]string{"A DIFFERENCE COUNTS IF", "OBSERVATIONS", "DIFFER", "AGREEMENT"}, rows)
	for _, name := range slices.Sorted(maps.Keys(r.Silent)) {
		p.say("%s did not answer in %d of %d rounds; these are no observations. The last time: %s", name, r.Silent[name], r.Rounds, oneLine(r.Reasons[name]))
	}
	if r.Missed > 0 {
		p.say("In %d rounds the server or Redis did not answer; these are no observations.", r.Missed)
	}
	if r.Unread > 0 {
		p.say("In %d rounds the source did not answer, and Redis was not compared with it: %s", r.Unread, r.UnreadWhy)
	}
	for _, d := range r.Disagreements {
		p.printDisagreement(d)
	}
	if r.Omitted > 0 {
		p.say("%d more, from between these, are over and not listed.", r.Omitted)
	}
	for _, kind := range slices.Sorted(maps.Keys(r.NotFollowed)) {
		p.say("%s is not compared with the source, whose changes it does not follow: %s.", kind, r.NotFollowed[kind])
	}
	for _, kind := range slices.Sorted(maps.Keys(r.Kept)) {
		for _, f := range r.Kept[kind] {
			p.say("Held back, and no difference: %s %s: %s", kind, f.ID, f.Reason)
		}
	}
}

func (p *program) printDisagreement(d disagreement) {
	state := "still"
	if d.Over {
		state = "now over"
	}
	p.say("%s, %s: %s for %s, %s; has %s, wants %s. %s", d.Subject, d.Kind, d.Why, took(d.LastMs), state,
		cmp.Or(string(d.Have), "nothing"), cmp.Or(string(d.Want), "nothing"), d.Note)
	for _, r := range d.Records {
		p.say("  record %q: %s is not what %s says: %s", r.ID, r.Party, r.Against, cmp.Or(strings.Join(r.Fields, ", "), "fields not known"))
	}
	for _, e := range d.Events {
		p.say("  %s %s %s %s", time.UnixMilli(e.At).Format("15:04:05.000"), e.What, e.Tag, e.Note)
	}
}

// decodeData reads the data of an answer.
func decodeData(data json.RawMessage, out any) error {
	if err := json.Unmarshal(data, out); err != nil {
		return fmt.Errorf("the answer has another form than this release knows: %w", err)
	}
	return nil
}
