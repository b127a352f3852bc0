package source_test

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/routex/cachewarmer/internal/snapshot"
	"github.com/routex/cachewarmer/internal/source"
)

func TestChannelLife(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, e engine) {
		d, ctx := open(t, e), t.Context()
		before := revisions(t, d)
		made, w, err := d.CreateChannel(ctx, channel("a"), snapshot.NewSecret("sk-first"))
		if err != nil {
			t.Fatal(err)
		}
		if !strings.HasPrefix(made.ID, "ch_") || len(made.ID) != 15 || made.Status != snapshot.StatusEnabled || made.CreatedAt == 0 {
			t.Errorf("created %+v", made)
		}
		after := revisions(t, d)
		if diff := cmp.Diff(snapshot.Written{Lineage: before.Lineage, Revisions: map[snapshot.Kind]int64{
			snapshot.Channels: after.ByKind[snapshot.Channels], snapshot.Models: after.ByKind[snapshot.Models],
		}}, w); diff != "" {
			t.Errorf("Written (-want +got):\n%s", diff)
		}
		if after.ByKind[snapshot.Channels] <= before.ByKind[snapshot.Channels] || after.ByKind[snapshot.RoutingRules] != before.ByKind[snapshot.RoutingRules] {
			t.Errorf("revisions went from %v to %v", before.ByKind, after.ByKind)
		}

		changed, w2, err := d.UpdateChannel(ctx, made.ID, func(ch *snapshot.Channel) (*snapshot.Secret, error) {
			ch.ID, ch.APIKey, ch.CreatedAt = "other", "other", 1 // not for us to change
			ch.Name, ch.Priority, ch.Models = "a2", 7, nil
			return nil, nil
		}, nil)
		if err != nil {
			t.Fatal(err)
		}
		want := made
		want.Name, want.Priority, want.Models, want.UpdatedAt = "a2", 7, []string{}, changed.UpdatedAt
		if diff := cmp.Diff(want, changed); diff != "" || changed.UpdatedAt <= made.UpdatedAt {
			t.Errorf("UpdateChannel (-want +got):\n%s", diff)
		}
		if w2.Revisions[snapshot.Channels] <= w.Revisions[snapshot.Channels] {
			t.Errorf("revision stayed at %d", w2.Revisions[snapshot.Channels])
		}
		if got, err := d.Channel(ctx, made.ID); err != nil || !cmp.Equal(got, changed) {
			t.Errorf("Channel: %v, %s", err, cmp.Diff(changed, got))
		}
		key := snapshot.NewSecret("sk-second")
		rekeyed, _, err := d.UpdateChannel(ctx, made.ID, func(*snapshot.Channel) (*snapshot.Secret, error) { return &key, nil }, nil)
		if err != nil {
			t.Fatal(err)
		}
		if plain, err := keyring(t).Open(snapshot.Channels, made.ID, rekeyed.APIKey); err != nil || plain.Reveal() != "sk-second" {
			t.Errorf("the new key does not open: %v", err)
		}
		addChannel(t, d, "b")
		if _, err := d.DeleteChannel(ctx, made.ID, nil); err != nil {
			t.Fatal(err)
		}
		all, err := d.Channels(ctx)
		if err != nil || names(all) != "b" {
			t.Errorf("left are %q, %v", names(all), err)
		}
		_, err = d.Channel(ctx, made.ID)
		wantErr(t, err, snapshot.ErrNotFound)
	})
}

func TestWritesAreRefused(t *testing.T) {
	t.Parallel()
	keep := func(*snapshot.Channel) (*snapshot.Secret, error) { return nil, nil }
	boom := errors.New("boom")
	onBoth(t, func(t *testing.T, e engine) {
		d, ctx := open(t, e), t.Context()
		a, b := addChannel(t, d, "a"), addChannel(t, d, "b")
		r1, r2 := addRule(t, d, "r1", "a"), addRule(t, d, "r2", b.ID)
		key := snapshot.NewSecret("sk-x")
		create := func(f func(*snapshot.Channel), key snapshot.Secret) error {
			ch := channel("new")
			f(&ch)
			_, _, err := d.CreateChannel(ctx, ch, key)
			return err
		}
		createRule := func(f func(*snapshot.Rule)) error {
			r := snapshot.Rule{Name: "new", Type: "default", TargetChannel: "a", Enabled: true}
			f(&r)
			_, _, err := d.CreateRule(ctx, r)
			return err
		}
		update := func(id string, f func(*snapshot.Channel) (*snapshot.Secret, error)) error {
			_, _, err := d.UpdateChannel(ctx, id, f, nil)
			return err
		}
		updateRule := func(id string, f func(*snapshot.Rule) error) error {
			_, _, err := d.UpdateRule(ctx, id, f, nil)
			return err
		}
		remove := func(id string, a *source.Approve) error { _, err := d.DeleteChannel(ctx, id, a); return err }
		tests := []struct {
			name string
			err  error
			want error
			text string
		}{
			{"a name that is taken", create(func(ch *snapshot.Channel) { ch.Name = "a" }, key), snapshot.ErrConflict, a.ID},
			{"an id that is taken", create(func(ch *snapshot.Channel) { ch.ID = a.ID }, key), snapshot.ErrConflict, a.ID},
			{"a blank name", create(func(ch *snapshot.Channel) { ch.Name = " " }, key), snapshot.ErrInvalid, "name"},
			{"an unknown type", create(func(ch *snapshot.Channel) { ch.Type = "x" }, key), snapshot.ErrInvalid, "type"},
			{"no key", create(func(*snapshot.Channel) {}, snapshot.Secret{}), snapshot.ErrInvalid, "apiKey"},
			{"a NUL in a name", create(func(ch *snapshot.Channel) { ch.Name = "a\x00b" }, key), snapshot.ErrInvalid, "NUL"},
			{"renaming to a name that is taken", update(b.ID, func(ch *snapshot.Channel) (*snapshot.Secret, error) { ch.Name = "a"; return nil, nil }), snapshot.ErrConflict, a.ID},
			{"changing to an unknown status", update(b.ID, func(ch *snapshot.Channel) (*snapshot.Secret, error) { ch.Status = "x"; return nil, nil }), snapshot.ErrInvalid, "status"},
			{"changing what is not there", update("nobody", keep), snapshot.ErrNotFound, "nobody"},
			{"an error of the caller's own", update(b.ID, func(ch *snapshot.Channel) (*snapshot.Secret, error) { ch.Name = "c"; return nil, boom }), boom, ""},
			{"deleting what is not there", remove("nobody", nil), snapshot.ErrNotFound, "nobody"},
			{"approving without a reason", remove(a.ID, &source.Approve{Reason: " "}), snapshot.ErrInvalid, "reason"},
			{"a rule's name that is taken", createRule(func(r *snapshot.Rule) { r.Name = "r1" }), snapshot.ErrConflict, r1.ID},
			{"a rule's id that is taken", createRule(func(r *snapshot.Rule) { r.ID = r1.ID }), snapshot.ErrConflict, r1.ID},
			{"a rule to nowhere", createRule(func(r *snapshot.Rule) { r.TargetChannel = "c" }), snapshot.ErrInvalid, "targetChannel"},
			{"a rule whose pattern does not compile", createRule(func(r *snapshot.Rule) { r.Condition.UserPattern = "(" }), snapshot.ErrInvalid, "userPattern"},
			{"a NUL in a rule", createRule(func(r *snapshot.Rule) { r.TargetModel = "\x00" }), snapshot.ErrInvalid, "NUL"},
			{"renaming a rule to a name that is taken", updateRule(r2.ID, func(r *snapshot.Rule) error { r.Name = "r1"; return nil }), snapshot.ErrConflict, r1.ID},
			{"pointing a rule to nowhere", updateRule(r2.ID, func(r *snapshot.Rule) error { r.TargetChannel = "c"; return nil }), snapshot.ErrInvalid, "targetChannel"},
			{"changing a rule that is not there", updateRule("nobody", func(*snapshot.Rule) error { return nil }), snapshot.ErrNotFound, "nobody"},
			{"a blank model's price", d.PutPrices(ctx, []snapshot.Price{{}}), snapshot.ErrInvalid, "model"},
		}
		for _, tt := range tests {
			if !errors.Is(tt.err, tt.want) || !strings.Contains(fmt.Sprint(tt.err), tt.text) {
				t.Errorf("%s: error is %v, want %v with %q", tt.name, tt.err, tt.want, tt.text)
			}
			if !errors.Is(tt.want, snapshot.ErrUnavailable) && errors.Is(tt.err, snapshot.ErrUnavailable) {
				t.Errorf("%s: %v blames the database", tt.name, tt.err)
			}
		}
		if c := load(t, d); names(c.Channels) != "a b" || len(c.Rules) != 2 {
			t.Errorf("a refused write left something behind: %q, %d rules", names(c.Channels), len(c.Rules))
		}
	})
}

func TestLastEnabledChannelIsGuarded(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, e engine) {
		d, ctx := open(t, e), t.Context()
		a, off := addChannel(t, d, "a"), addChannel(t, d, "off")
		disable := func(ch *snapshot.Channel) (*snapshot.Secret, error) {
			ch.Status = snapshot.StatusDisabled
			return nil, nil
		}
		_, offW, err := d.UpdateChannel(ctx, off.ID, disable, nil)
		if err != nil {
			t.Fatalf("disabling one of two: %v", err)
		}
		offAt := offW.Revisions[snapshot.Channels]
		for _, write := range []func(*source.Approve) (snapshot.Written, error){
			func(ok *source.Approve) (snapshot.Written, error) {
				_, w, err := d.UpdateChannel(ctx, a.ID, disable, ok)
				return w, err
			},
			func(ok *source.Approve) (snapshot.Written, error) { return d.DeleteChannel(ctx, a.ID, ok) },
		} {
			before := revisions(t, d)
			_, err := write(nil)
			var refusal *snapshot.Refusal
			if !errors.As(err, &refusal) || refusal.Guard != snapshot.GuardEmpty || refusal.Kind != snapshot.Channels || refusal.Had != 1 || refusal.Got != 0 {
				t.Fatalf("without approval: %v", err)
			}
			if after := revisions(t, d); !cmp.Equal(before, after) {
				t.Fatalf("a refused write moved %v to %v", before, after)
			}
			w, err := write(&source.Approve{Reason: "moving house"})
			if err != nil {
				t.Fatalf("with approval: %v", err)
			}
			want := []snapshot.Approval{
				{ID: a.ID, Revision: w.Revisions[snapshot.Channels], Reason: "moving house"},
				{ID: off.ID, Revision: offAt, Reason: "disabled through the API"},
			}
			slices.SortFunc(want, func(a, b snapshot.Approval) int { return strings.Compare(a.ID, b.ID) })
			if got := load(t, d).Approved[snapshot.Channels]; !cmp.Equal(got, want) {
				t.Errorf("Approved: %s", cmp.Diff(want, got))
			}
			if _, _, err := d.UpdateChannel(ctx, a.ID, func(ch *snapshot.Channel) (*snapshot.Secret, error) {
				ch.Status = snapshot.StatusEnabled
				return nil, nil
			}, nil); err != nil && !errors.Is(err, snapshot.ErrNotFound) {
				t.Fatal(err)
			}
		}
		if _, err := d.DeleteChannel(ctx, off.ID, nil); err != nil {
			t.Errorf("deleting a disabled channel where none is enabled: %v", err)
		}
	})
}

func TestRemovedRulesAreApproved(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, e engine) {
		d, ctx := open(t, e), t.Context()
		addChannel(t, d, "a")
		r1, r2, r3 := addRule(t, d, "r1", "a"), addRule(t, d, "r2", "a"), addRule(t, d, "r3", "a")
		approved := func(id string) (got snapshot.Approval) {
			for _, a := range load(t, d).Approved[snapshot.RoutingRules] {
				if a.ID == id {
					got = a
				}
			}
			return got
		}
		expect := func(what, id, reason string, w snapshot.Written, err error) {
			t.Helper()
			want := snapshot.Approval{ID: id, Revision: w.Revisions[snapshot.RoutingRules], Reason: reason}
			if got := approved(id); err != nil || got != want {
				t.Errorf("%s: %v, approval %+v, want %+v", what, err, got, want)
			}
		}
		rename := func(r *snapshot.Rule) error { r.Name += "x"; return nil }
		if _, _, err := d.UpdateRule(ctx, r1.ID, rename, &source.Approve{Reason: "forced"}); err != nil || approved(r1.ID) != (snapshot.Approval{}) {
			t.Errorf("renaming: %v, approval %+v; want none, nothing was removed", err, approved(r1.ID))
		}
		w, err := d.DeleteRule(ctx, r1.ID, nil)
		expect("deleting", r1.ID, "deleted through the API", w, err)
		w, err = d.DeleteRule(ctx, r2.ID, &source.Approve{Reason: "out of use"})
		expect("deleting with a reason", r2.ID, "out of use", w, err)
		_, w, err = d.UpdateRule(ctx, r3.ID, func(r *snapshot.Rule) error { r.Enabled, r.TargetChannel = false, "gone"; return nil }, nil)
		expect("disabling", r3.ID, "disabled through the API", w, err)
	})
}

func TestBrokenRowsAreMendedThroughTheAPI(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, e engine) {
		d, ctx := open(t, e), t.Context()
		a := addChannel(t, d, "a")
		r := addRule(t, d, "r", "a")
		e.hand(t, `UPDATE channels SET models = 'x'; UPDATE routing_rules SET condition = 'x'`)
		all, err := d.Channels(ctx)
		if err != nil || len(all) != 1 || len(all[0].Models) != 0 {
			t.Fatalf("Channels: %+v, %v", all, err)
		}
		rules, err := d.Rules(ctx)
		if err != nil || len(rules) != 1 {
			t.Fatalf("Rules: %+v, %v", rules, err)
		}
		_, _, err = d.UpdateChannel(ctx, a.ID, func(ch *snapshot.Channel) (*snapshot.Secret, error) { ch.Priority = 1; return nil, nil }, nil)
		wantErr(t, err, snapshot.ErrInvalid)
		_, _, err = d.UpdateRule(ctx, r.ID, func(r *snapshot.Rule) error { r.Priority = 1; return nil }, nil)
		wantErr(t, err, snapshot.ErrInvalid)
		if _, _, err = d.UpdateChannel(ctx, a.ID, func(ch *snapshot.Channel) (*snapshot.Secret, error) { ch.Models = []string{"m"}; return nil, nil }, nil); err != nil {
			t.Errorf("giving the models anew: %v", err)
		}
		if _, _, err = d.UpdateRule(ctx, r.ID, func(r *snapshot.Rule) error { r.Condition.Keywords = []string{"k"}; return nil }, nil); err != nil {
			t.Errorf("giving the condition anew: %v", err)
		}
		if c := load(t, d); len(c.Broken) != 0 || c.Channels[0].Models[0] != "m" || c.Rules[0].Condition.Keywords[0] != "k" {
			t.Errorf("still broken: %+v", c)
		}
	})
}

// Of many who want one name, one gets it; nothing deadlocks.
func TestRacingWritersKeepNamesUnique(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, e engine) {
		dbs := []*source.DB{open(t, e), open(t, e)}
		own := addChannel(t, dbs[0], "own")
		var wg sync.WaitGroup
		var mu sync.Mutex
		won := map[string]int{}
		for i := range 24 {
			wg.Go(func() {
				name := fmt.Sprintf("name-%d", i%4)
				_, _, err := dbs[i%2].CreateChannel(t.Context(), channel(name), snapshot.NewSecret("sk"))
				if err != nil && !errors.Is(err, snapshot.ErrConflict) {
					t.Errorf("CreateChannel: %v", err)
				}
				mu.Lock()
				defer mu.Unlock()
				if err == nil {
					won[name]++
				}
			})
			wg.Go(func() {
				if _, _, err := dbs[i%2].UpdateChannel(t.Context(), own.ID, func(ch *snapshot.Channel) (*snapshot.Secret, error) {
					ch.Weight++
					return nil, nil
				}, nil); err != nil {
					t.Errorf("UpdateChannel: %v", err)
				}
			})
		}
		wg.Wait()
		if want := map[string]int{"name-0": 1, "name-1": 1, "name-2": 1, "name-3": 1}; !cmp.Equal(won, want) {
			t.Errorf("names were given %v times", won)
		}
		if ch, err := dbs[0].Channel(t.Context(), own.ID); err != nil || ch.Weight != own.Weight+24 {
			t.Errorf("24 increments gave weight %d (%v)", ch.Weight-own.Weight, err)
		}
	})
}
