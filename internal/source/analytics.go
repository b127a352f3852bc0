package source

import (
	"context"
	"math"

	"github.com/routex/cachewarmer/internal/snapshot"
)

// tally adds up requests.
type tally struct {
	requests, successes, latencyMs, input, output, cached int64
	cost                                                  float64 // millionths of a US dollar
}

func (a *tally) add(b tally) {
	a.requests += b.requests
	a.successes += b.successes
	a.latencyMs += b.latencyMs
	a.input += b.input
	a.output += b.output
	a.cached += b.cached
	a.cost += b.cost
}

// usage rounds, so that the same log always gives the same JSON.
func (a tally) usage() snapshot.Usage {
	u := snapshot.Usage{
		Requests: a.requests, Successes: a.successes, Failures: a.requests - a.successes,
		InputTokens: a.input, OutputTokens: a.output, CachedTokens: a.cached,
		EstimatedCost: round(a.cost/1e6, 6),
	}
	if a.requests > 0 {
		u.AverageLatencyMs = round(float64(a.latencyMs)/float64(a.requests), 3)
	}
	return u
}

func round(v float64, digits int) float64 {
	scale := math.Pow10(digits)
	return math.Round(v*scale) / scale
}

// price adds what the tokens cost. Cached tokens are a part of the input that
// has a price of its own.
func (a *tally) price(p snapshot.Price) {
	a.cost = float64(max(a.input-a.cached, 0))*p.Input + float64(a.output)*p.Output + float64(a.cached)*p.Cached
}

// summary computes the analytics record from the whole of request_logs. A
// request with no channel or no model counts in the total only.
func (t *tx) summary(ctx context.Context) (*snapshot.Summary, error) {
	var total tally
	channels, models := map[string]*tally{}, map[string]*tally{}
	const query = `SELECT l.*, COALESCE(p.model, ''), COALESCE(p.input_per_million, 0),
		COALESCE(p.output_per_million, 0), COALESCE(p.cached_per_million, 0)
		FROM (SELECT channel_id, model, COUNT(*), SUM(CASE WHEN success THEN 1 ELSE 0 END),
			CAST(SUM(latency_ms) AS BIGINT), CAST(SUM(input_tokens) AS BIGINT),
			CAST(SUM(output_tokens) AS BIGINT), CAST(SUM(cached_tokens) AS BIGINT)
			FROM request_logs GROUP BY channel_id, model) AS l
		LEFT JOIN model_prices AS p ON p.model = l.model ORDER BY l.channel_id, l.model`
	err := t.each(ctx, "request_logs", query, func(r Rows) error {
		var channel, model string
		var a tally
		var p snapshot.Price
		if err := r.Scan(&channel, &model, &a.requests, &a.successes, &a.latencyMs, &a.input, &a.output, &a.cached,
			&p.Model, &p.Input, &p.Output, &p.Cached); err != nil {
			return err
		}
		if checkPrice(p) == nil {
			a.price(p)
		}
		total.add(a)
		addTo(channels, channel, a)
		addTo(models, model, a)
		return nil
	})
	if err != nil {
		return nil, err
	}
	return &snapshot.Summary{
		ID: snapshot.AnalyticsID, Usage: total.usage(),
		ByChannel: usages(channels), ByModel: usages(models),
	}, nil
}

func addTo(sums map[string]*tally, key string, a tally) {
	if key == "" {
		return
	}
	if sums[key] == nil {
		sums[key] = &tally{}
	}
	sums[key].add(a)
}

func usages(sums map[string]*tally) map[string]snapshot.Usage {
	out := make(map[string]snapshot.Usage, len(sums))
	for key, a := range sums {
		out[key] = a.usage()
	}
	return out
}
