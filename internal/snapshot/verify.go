package snapshot

import "time"

// Party is one holder of the records of a kind. Two of them are compared.
type Party string

// The parties, from the source to the requests.
const (
	PartySource Party = "source" // the rows, as a load would publish them
	PartyRedis  Party = "redis"  // the published snapshot
	PartyCopy   Party = "copy"   // the JSON this replica pulled
	PartyServed Party = "served" // the compiled records that requests see
)

// Imprint is one record as a party holds it: enough to see that two differ.
type Imprint struct {
	ID   string
	Hash Digest // Fingerprint
	Kept bool   // the newest version does not decode here, and the last good one is served
}

// Imprints are all records of a kind as one party holds them, by rising id.
type Imprints struct {
	Tag     Tag
	Digest  Digest // the sum of the hashes
	Records []Imprint
}

// Side is one party's whole kind.
type Side struct {
	Tag    Tag
	Order  Order
	Digest Digest // counted anew, not taken from anybody's word
	Count  int
	At     time.Time // when its reading began
	Err    string    // why it could not be read; "" when it was
}

// Mismatch is one record that two parties hold differently, although they hold
// the same version of the kind.
type Mismatch struct {
	Kind    Kind
	ID      string // "" for records that cannot be named, only counted
	Party   Party  // who is suspected
	Against Party
	Tag     Tag
	Fields  []string // names, never values
}

// VerifyRequest says what to compare.
type VerifyRequest struct {
	Kinds  []Kind
	Sample int  // records of each kind, chosen by chance; 0: all
	Redis  bool // with the published snapshot
	Source bool // with a read of the source
}

// Verified is what the comparison of one kind found.
type Verified struct {
	Kind     Kind
	Served   Side
	Redis    *Side // nil: not asked for
	Source   *Side // nil: not asked for, or the kind does not follow the source
	Agree    int   // comparisons that found the same
	Differ   int   // mismatches
	InFlight int   // comparisons that mean nothing, because the versions differ
	// NotFollowed is why a change of the source is not published by itself; "" if
	// it is, or if Redis was not asked. What is published may then be older than
	// the source.
	NotFollowed string
	// Mismatches are those found; at most a hundred are listed.
	Mismatches []Mismatch
	Kept       []Fault // records whose newest version does not decode here
	Events     []Event // what last happened to the kind here, the newest last
}

// Event is something that happened to a kind in one replica.
type Event struct {
	At   time.Time
	What string // such as "head", "pull", "mend"
	Tag  Tag
	Note string
}

// Inspection is what Redis holds of one kind, just as it was found.
type Inspection struct {
	At      time.Time // when the reading began
	Tag     Tag       // in the head
	Meta    Meta
	Count   int               // records that are there
	Records map[string]string // those asked for
	Moved   bool              // another version came while it was read
	Pinned  bool              // an operator holds the kind at its version
}
