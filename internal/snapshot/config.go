package snapshot

import (
	"encoding/json"
	"fmt"
	"time"
)

// CacheConfig is how the fleet warms and balances. The source owns it
// (cache_config), Redis mirrors it, every replica follows it. Its JSON is that of
// the control API's config, which has no strategy; EncodeConfig's has one.
type CacheConfig struct {
	Enabled           bool              `json:"enabled"`
	WarmOnStartup     bool              `json:"warmOnStartup"`
	WarmItems         WarmItems         `json:"warmItems"`
	BackgroundRefresh BackgroundRefresh `json:"backgroundRefresh"`
	SmartInvalidation SmartInvalidation `json:"smartInvalidation"`
	// Strategy is the load balancer's. It is "" in a mirror that was written by
	// a release without one: then only the source knows it.
	Strategy Strategy `json:"-"`
}

// WarmItems says which kinds are warmed ahead. The others are loaded when they
// are first asked for.
type WarmItems struct {
	Channels     bool `json:"channels"`
	Models       bool `json:"models"`
	RoutingRules bool `json:"routingRules"`
	Analytics    bool `json:"analytics"`
}

// BackgroundRefresh is the refresher's timer.
type BackgroundRefresh struct {
	Enabled    bool  `json:"enabled"`
	IntervalMs int64 `json:"intervalMs"`
}

// SmartInvalidation says what a change in the source does.
type SmartInvalidation struct {
	Enabled                bool `json:"enabled"`
	AutoInvalidateOnUpdate bool `json:"autoInvalidateOnUpdate"`
}

// Bounds of BackgroundRefresh.IntervalMs.
const (
	MinIntervalMs = 1_000
	MaxIntervalMs = 86_400_000
)

// DefaultCacheConfig is what a fleet starts with.
func DefaultCacheConfig() CacheConfig {
	return CacheConfig{
		Enabled:           true,
		WarmOnStartup:     true,
		WarmItems:         WarmItems{Channels: true, Models: true, RoutingRules: true, Analytics: true},
		BackgroundRefresh: BackgroundRefresh{Enabled: true, IntervalMs: 300_000},
		SmartInvalidation: SmartInvalidation{Enabled: true, AutoInvalidateOnUpdate: true},
		Strategy:          ByPriority,
	}
}

// Check reports a value that is out of bounds.
func (c CacheConfig) Check() error {
	if ms := c.BackgroundRefresh.IntervalMs; ms < MinIntervalMs || ms > MaxIntervalMs {
		return fmt.Errorf("backgroundRefresh.intervalMs is %d, want %d to %d: %w", ms, MinIntervalMs, MaxIntervalMs, ErrInvalid)
	}
	if c.Strategy != "" {
		return c.Strategy.Check()
	}
	return nil
}

// mirroredConfig is a config as Redis holds it.
type mirroredConfig struct {
	CacheConfig
	LoadBalancer struct {
		Strategy Strategy `json:"strategy"`
	} `json:"loadBalancer"`
}

// EncodeConfig returns the JSON of the mirror, strategy included.
func EncodeConfig(c CacheConfig) (string, error) {
	m := mirroredConfig{CacheConfig: c}
	m.LoadBalancer.Strategy = c.Strategy
	return Encode(m)
}

// DecodeConfig reads what EncodeConfig wrote, in this release or another. Fields
// that are absent have their defaults, but for the strategy, which is "".
func DecodeConfig(body string) (CacheConfig, error) {
	m := mirroredConfig{CacheConfig: DefaultCacheConfig()}
	if err := json.Unmarshal([]byte(body), &m); err != nil {
		return CacheConfig{}, fmt.Errorf("config: %w: %w", ErrInvalid, err)
	}
	m.CacheConfig.Strategy = m.LoadBalancer.Strategy
	return m.CacheConfig, m.Check()
}

// Interval is the time between two background refreshes.
func (c CacheConfig) Interval() time.Duration {
	return time.Duration(c.BackgroundRefresh.IntervalMs) * time.Millisecond
}

// Warms reports whether kind is warmed ahead.
func (c CacheConfig) Warms(kind Kind) bool {
	switch kind {
	case Channels:
		return c.WarmItems.Channels
	case Models:
		return c.WarmItems.Models
	case RoutingRules:
		return c.WarmItems.RoutingRules
	case Analytics:
		return c.WarmItems.Analytics
	}
	return false
}

// VersionedConfig is a config with the version the source gave it.
type VersionedConfig struct {
	CacheConfig
	Version   int64
	UpdatedBy string
	UpdatedAt time.Time
}
