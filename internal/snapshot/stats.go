package snapshot

import "time"

// Stats are the fleet's counters, kept in Redis and the same from every
// replica.
type Stats struct {
	TotalWarms             int64
	LastWarmTime           time.Time // zero before the first warm
	LastWarmDuration       time.Duration
	BackgroundRefreshCount int64
	InvalidationCount      int64
	ItemsCached            map[Kind]int // 0 for a kind whose head is invalid or gone
}

// ReplicaInfo is what a replica says of itself in Redis, with each heartbeat.
type ReplicaInfo struct {
	ID      string
	Address string       // where its HTTP server listens
	Build   string       // version of the program
	Role    Role         // refresher or follower
	State   State        // how fresh what it serves is
	Tags    map[Kind]Tag // what it serves
	// In is the incarnation each of them belongs to: versions of two data sets
	// cannot be compared.
	In     map[Kind]string
	Config int64 // version of the config it follows
	// Started is when its process did, by its own clock. Releases that do not say
	// so have none.
	Started time.Time
	Since   time.Time // when it came to the registry that Redis has now, Redis time. Set by the store on reading
	Schema  int       // newest schema it reads; releases that do not say so read FirstSchema
	Skew    string    // what a later release wrote and it cannot read; "" for nothing
	// Floor is the highest order it ever served of each kind, below which it
	// never steps back. Releases that do not say so have none.
	Floor map[Kind]Order
	Held  string // what Redis holds from below its floor; "" for nothing
	// Breakers are the channels it keeps requests away from, at most MaxBreakers.
	// Releases that do not say so list none.
	Breakers []Breaker
	// HeartbeatAge is how long ago it last reported. Set by the store on reading.
	HeartbeatAge time.Duration
}

// MaxBreakers bounds the Breakers of one replica, and with them its entry in
// Redis, which every heartbeat writes.
const MaxBreakers = 50

// Breaker is a channel that one replica keeps requests away from: after failures,
// or because the upstream asked for it. Those that serve as usual have none.
type Breaker struct {
	ID        string `json:"id"`        // the channel's
	State     string `json:"state"`     // open; half-open while one request tries it
	RestingMs int64  `json:"restingMs"` // for how long no request goes there
}

// Role is the part a replica plays.
type Role string

// The roles.
const (
	Refresher Role = "refresher"
	Follower  Role = "follower"
)

// State says how fresh a replica's copy is.
type State string

// The states, from best to worst.
const (
	StateFresh      State = "fresh"      // compared with the head within the limit, and equal
	StateStale      State = "stale"      // the head is newer, or invalid, and the last good copy is served
	StateDegraded   State = "degraded"   // Redis does not answer; the copy comes from the source or is the last one
	StateUnverified State = "unverified" // nothing proved it fresh for longer than the limit
	StateLoading    State = "loading"    // no complete copy yet
)

// Receipt says what a write produced and which live replicas serve it.
type Receipt struct {
	Tags     map[string]Tag `json:"tags"`     // by kind; "config" for the config's version
	Replicas int            `json:"replicas"` // live ones
	Applied  int            `json:"applied"`  // live ones that carry these tags or newer
	Laggards []string       `json:"laggards"` // ids of the others
	TookMs   int64          `json:"tookMs"`
}
