// Package store is Redis as the fleet uses it: the head that says what is
// current, the snapshots and their changes, the bell, the counters, and the
// registry of live replicas.
//
//	warmer ──Publish──▶ publish.lua ──▶ head, snapshot:K, meta:K, changes:K, bell
//	replica ◀──Head──── head
//	replica ◀──Pull──── changes:K, or snapshot:K whole
//
// Everything one warm changes moves in one script that checks first and writes
// only when nothing can fail any more. Whoever was paused, doubled or late is
// told so and changes nothing. What a reader gets was verified against the
// digest of its tag: a torn, trimmed or evicted snapshot is an error, never a
// shorter set.
package store
