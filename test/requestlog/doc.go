// Package requestlog runs the journal of requests against real databases: under
// load, while they freeze or are gone, with entries they refuse, and as a fleet of
// which one deletes what is old. What is written is then counted with SQL.
package requestlog
