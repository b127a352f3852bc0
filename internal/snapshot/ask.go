package snapshot

import (
	"errors"
	"time"
)

// Wire is the format in which a client and an upstream speak to each other.
type Wire string

// The wire formats of the data plane.
const (
	WireOpenAI    Wire = "openai"    // /v1/chat/completions, /v1/responses, /v1/embeddings
	WireAnthropic Wire = "anthropic" // /v1/messages
)

// Speaks reports whether an upstream of this channel's type takes requests in
// w. A custom one is taken at its word, and speaks both.
func (c *Channel) Speaks(w Wire) bool {
	switch c.Type {
	case "custom":
		return w == WireOpenAI || w == WireAnthropic
	case "anthropic":
		return w == WireAnthropic
	}
	return w == WireOpenAI
}

// Ask is what routing knows of one request. Its strings are valid UTF-8.
type Ask struct {
	Wire      Wire
	Path      string // route of the data plane, such as /v1/messages
	Model     string // as the client named it
	Text      string // what the user's messages say, joined by newlines; the first 256 KiB of it
	Tokens    int    // estimate of the whole prompt: a token for four bytes of its text
	Messages  int    // how many messages there are
	MaxTokens int    // what the client allows for the answer; 0: it did not say
	HasTools  bool
	HasImages bool
	Stream    bool
	Session   string // what keeps a conversation on one channel; "" for none
}

// Outcome is how an attempt at a channel ended, for its circuit breaker.
type Outcome uint8

// The outcomes.
const (
	Succeeded Outcome = iota // the upstream answered, if only to refuse the request itself (4xx)
	Failed                   // it could not be reached, or answered 5xx, or broke off, or said nothing until the client had waited enough
	Throttled                // it answered 429
	Abandoned                // the client went away soon or within the answer, or the attempt was never sent: says nothing
)

// Attempt is one channel to try for a request.
type Attempt struct {
	Channel *Channel
	Model   string // to ask for instead of the client's; "" keeps that one
	Rule    string // id of the rule that chose it; "" for none
	// Done must be called once, when the attempt has ended. retryAfter is what
	// the upstream asked for, and zero without.
	Done func(o Outcome, retryAfter time.Duration)
}

// Plan is where one request may go, best channel first. It is not safe for
// concurrent use.
type Plan interface {
	// Next returns the next channel to try, each at most once, and false when
	// none is left.
	Next() (Attempt, bool)
}

// Conditions of a request that cannot be routed.
var (
	// ErrNoModel reports a model that no enabled channel offers.
	ErrNoModel = errors.New("no channel offers this model")
	// ErrWrongWire reports a model that is offered only by channels which do
	// not speak the route's format.
	ErrWrongWire = errors.New("no channel that offers this model speaks this format")
	// ErrAllOpen reports that every channel that could serve is resting after
	// failures. It comes as a *Resting.
	ErrAllOpen = errors.New("every channel that offers this model is failing")
)

// Resting is ErrAllOpen with the time after which trying again makes sense.
type Resting struct{ For time.Duration }

// Error says what ErrAllOpen says.
func (r *Resting) Error() string { return ErrAllOpen.Error() }

// Unwrap makes it an ErrAllOpen.
func (r *Resting) Unwrap() error { return ErrAllOpen }

// RequestLog is one request that the data plane has answered.
type RequestLog struct {
	ChannelID    string // "" when no channel was found
	Model        string
	Method       string
	Path         string
	StatusCode   int
	Latency      time.Duration // stored in whole milliseconds
	InputTokens  int64         // cached ones included
	OutputTokens int64
	CachedTokens int64
	Success      bool
	Error        string    // "" on success; never a key or a URL
	At           time.Time // zero: now
}
