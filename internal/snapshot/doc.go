// Package snapshot holds the values that flow from the source to a request:
// kinds, records, tags, the order between snapshots, the checks a snapshot has
// to pass, and the sealing of secrets. It knows no driver and does no I/O.
//
//	source rows ──Assemble──▶ Candidates ──Diff──▶ Delta ──Apply──▶ Set
//
// A Set is immutable: whoever holds one may read it without a lock, for ever.
package snapshot
