package proxy

import (
	"cmp"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/routex/cachewarmer/internal/snapshot"
)

// Options of a Proxy. Zero fields mean the defaults named beside them.
type Options struct {
	// ClientTokens are accepted as Authorization: Bearer or x-api-key. Without
	// any, everybody is refused, unless Open.
	ClientTokens []snapshot.Secret
	// Open lets everybody in where ClientTokens is empty, except web pages of
	// another origin. It is for loopback addresses.
	Open bool
	// Reveal opens a channel's key. It is called only when a request is about to
	// be forwarded. nil: only channels without a key can be used.
	Reveal func(*snapshot.Channel) (snapshot.Secret, error)
	// AllowUpstream lists networks that may be dialled although they are not the
	// public internet.
	AllowUpstream []netip.Prefix

	// Identity names the fleet in the Via of what is sent, so that a request that
	// comes back is refused; "routex-" and random digits. It is a token of HTTP.
	Identity string

	MaxBodyBytes int64         // of a request; 32 MiB
	MaxAttempts  int           // channels tried for one request; 3
	Budget       time.Duration // after it no further channel is tried; 90s
	Dial         time.Duration // to connect; 3s
	Handshake    time.Duration // TLS; 5s
	// FirstByte is how long a streamed answer may take to begin; 60s. One that is
	// not streamed comes when all of it is made, and may take Whole: 5m, half of
	// what the official clients wait for, so that another channel has a chance.
	FirstByte time.Duration
	Whole     time.Duration
	Idle      time.Duration // between two pieces of an answer, on either side; 5m
	// Unheard is how long an attempt goes without a byte before a client that gives
	// up counts against the channel; 10s. For an answer that is not streamed it is
	// six times as long.
	Unheard time.Duration
	Refusal time.Duration // for the body of an answer of 400 or more, after its head; 5s
	Upload  time.Duration // for a client to send its body; 2m

	Log *slog.Logger          // slog.Default()
	Reg prometheus.Registerer // nil: metrics work but are not exported
}

// withDefaults checks o and fills in what is zero.
func (o Options) withDefaults() (Options, error) {
	for _, d := range []struct {
		name  string
		value *time.Duration
		or    time.Duration
	}{
		{"Budget", &o.Budget, 90 * time.Second},
		{"Dial", &o.Dial, 3 * time.Second},
		{"Handshake", &o.Handshake, 5 * time.Second},
		{"FirstByte", &o.FirstByte, time.Minute},
		{"Whole", &o.Whole, 5 * time.Minute},
		{"Idle", &o.Idle, 5 * time.Minute},
		{"Unheard", &o.Unheard, 10 * time.Second},
		{"Refusal", &o.Refusal, 5 * time.Second},
		{"Upload", &o.Upload, 2 * time.Minute},
	} {
		if *d.value < 0 {
			return o, fmt.Errorf("proxy: %s is %v, want 0 or more", d.name, *d.value)
		}
		*d.value = cmp.Or(*d.value, d.or)
	}
	if o.MaxBodyBytes < 0 || o.MaxAttempts < 0 {
		return o, errors.New("proxy: MaxBodyBytes and MaxAttempts want 0 or more")
	}
	o.MaxBodyBytes = cmp.Or(o.MaxBodyBytes, 32<<20)
	o.MaxAttempts = cmp.Or(o.MaxAttempts, 3)
	o.Identity = cmp.Or(o.Identity, "routex-"+snapshot.RandomID(8))
	o.Log = cmp.Or(o.Log, slog.Default())
	if o.Reveal == nil {
		o.Reveal = func(c *snapshot.Channel) (snapshot.Secret, error) {
			if c.APIKey != "" {
				return snapshot.Secret{}, fmt.Errorf("channel %q has a key and nothing opens it: %w", c.ID, snapshot.ErrInvalid)
			}
			return snapshot.Secret{}, nil
		}
	}
	return o, nil
}
