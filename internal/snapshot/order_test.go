package snapshot_test

import (
	"errors"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/routex/cachewarmer/internal/snapshot"
)

// TestNewLineageSortsAfter holds for any id that ever stood there, made by us
// or by hand, and for a clock that went back.
func TestNewLineageSortsAfter(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		after := rapid.OneOf(
			rapid.String(),
			rapid.Custom(func(t *rapid.T) string {
				return snapshot.NewLineage(time.UnixMilli(rapid.Int64Range(0, 1<<42).Draw(t, "ms")), "")
			}),
			rapid.SampledFrom([]string{"", "prod", "zzz", "fffffffffffff-00000000", "000000000000g-x"}),
		).Draw(t, "after")
		now := time.UnixMilli(rapid.Int64Range(0, 1<<42).Draw(t, "now"))
		if got := snapshot.NewLineage(now, after); got <= after {
			t.Fatalf("NewLineage(%v, %q) = %q, which does not sort after it", now.UnixMilli(), after, got)
		}
	})
}

func TestOrder(t *testing.T) {
	for _, tt := range []struct {
		name string
		a, b snapshot.Order
		want int
	}{
		{"same place", snapshot.Order{Lineage: "a", Revision: 1}, snapshot.Order{Lineage: "a", Revision: 1}, 0},
		{"later revision", snapshot.Order{Lineage: "a", Revision: 10}, snapshot.Order{Lineage: "a", Revision: 9}, 1},
		{"later lineage outranks any revision", snapshot.Order{Lineage: "b", Revision: 1}, snapshot.Order{Lineage: "a", Revision: 99}, 1},
		{"anything is after nothing", snapshot.Order{Lineage: "a"}, snapshot.Order{}, 1},
	} {
		if got := tt.a.Compare(tt.b); got != tt.want {
			t.Errorf("%s: Compare = %d, want %d", tt.name, got, tt.want)
		}
		if got := tt.b.Compare(tt.a); got != -tt.want {
			t.Errorf("%s, the other way: Compare = %d, want %d", tt.name, got, -tt.want)
		}
	}
}

func TestTags(t *testing.T) {
	for _, tt := range []struct {
		in          string
		version     uint64
		content, ok bool
	}{
		{"42-9f3ac1d2", 42, true, true},
		{"43-invalid", 43, false, true},
		{"", 0, false, true},
		{"0-9f3ac1d2", 0, false, false},
		{"42", 0, false, false},
		{"42-", 0, false, false},
		{"-9f3ac1d2", 0, false, false},
		{"42-9f3ac1d2x", 0, false, false},
		{"42-9f3ac1dX", 0, false, false},
		{"042-9f3ac1d2", 0, false, false},
		{"+42-9f3ac1d2", 0, false, false},
		{"99999999999999999999-9f3ac1d2", 0, false, false},
	} {
		tag, err := snapshot.ParseTag(tt.in)
		if (err == nil) != tt.ok || (tt.ok && (tag.Version() != tt.version || tag.HasContent() != tt.content)) {
			t.Errorf("ParseTag(%q) = %q, %v; version %d, content %v", tt.in, tag, err, tag.Version(), tag.HasContent())
		}
	}
	if got := snapshot.NewTag(42, 0x9f3ac1d2_00000000); got != "42-9f3ac1d2" {
		t.Errorf("NewTag = %q", got)
	}
}

func TestParseOrder(t *testing.T) {
	for text, want := range map[string]snapshot.Order{
		"0190000000000-aaaaaaaa@7": {Lineage: "0190000000000-aaaaaaaa", Revision: 7},
		"by hand@home@0":           {Lineage: "by hand@home"},
	} {
		if got, err := snapshot.ParseOrder(text); err != nil || got != want || got.String() != text {
			t.Errorf("ParseOrder(%q) = %v, %v; want %v", text, got, err, want)
		}
	}
	for _, text := range []string{"", "0190000000000-aaaaaaaa", "a@", "a@x", "a@-1", "a@1.5"} {
		if got, err := snapshot.ParseOrder(text); !errors.Is(err, snapshot.ErrInvalid) {
			t.Errorf("ParseOrder(%q) = %v, %v; want ErrInvalid", text, got, err)
		}
	}
}
