package e2e_test

import (
	"encoding/json"
	"fmt"
	"maps"
	"math/rand/v2"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/routex/cachewarmer/internal/snapshot"
	"github.com/routex/cachewarmer/internal/testkit"
	"github.com/routex/cachewarmer/test/fleet"
)

// What random catalogues and requests are made of.
var (
	someModels   = []string{"gpt-a", "gpt-b", "claude-c", "embed-d"}
	someWords    = []string{"translate", "Poem", "URGENT", "straße", "日本", "invoice"}
	somePatterns = []string{"^hello", `\d{3}`, "(poem|song)", "[x-z]$", "ur?gent", `(?-i)URGENT`}
	someExprs    = []string{"tokens > 40", "stream", "hasTools && !stream", `wire == "anthropic"`, `session != "" && maxTokens > 100`, "messages >= 2", `model startsWith "claude"`}
)

const (
	randomChannels = 8
	randomRules    = 8
)

func oneOf[T any](random *rand.Rand, list []T) T { return list[random.IntN(len(list))] }

// some returns a part of list, of one at least, in its order.
func some(random *rand.Rand, list []string) []string {
	out := slices.DeleteFunc(slices.Clone(list), func(string) bool { return random.IntN(2) == 0 })
	if len(out) == 0 {
		return []string{oneOf(random, list)}
	}
	return out
}

// shuffleCatalogue gives every channel, every rule and the strategy random
// values, through replica A.
func shuffleCatalogue(f *fleet.Fleet, random *rand.Rand) {
	a := f.Replicas[0]
	last := func(i, n int) string {
		if i == n-1 {
			return "&wait=fleet&timeoutMs=20000"
		}
		return ""
	}
	for i := range randomChannels {
		status := snapshot.StatusEnabled
		if i > 0 && random.IntN(4) == 0 { // one stays
			status = snapshot.StatusDisabled
		}
		f.Must(a.Put(fmt.Sprintf("/api/channels/c-%d?force=true&reason=chance%s", i, last(i, randomChannels)), map[string]any{
			"type":     oneOf(random, snapshot.ChannelTypes),
			"models":   some(random, someModels),
			"priority": random.IntN(3), "weight": random.IntN(4), "status": status,
		}))
	}
	for i := range randomRules {
		f.Must(a.Put(fmt.Sprintf("/api/routing/rules/r-%d?%s", i, strings.TrimPrefix(last(i, randomRules), "&")), map[string]any{
			"condition": randomCondition(random), "priority": random.IntN(4), "enabled": random.IntN(5) > 0,
			"targetChannel": fmt.Sprintf("c-%d", random.IntN(randomChannels)),
			"targetModel":   oneOf(random, append([]string{"", "", ""}, someModels...)),
		}))
	}
	f.Must(a.Put(strategyPath+"?wait=fleet&timeoutMs=20000", map[string]any{"strategy": oneOf(random, snapshot.Strategies)}))
}

func randomCondition(random *rand.Rand) map[string]any {
	c := map[string]any{}
	for range 1 + random.IntN(2) {
		switch random.IntN(7) {
		case 0:
			c["tokenThreshold"] = random.IntN(60)
		case 1:
			c["keywords"] = some(random, someWords)
		case 2:
			c["userPattern"] = oneOf(random, somePatterns)
		case 3:
			c["modelPattern"] = oneOf(random, []string{"^gpt", "claude", "-[ad]$"})
		case 4:
			c["hasTools"] = random.IntN(2) == 0
		case 5:
			c["hasImages"] = random.IntN(2) == 0
		case 6:
			c["expr"] = oneOf(random, someExprs)
		}
	}
	return c
}

// randomRequest is request n of no session if that is asked for.
func randomRequest(random *rand.Rand, n int, session bool) (path, body string, header []string) {
	text := strings.Join(append(some(random, someWords), strings.Repeat("hello 123 ", random.IntN(20)), oneOf(random, []string{"x", "song", "Poem", ""})), " ")
	content := any(text)
	if random.IntN(3) == 0 {
		content = []any{map[string]any{"type": "text", "text": text}, map[string]any{"type": "image_url", "image_url": map[string]any{"url": "data:,"}}}
	}
	messages := []any{map[string]any{"role": "user", "content": content}}
	if random.IntN(3) == 0 {
		messages = append([]any{map[string]any{"role": "system", "content": "be brief"}}, messages...)
	}
	m := map[string]any{"model": oneOf(random, append([]string{"nobody-has-this"}, someModels...)), "seen": numbered(n)}
	path = oneOf(random, []string{chatPath, chatPath, messagesPath, "/v1/responses", "/v1/embeddings"})
	if path == chatPath || path == messagesPath {
		m["messages"] = messages
	} else {
		m["input"] = text
	}
	if random.IntN(3) == 0 {
		m["tools"] = []any{map[string]any{"name": "f", "type": "function", "function": map[string]any{"name": "f"}}}
	}
	m["stream"], m["max_tokens"] = random.IntN(3) == 0, random.IntN(200)
	if session {
		if random.IntN(2) == 0 {
			header = []string{"X-Session-Id", fmt.Sprintf("s-%d", random.IntN(1000))}
		} else {
			m["user"] = fmt.Sprintf("u-%d", random.IntN(1000))
		}
	}
	encoded, _ := json.Marshal(m) // strings and numbers
	return path, string(encoded), header
}

// TestExplainIsWhatHappens asks for an explanation of random requests to random
// catalogues, and then sends the request itself to the same replica. Chance has
// no part in where it goes: it has a session, or the strategy takes turns.
func TestExplainIsWhatHappens(t *testing.T) {
	t.Parallel()
	random := testkit.Random(t)
	catalogues, requests := testkit.Rounds(6, 300), 80
	var mu sync.Mutex
	where := map[int][2]string{} // channel and model, by number
	u := fleet.NewUpstream(t, func(channel string, _ *http.Request, body []byte) {
		var b struct{ Model, Seen string }
		_ = json.Unmarshal(body, &b)
		mu.Lock()
		defer mu.Unlock()
		where[heard([]byte(b.Seen))] = [2]string{channel, b.Model}
	})
	f := fleet.Start(t, fleet.Options{Upstreams: true})
	var list []fleet.Provider
	for i := range randomChannels {
		list = append(list, fleet.Provider{ID: fmt.Sprintf("c-%d", i)})
	}
	f.Provide(u, list...)
	for i := range randomRules {
		f.Must(f.Replicas[0].Post("/api/routing/rules", map[string]any{"id": fmt.Sprintf("r-%d", i), "name": fmt.Sprintf("rule %d", i), "type": "custom", "targetChannel": "c-0"}))
	}
	outcomes, agreed := map[string]int{}, 0
	for range catalogues {
		shuffleCatalogue(f, random)
		strategy, _ := strategyOf(f.Replicas[0])
		for range requests {
			n := agreed + outcomes["differ"]
			r := f.Replicas[random.IntN(len(f.Replicas))]
			path, body, header := randomRequest(random, n, strategy != "round_robin" || random.IntN(2) == 0)
			e, err := explained(t, r, path, body, header...)
			if err != nil {
				t.Fatalf("explain of %s %s: %v", path, body, err)
			}
			a := ask(t, r, path, body, header...)
			mu.Lock()
			got := where[n]
			mu.Unlock()
			want := [2]string{e.Channel, e.Upstream}
			if e.Channel == "" {
				want = [2]string{}
			}
			if got != want || string(e.Strategy) != strategy || (a.Status == http.StatusOK) != (e.Channel != "") || (e.Error == "") != (e.Channel != "") {
				outcomes["differ"]++
				text, _ := json.Marshal(e)
				t.Errorf("%s %s went to %q with %d, and explain says %s", path, body, got, a.Status, text)
				continue
			}
			agreed++
			switch {
			case e.Error != "":
				outcomes["nobody: "+e.Error]++
			case e.Rule != "":
				outcomes["by a rule"]++
			default:
				outcomes["by "+strategy]++
			}
		}
	}
	t.Logf("figure: explain and the request itself at the same replica, %d requests to %d random catalogues: %d differ (bound 0); decided %v",
		agreed, catalogues, outcomes["differ"], outcomes)
	if len(slices.Collect(maps.Keys(outcomes))) < 4 {
		t.Errorf("only %v happened: the requests are not as different as they should be", outcomes)
	}
}
