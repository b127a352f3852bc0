package snapshot_test

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/routex/cachewarmer/internal/snapshot"
)

// someHint has something in each of its fields.
func someHint() *snapshot.Hint {
	return &snapshot.Hint{
		Incarnation: "abc",
		Before:      map[snapshot.Kind]snapshot.Tag{snapshot.Channels: "1-00000000", snapshot.Models: "2-invalid", snapshot.RoutingRules: ""},
		Steps: []snapshot.Step{{
			Kind: snapshot.Channels,
			Meta: snapshot.Meta{
				Version: 1 << 60, Digest: ^snapshot.Digest(0), Count: 3, Bytes: 99, Order: snapshot.Order{Lineage: "l", Revision: 7},
				Attempt: "try", Schema: 2, Reason: "asked\nfor", WarmedBy: "r1", Duration: 12345,
				Quarantined: []snapshot.Fault{{Kind: snapshot.Channels, ID: "x", Reason: "blank", Kept: true}},
			},
			Delta: snapshot.Delta{Set: map[string]string{"a": `{"id":"a"}`, "ä": ""}, Removed: []string{"b", "c"}},
		}, {Kind: snapshot.Models, Delta: snapshot.Delta{Set: map[string]string{}}}},
	}
}

// TestAHintIsReadAsItWasWritten takes one there and back, and none of what is
// left of it when some is cut off.
func TestAHintIsReadAsItWasWritten(t *testing.T) {
	want := someHint()
	plain, err := want.Encode()
	if err != nil {
		t.Fatal(err)
	}
	got, err := snapshot.DecodeHint(plain)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("written and read:\n%s", diff)
	}
	for n := range plain {
		if h, err := snapshot.DecodeHint(plain[:n]); err == nil {
			t.Errorf("the first %d of %d bytes are the hint %+v", n, len(plain), h)
		}
	}
	if _, err := snapshot.DecodeHint(append(plain, 0)); err == nil {
		t.Error("a hint with something behind it is one")
	}
	plain[0]++
	if _, err := snapshot.DecodeHint(plain); err == nil {
		t.Error("a hint of a later form is one")
	}
}

// FuzzDecodeHint reads what somebody with a key, or a damaged release, may send.
func FuzzDecodeHint(f *testing.F) {
	plain, err := someHint().Encode()
	if err != nil {
		f.Fatal(err)
	}
	f.Add(plain)
	f.Add([]byte{1, 0, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01})
	f.Fuzz(func(t *testing.T, plain []byte) {
		h, err := snapshot.DecodeHint(plain)
		if err != nil {
			return
		}
		for _, s := range h.Steps {
			if s.Kind.Index() < 0 {
				t.Errorf("a hint of the kind %q", s.Kind)
			}
		}
	})
}
