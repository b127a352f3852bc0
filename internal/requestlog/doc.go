// Package requestlog takes the log of requests off their path: an entry is put
// into memory, and written to the database later, with others.
//
//	request ──Record──▶ buffer ──Run──▶ batch ──▶ Appender   request_logs
//	                      │                         ▲
//	                      └─ full: dropped, counted │
//	                      clock ──Run, the leader──▶ PruneLogs
//
// Record never waits, whatever the database does. Memory is bounded. Every entry
// is written, or counted as dropped with the reason; an entry may be written
// twice where the connection broke while a batch was committed. What the database
// refuses for its values does not hold up what comes after it.
package requestlog
