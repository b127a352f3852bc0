package snapshot

// Written says where the source stands after a write: what a warm has to reach
// before every replica can serve that write.
type Written struct {
	Lineage   string
	Revisions map[Kind]int64 // of the kinds the write touched
}

// WarmRequest asks for one warm.
type WarmRequest struct {
	Kinds  []Kind // nil: those the config warms ahead
	Force  bool   // pass the shrink and lineage guards; needs a Reason
	Reason string
}

// Status is how one replica stands, for probes, stats and the registry.
type Status struct {
	ReplicaInfo
	Ready         bool
	Reason        string // why it is not ready, or not fresh; "" when all is well
	Public        string // the same for anybody: without addresses, names of users and paths
	AgeMs         int64  // since the served content was published, the oldest kind
	VerifiedMsAgo int64  // since the served tags were last found equal to the head; -1: never
	Hits          int64  // reads answered from memory
	Misses        int64  // reads that found no usable copy at once
	StaleServed   int64  // reads answered with a copy known to be out of date

	Progress []Progress // work on many records that is under way in this process
}
