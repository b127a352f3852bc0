package snapshot

import (
	"bytes"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
)

// Spellings of the enumerated fields, public in SQL and in HTTP.
var (
	ChannelTypes = []string{"anthropic", "openai", "azure", "google", "zhipu", "custom"}
	RuleTypes    = []string{"default", "background", "think", "longContext", "webSearch", "image", "custom"}
	Statuses     = []string{StatusEnabled, StatusDisabled}
)

// The two states of a channel. Only enabled ones are warmed.
const (
	StatusEnabled  = "enabled"
	StatusDisabled = "disabled"
)

// Channel is one upstream provider with its key. Its JSON is the record in
// snapshot:channels; fields keep this order.
type Channel struct {
	ID        string   `json:"id"`
	Name      string   `json:"name"`
	Type      string   `json:"type"` // one of ChannelTypes
	BaseURL   string   `json:"baseUrl"`
	APIKey    Sealed   `json:"apiKey"` // sealed; opened only to forward a request
	Models    []string `json:"models"`
	Priority  int      `json:"priority"`  // lower is tried first
	Weight    int      `json:"weight"`    // share inside one priority
	Status    string   `json:"status"`    // one of Statuses
	CreatedAt int64    `json:"createdAt"` // Unix milliseconds
	UpdatedAt int64    `json:"updatedAt"` // Unix milliseconds
}

// Condition says when a rule applies; all given parts have to hold.
type Condition struct {
	TokenThreshold *int     `json:"tokenThreshold,omitempty"`
	Keywords       []string `json:"keywords,omitempty"`
	UserPattern    string   `json:"userPattern,omitempty"`  // RE2
	ModelPattern   string   `json:"modelPattern,omitempty"` // RE2
	HasTools       *bool    `json:"hasTools,omitempty"`
	HasImages      *bool    `json:"hasImages,omitempty"`
	Expr           string   `json:"expr,omitempty"` // see CompileExpr
}

// Rule sends matching requests to a channel. Its JSON is the record in
// snapshot:routingRules.
type Rule struct {
	ID            string    `json:"id"`
	Name          string    `json:"name"`
	Type          string    `json:"type"` // one of RuleTypes
	Condition     Condition `json:"condition"`
	TargetChannel string    `json:"targetChannel"` // a channel's id or name
	TargetModel   string    `json:"targetModel"`   // "" keeps the request's model
	Priority      int       `json:"priority"`      // higher is tried first
	Enabled       bool      `json:"enabled"`
	CreatedAt     int64     `json:"createdAt"` // Unix milliseconds
	UpdatedAt     int64     `json:"updatedAt"` // Unix milliseconds
}

// Model is a model and the channels that offer it, derived from the channels
// of the same load. Prices are in US dollars for a million tokens; nil means
// that no price is known.
type Model struct {
	ID               string   `json:"id"`
	Channels         IDs      `json:"channels"` // in rising order
	InputPerMillion  *float64 `json:"inputPerMillion,omitempty"`
	OutputPerMillion *float64 `json:"outputPerMillion,omitempty"`
	CachedPerMillion *float64 `json:"cachedPerMillion,omitempty"`
}

// Price is a row of model_prices.
type Price struct {
	Model                 string
	Input, Output, Cached float64
}

// Usage sums up requests. Cost is in US dollars.
type Usage struct {
	Requests         int64   `json:"requests"`
	Successes        int64   `json:"successes"`
	Failures         int64   `json:"failures"`
	AverageLatencyMs float64 `json:"averageLatencyMs"`
	InputTokens      int64   `json:"inputTokens"`
	OutputTokens     int64   `json:"outputTokens"`
	CachedTokens     int64   `json:"cachedTokens"`
	EstimatedCost    float64 `json:"estimatedCost"`
}

// AnalyticsID is the id of the one analytics record.
const AnalyticsID = "summary"

// Summary is the analytics record: all requests in the log, and the same by
// channel id and by model.
type Summary struct {
	ID string `json:"id"` // AnalyticsID
	Usage
	ByChannel map[string]Usage `json:"byChannel"`
	ByModel   map[string]Usage `json:"byModel"`
}

// Encode returns the canonical JSON of a record: one line, fields in the order
// of the struct, no HTML escapes.
func Encode(record any) (string, error) {
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(record); err != nil {
		return "", fmt.Errorf("encode record: %w", err)
	}
	return string(bytes.TrimRight(b.Bytes(), "\n")), nil
}

// decode reads body into a T and checks the id it carries. Unknown fields are
// left alone: they come from a newer release. canonical is tried first, and may
// be nil; within reports that it has read body, so that the strings of the record
// are parts of that.
func decode[T any](id, body string, canonical func(string) (*T, bool), idOf func(*T) string) (v *T, within bool, err error) {
	if canonical != nil {
		v, within = canonical(body)
	}
	if !within {
		v = new(T)
		if err := json.Unmarshal([]byte(body), v); err != nil {
			return nil, false, fmt.Errorf("record %q: %w: %w", id, ErrInvalid, err)
		}
	}
	if got := idOf(v); got != id {
		return nil, within, fmt.Errorf("record %q names itself %q: %w", id, got, ErrInvalid)
	}
	return v, within, nil
}

// within makes the strings of a decoded record parts of the text it was decoded
// from, which is in memory anyway, rather than copies. They have to be given in
// the order of the text; what is not found there, such as an escaped one, and
// what follows that, stays as it is.
func within(body string, parts ...*string) (rest string) {
	for _, part := range parts {
		at := strings.Index(body, *part)
		if at < 0 {
			return ""
		}
		end := at + len(*part)
		*part, body = body[at:end], body[end:]
	}
	return body
}

// DecodeChannel reads a record of snapshot:channels and checks it. The record
// holds on to body.
func DecodeChannel(id, body string) (*Channel, error) { return decodeChannel(id, body, nil) }

// ChannelDecoder returns a DecodeChannel for many records: those that offer the
// same models share the list of them. It is for one goroutine, and holds on to
// what it has read.
func ChannelDecoder() func(id, body string) (*Channel, error) {
	known := lists{}
	return func(id, body string) (*Channel, error) { return decodeChannel(id, body, known) }
}

func decodeChannel(id, body string, known lists) (*Channel, error) {
	canonical := func(body string) (*Channel, bool) { return canonicalChannel(body, known) }
	c, inText, err := decode(id, body, canonical, func(c *Channel) string { return c.ID })
	if err != nil {
		return nil, err
	}
	if !inText {
		rest := within(body, &c.ID, &c.Name, &c.Type, &c.BaseURL, (*string)(&c.APIKey))
		for i := range c.Models {
			rest = within(rest, &c.Models[i])
		}
		within(rest, &c.Status)
		c.Models = slices.Clone(c.Models) // as long as it is
	}
	return c, c.Check()
}

// DecodeModel reads a record of snapshot:models. The record holds on to body.
func DecodeModel(id, body string) (*Model, error) {
	m, inText, err := decode(id, body, canonicalModel, func(m *Model) string { return m.ID })
	if err == nil && m.Channels.Empty() {
		err = fmt.Errorf("model %q has no channel: %w", id, ErrInvalid)
	}
	if err != nil || inText {
		return m, err
	}
	within(body, &m.ID, (*string)(&m.Channels))
	return m, nil
}

// DecodeRule reads a record of snapshot:routingRules and checks it.
func DecodeRule(id, body string) (*Rule, error) {
	r, _, err := decode(id, body, nil, func(r *Rule) string { return r.ID })
	if err != nil {
		return nil, err
	}
	return r, r.Check()
}

// DecodeSummary reads the record of snapshot:analytics.
func DecodeSummary(id, body string) (*Summary, error) {
	s, _, err := decode(id, body, nil, func(s *Summary) string { return s.ID })
	return s, err
}

func oneOf(field, value string, allowed []string) error {
	if slices.Contains(allowed, value) {
		return nil
	}
	return fmt.Errorf("%s is %q, want one of %v: %w", field, value, allowed, ErrInvalid)
}
