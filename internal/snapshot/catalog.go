package snapshot

// Catalog is what one consistent read of the source returned: rows as typed
// records, before any check.
type Catalog struct {
	Lineage   string         // the source's id
	Revisions map[Kind]int64 // change counters, read in the same transaction
	Channels  []Channel      // all of them, whatever their status
	Rules     []Rule         // all of them, enabled or not
	Prices    []Price
	Summary   *Summary // nil when analytics was not asked for
	Broken    []Fault  // rows that are not records, such as a models column that is no JSON
	// Approved lists, by kind, the records whose removal somebody asked for
	// through the API. The guards empty and shrink do not count them.
	Approved map[Kind][]Approval

	// At is the state that was read: a later read can tell what changed since.
	At Point
	// Since, when it is not nil, says that this is not the whole: Channels, Rules
	// and Prices hold only the rows that it names, and those that it names and
	// they lack are gone. Approved is nil when it names none.
	Since *Changes
}

// Approval says that a record was removed, or disabled, on purpose.
type Approval struct {
	ID       string
	Revision int64 // of the kind, by that removal
	Reason   string
}
