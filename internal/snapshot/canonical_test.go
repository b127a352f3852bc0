package snapshot_test

import (
	"encoding/json"
	"math"
	"reflect"
	"strings"
	"testing"
	"unsafe"

	"pgregory.net/rapid"

	"github.com/routex/cachewarmer/internal/snapshot"
)

// sameAsJSON compares what the two readers make of text: the same record, or
// both nothing.
func sameAsJSON[T any](t interface{ Fatalf(string, ...any) }, text string, canonical func(string) (*T, bool)) (taken bool) {
	got, ok := canonical(text)
	if !ok {
		return false // it is encoding/json that reads it
	}
	want := new(T)
	if err := json.Unmarshal([]byte(text), want); err != nil {
		t.Fatalf("%q is read, encoding/json says %v", text, err)
	}
	if !reflect.DeepEqual(got, want) {
		t.Fatalf("%q is read as\n%#v, by encoding/json as\n%#v", text, got, want)
	}
	return true
}

// TestRecordsAreReadAsByJSON writes records of chance, breaks some of them at
// one place, and reads them both ways.
func TestRecordsAreReadAsByJSON(t *testing.T) {
	word := rapid.OneOf(rapid.StringMatching(`[a-z0-9 .:/_-]{0,12}`), rapid.String())
	whole := rapid.OneOf(rapid.Int(), rapid.IntRange(-3, 3))
	price := rapid.Ptr(rapid.OneOf(rapid.Float64Range(0, 100), rapid.Float64(), rapid.Just(1e21), rapid.Just(3.0)), true)
	var all, taken int
	rapid.Check(t, func(t *rapid.T) {
		for range 6 { // so that the share of canonical ones is no matter of luck
			c := snapshot.Channel{
				ID: word.Draw(t, "id"), Name: word.Draw(t, "name"), Type: word.Draw(t, "type"), BaseURL: word.Draw(t, "url"),
				APIKey: snapshot.Sealed(word.Draw(t, "key")), Models: rapid.OneOf(rapid.SliceOf(word), rapid.Just([]string(nil))).Draw(t, "models"),
				Priority: whole.Draw(t, "priority"), Weight: whole.Draw(t, "weight"), Status: word.Draw(t, "status"),
				CreatedAt: int64(whole.Draw(t, "created")), UpdatedAt: rapid.Int64().Draw(t, "updated"),
			}
			m := snapshot.Model{
				ID: c.ID, Channels: snapshot.ListIDs(c.Models...), InputPerMillion: price.Draw(t, "in"),
				OutputPerMillion: price.Draw(t, "out"), CachedPerMillion: price.Draw(t, "cached"),
			}
			for _, text := range []string{encoded(t, &c), encoded(t, &m)} {
				all++
				if sameAsJSON(t, text, snapshot.CanonicalChannel) || sameAsJSON(t, text, snapshot.CanonicalModel) {
					taken++
				}
				broken := []byte(text)
				broken[rapid.IntRange(0, len(text)-1).Draw(t, "at")] = rapid.OneOf(rapid.SampledFrom([]byte(`{}[]",:\-0e. n`+"\x00\xff")), rapid.Byte()).Draw(t, "byte")
				sameAsJSON(t, string(broken), snapshot.CanonicalChannel)
				sameAsJSON(t, string(broken), snapshot.CanonicalModel)
			}
		}
	})
	if taken*4 < all {
		t.Errorf("%d of %d records were of the canonical form", taken, all)
	}
}

func encoded(t *rapid.T, record any) string {
	text, err := snapshot.Encode(record)
	if err != nil {
		t.Fatal(err)
	}
	return text
}

// TestOrdinaryRecordsAreCanonical keeps the fast way the usual one: a field that
// is added to a record has to be added there.
func TestOrdinaryRecordsAreCanonical(t *testing.T) {
	price := 2.5
	for _, record := range []any{
		&snapshot.Channel{ID: "c", Name: "Kanal für Ü", Type: "openai", BaseURL: "https://a.example/v1?x=1&y=<2>", Models: []string{"m", "n"}, Priority: -1, Weight: 3, Status: "enabled", CreatedAt: math.MaxInt64},
		&snapshot.Channel{}, &snapshot.Channel{Models: []string{}},
		&snapshot.Model{ID: "m", Channels: snapshot.ListIDs("c")}, &snapshot.Model{ID: "m", InputPerMillion: &price, CachedPerMillion: new(float64)},
	} {
		text, err := snapshot.Encode(record)
		if err != nil {
			t.Fatal(err)
		}
		ok := false
		switch record.(type) {
		case *snapshot.Channel:
			ok = sameAsJSON(t, text, snapshot.CanonicalChannel)
		case *snapshot.Model:
			ok = sameAsJSON(t, text, snapshot.CanonicalModel)
		}
		if !ok {
			t.Errorf("%s is not of the canonical form", text)
		}
	}
}

// FuzzCanonical looks for a text that the two readers take for different things.
func FuzzCanonical(f *testing.F) {
	f.Add(`{"id":"c","name":"n","type":"openai","baseUrl":"","apiKey":"sealed:k:AA","models":["m"],"priority":0,"weight":-1,"status":"enabled","createdAt":1,"updatedAt":2}`)
	f.Add(`{"id":"m","channels":["c"],"inputPerMillion":2.5,"outputPerMillion":10,"cachedPerMillion":0.25}`)
	f.Add(`{"id":"m","channels":null}` + strings.Repeat(" ", 3))
	f.Fuzz(func(t *testing.T, text string) {
		sameAsJSON(t, text, snapshot.CanonicalChannel)
		sameAsJSON(t, text, snapshot.CanonicalModel)
	})
}

// BenchmarkDecodeChannel reads one channel of 300 bytes and checks it.
func BenchmarkDecodeChannel(b *testing.B) {
	text, err := snapshot.Encode(&snapshot.Channel{
		ID: "ch_000001", Name: "channel one", Type: "openai", BaseURL: "https://api.example.com/v1",
		APIKey: snapshot.Sealed("sealed:k1:" + strings.Repeat("QUJD", 17)), Models: []string{"gpt-4o", "gpt-4o-mini", "o3"},
		Weight: 1, Status: "enabled", CreatedAt: 1764000000000, UpdatedAt: 1764000000000,
	})
	if err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	for b.Loop() {
		if _, err := snapshot.DecodeChannel("ch_000001", text); err != nil {
			b.Fatal(err)
		}
	}
}

// TestChannelsShareTheirListsOfModels reads channels that offer the same, one
// that offers something else, and one whose list ends where no list may.
func TestChannelsShareTheirListsOfModels(t *testing.T) {
	decode := snapshot.ChannelDecoder()
	read := func(id string, models ...string) (*snapshot.Channel, string) {
		body, _ := snapshot.Encode(&snapshot.Channel{
			ID: id, Name: id, Type: "openai", BaseURL: "https://a.example", APIKey: "sealed:k:Zm9v", Models: models, Weight: 1, Status: snapshot.StatusEnabled,
		})
		c, err := decode(id, body)
		if err != nil || !reflect.DeepEqual(c.Models, models) {
			t.Fatalf("%s is read as %+v, %v", body, c, err)
		}
		return c, body
	}
	first, _ := read("a", "m-1", "m-2")
	read("b", "m-1")
	second, body := read("c", "m-1", "m-2")
	read("d", "m-1]", "m-2")
	third, _ := read("e", "m-1", "m-2")
	if &second.Models[0] != &third.Models[0] {
		t.Error("two that came later have lists of their own")
	}
	at := uintptr(unsafe.Pointer(unsafe.StringData(second.Models[0]))) - uintptr(unsafe.Pointer(unsafe.StringData(body)))
	if &second.Models[0] == &first.Models[0] || at < uintptr(len(body)) { // it is part of a text
		t.Error("a list that is shared holds on to one of the records")
	}
}
