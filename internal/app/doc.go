// Package app builds one replica out of the hops, and is the only place that
// knows two of them.
//
//	settings ──▶ New ──▶ App ──Run──▶ not ready ──▶ drain ──▶ hand over ──▶ nil
//
// New opens what can fail and serves nothing; Run starts everything, and when
// told to stop ends it in the reverse order and leaves no goroutine behind. Two
// replicas fit into one process: nothing here is global.
package app
