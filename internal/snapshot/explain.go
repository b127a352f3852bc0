package snapshot

import "time"

// Pick is a channel that the load balancer chose. It counts as in flight until
// Done is called, which must be once.
type Pick struct {
	Channel *Channel
	Done    func(o Outcome, retryAfter time.Duration)
}

// RouteCandidate is a channel that could serve a request, as the load balancer sees
// it at this replica.
type RouteCandidate struct {
	ID         string  `json:"id"`
	Name       string  `json:"name"`
	Priority   int     `json:"priority"`
	Weight     int     `json:"weight"`
	Share      float64 `json:"share"`      // of requests without a session that come here first, 0 to 1
	InFlight   int64   `json:"inFlight"`   // requests at this replica
	Total      int64   `json:"total"`      // requests of this replica so far
	RestingMs  int64   `json:"restingMs"`  // for how long its breaker, or its Retry-After, still keeps requests away
	SessionsTo bool    `json:"sessionsTo"` // this request's session belongs here
}

// ConditionResult says whether one part of a rule's condition holds, and why.
type ConditionResult struct {
	Condition string `json:"condition"` // its field, such as "keywords"
	Holds     bool   `json:"holds"`
	Why       string `json:"why"` // a sentence for people
}

// RuleResult says what became of one rule for a request.
type RuleResult struct {
	ID         string            `json:"id"`
	Name       string            `json:"name"`
	Priority   int               `json:"priority"`
	Matches    bool              `json:"matches"` // all its conditions hold
	Used       bool              `json:"used"`    // it chose the channel
	Why        string            `json:"why"`     // a sentence for people
	Conditions []ConditionResult `json:"conditions"`
}

// Explanation is what routing makes of a request, and why. Its JSON is the
// data of POST /api/route/explain.
type Explanation struct {
	Wire        Wire             `json:"wire"`
	Model       string           `json:"model"`       // as the client named it
	Rules       []RuleResult     `json:"rules"`       // in the order in which they are tried
	Rule        string           `json:"rule"`        // id of the rule that decided; "" for none
	Strategy    Strategy         `json:"strategy"`    // of the load balancer
	Candidates  []RouteCandidate `json:"candidates"`  // for the model that is asked for in the end
	Channel     string           `json:"channel"`     // id of the channel that would serve it; "" for none
	ChannelName string           `json:"channelName"` // its name
	Upstream    string           `json:"targetModel"` // the model it is asked for
	Error       string           `json:"error"`       // why no channel would; "" if one does
	Tags        map[Kind]Tag     `json:"tags"`        // of the copy that was used
	Facts       map[string]any   `json:"facts"`       // what routing knows of the request: tokens, hasTools, hasImages, session and so on
}
