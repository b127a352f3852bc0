package app

import (
	"testing"

	"github.com/routex/cachewarmer/internal/balancer"
	"github.com/routex/cachewarmer/internal/snapshot"
)

// TestARouteIsSettledByWhoOffersTheModel explains bodies that both formats have,
// without a word of the route.
func TestARouteIsSettledByWhoOffersTheModel(t *testing.T) {
	b, err := balancer.New(balancer.Options{})
	if err != nil {
		t.Fatal(err)
	}
	channels := map[string]*snapshot.Channel{}
	for id, kind := range map[string]string{"a": "anthropic", "o": "openai"} {
		channels[id] = &snapshot.Channel{ID: id, Name: id, Type: kind, Models: []string{"model-" + id}, Weight: 1, Status: snapshot.StatusEnabled}
	}
	r := &routing{pools: pools{b.Compile(nil, snapshot.NewRecords(channels))}}
	for _, tt := range []struct {
		model    string
		messages int
		wire     snapshot.Wire
		want     snapshot.Wire
		path     string
	}{
		{"model-a", 1, snapshot.WireOpenAI, snapshot.WireAnthropic, "/v1/messages"},
		{"model-o", 1, snapshot.WireAnthropic, snapshot.WireOpenAI, "/v1/chat/completions"},
		{"model-o", 1, snapshot.WireOpenAI, snapshot.WireOpenAI, "as guessed"},
		{"model-a", 0, snapshot.WireOpenAI, snapshot.WireOpenAI, "as guessed"}, // an embedding has no other format
		{"nobody's", 1, snapshot.WireOpenAI, snapshot.WireOpenAI, "as guessed"},
	} {
		ask := &snapshot.Ask{Model: tt.model, Messages: tt.messages, Wire: tt.wire, Path: "as guessed"}
		if settle(ask, r); ask.Wire != tt.want || ask.Path != tt.path {
			t.Errorf("%s with %d messages, guessed as %s: %s at %s, want %s at %s", tt.model, tt.messages, tt.wire, ask.Wire, ask.Path, tt.want, tt.path)
		}
	}
}
