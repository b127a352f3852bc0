package source

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net/http"
	"time"

	"github.com/routex/cachewarmer/internal/snapshot"
)

// demoChannels have keys that no provider ever issued.
var demoChannels = []struct {
	snapshot.Channel
	key string
}{
	{snapshot.Channel{ID: "ch_demo_claude", Name: "Claude", Type: "anthropic", Models: []string{"claude-opus-4", "claude-sonnet-4", "claude-haiku-4"}, Priority: 1, Weight: 5}, "sk-ant-demo-not-a-real-key-0001"},
	{snapshot.Channel{ID: "ch_demo_openai", Name: "OpenAI", Type: "openai", Models: []string{"gpt-5", "gpt-5-mini", "text-embedding-3-large"}, Priority: 1, Weight: 3}, "sk-demo-not-a-real-key-0002"},
	{snapshot.Channel{ID: "ch_demo_openai_backup", Name: "OpenAI backup", Type: "openai", Models: []string{"gpt-5", "gpt-5-mini"}, Priority: 2, Weight: 1}, "sk-demo-not-a-real-key-0003"},
	{snapshot.Channel{ID: "ch_demo_azure", Name: "Azure EU", Type: "azure", BaseURL: "https://eu.azure.example", Models: []string{"gpt-5"}, Priority: 3, Weight: 1}, "azure-demo-not-a-real-key-0004"},
	{snapshot.Channel{ID: "ch_demo_gemini", Name: "Gemini", Type: "google", Models: []string{"gemini-3-pro", "gemini-3-flash"}, Priority: 2, Weight: 2}, "AIza-demo-not-a-real-key-0005"},
	{snapshot.Channel{ID: "ch_demo_glm", Name: "GLM", Type: "zhipu", Models: []string{"glm-5", "glm-5-air"}, Priority: 4, Weight: 1}, "glm-demo-not-a-real-key-0006"},
}

func demoRules() []snapshot.Rule {
	long, images := 60_000, true
	return []snapshot.Rule{
		{ID: "rule_demo_long", Name: "Long prompts to Gemini", Type: "longContext", Condition: snapshot.Condition{TokenThreshold: &long}, TargetChannel: "ch_demo_gemini", TargetModel: "gemini-3-pro", Priority: 100, Enabled: true},
		{ID: "rule_demo_image", Name: "Images to OpenAI", Type: "image", Condition: snapshot.Condition{HasImages: &images}, TargetChannel: "ch_demo_openai", TargetModel: "gpt-5", Priority: 90, Enabled: true},
		{ID: "rule_demo_think", Name: "Hard questions to Opus", Type: "think", Condition: snapshot.Condition{Keywords: []string{"think step by step", "prove that"}}, TargetChannel: "ch_demo_claude", TargetModel: "claude-opus-4", Priority: 80, Enabled: true},
		{ID: "rule_demo_background", Name: "Background work to Haiku", Type: "background", Condition: snapshot.Condition{ModelPattern: "haiku|mini"}, TargetChannel: "ch_demo_claude", TargetModel: "claude-haiku-4", Priority: 50, Enabled: true},
		{ID: "rule_demo_default", Name: "Everything else", Type: "default", TargetChannel: "ch_demo_claude", Enabled: true},
	}
}

var demoPrices = []snapshot.Price{
	{Model: "claude-opus-4", Input: 15, Output: 75, Cached: 1.5},
	{Model: "claude-sonnet-4", Input: 3, Output: 15, Cached: 0.3},
	{Model: "claude-haiku-4", Input: 1, Output: 5, Cached: 0.1},
	{Model: "gpt-5", Input: 1.25, Output: 10, Cached: 0.125},
	{Model: "gpt-5-mini", Input: 0.25, Output: 2, Cached: 0.025},
	{Model: "text-embedding-3-large", Input: 0.13},
	{Model: "gemini-3-pro", Input: 2, Output: 12, Cached: 0.2},
	{Model: "gemini-3-flash", Input: 0.3, Output: 2.5, Cached: 0.03},
	{Model: "glm-5", Input: 0.6, Output: 2.2, Cached: 0.11},
}

// SeedDemo fills an empty database with sample channels, rules, prices and a
// day of request logs. The channels' requests go to upstream; "" leaves them with
// their providers' addresses. It leaves a database that holds a channel or a rule
// as it is, so any number of replicas may call it.
func (d *DB) SeedDemo(ctx context.Context, upstream string) error {
	err := d.writing(ctx, func(t *tx) error {
		if err := t.lock(ctx); err != nil {
			return err
		}
		_, some, err := t.first(ctx, "channels", "SELECT id FROM (SELECT id FROM channels UNION ALL SELECT id FROM routing_rules) AS anything")
		if err != nil || some {
			return err
		}
		return t.seed(ctx, upstream)
	})
	if err != nil {
		return fmt.Errorf("seed sample data: %w", err)
	}
	return nil
}

func (t *tx) seed(ctx context.Context, upstream string) error {
	for _, c := range demoChannels {
		if upstream != "" {
			c.BaseURL = upstream
		}
		c.APIKey = t.keys.Seal(snapshot.Channels, c.ID, snapshot.NewSecret(c.key))
		if _, err := t.insertChannel(ctx, c.Channel); err != nil {
			return err
		}
	}
	for _, r := range demoRules() {
		if _, err := t.insertRule(ctx, r); err != nil {
			return err
		}
	}
	if err := t.insertPrices(ctx, demoPrices); err != nil {
		return err
	}
	return t.insertLogs(ctx, demoLogs(time.Now()))
}

// demoLogs invents the requests of the day before now, always the same ones.
func demoLogs(now time.Time) []snapshot.RequestLog {
	const count = 500
	r := rand.New(rand.NewPCG(1, 2)) //nolint:gosec // nothing here is secret
	logs := make([]snapshot.RequestLog, count)
	for i := range logs {
		c := demoChannels[r.IntN(len(demoChannels))]
		input := 200 + r.Int64N(8_000)
		l := snapshot.RequestLog{
			ChannelID: c.ID, Model: c.Models[r.IntN(len(c.Models))],
			Method: http.MethodPost, Path: "/v1/chat/completions", StatusCode: http.StatusOK, Success: true,
			Latency:     time.Duration(300+r.IntN(4_000)) * time.Millisecond,
			InputTokens: input, CachedTokens: r.Int64N(input / 2), OutputTokens: 50 + r.Int64N(1_500),
			At: now.Add(-24*time.Hour + time.Duration(i)*24*time.Hour/count),
		}
		if r.IntN(25) == 0 {
			l.StatusCode, l.Success, l.Error = http.StatusTooManyRequests, false, "rate limited by the provider"
			l.OutputTokens = 0
		}
		logs[i] = l
	}
	return logs
}
