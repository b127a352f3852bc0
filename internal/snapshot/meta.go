package snapshot

import "time"

// Meta says where a published snapshot came from. It is the hash meta:KIND.
type Meta struct {
	Version    uint64
	Digest     Digest
	Count      int
	Bytes      int
	Order      Order         // fields lineage and revision
	Attempt    string        // id of the publish that wrote it; a retry finds its own
	Schema     int           // of the records' form: what a reader has to know
	Reason     string        // why it was warmed
	WarmedAt   time.Time     // when the content was published, Redis time
	VerifiedAt time.Time     // when a load last found it still true, Redis time
	WarmedBy   string        // id of the replica that published it
	Duration   time.Duration // of the warm that published it
	// Quarantined names records held back by a fault, with the reason.
	Quarantined []Fault
}

// Tag is the tag of the content meta describes.
func (m Meta) Tag() Tag {
	if m.Version == 0 {
		return ""
	}
	return NewTag(m.Version, m.Digest)
}

// Snapshot is one kind as it was published.
type Snapshot struct {
	Tag  Tag
	Meta Meta
	Set  *Set
}

// Fault names one record that could not be taken, and why. Its last good
// version, if there is one, stays.
type Fault struct {
	Kind   Kind   `json:"kind"`
	ID     string `json:"id"`
	Reason string `json:"reason"`
	Kept   bool   `json:"kept"` // the last good version is still served
}
