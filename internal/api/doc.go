// Package api is the control API: it turns requests into calls of the fleet,
// the replica's cache and the source, and their answers into one envelope.
//
//	request ─ host ─ origin ─ token ─ limit ─▶ handler ──▶ Fleet   warm, invalidate, config, receipts
//	                                              ├──────▶ Cache   what this replica serves
//	   answer ◀─ envelope ◀─ reply or error ◀─────┴──────▶ Source  channels and rules
//
// A reader may rely on four things. Every answer under /api is the envelope,
// whatever was sent. Only errors.go turns errors into status codes. Every write
// answers a receipt that says which replicas serve it. No answer and no log
// line holds a provider key.
//
// API.md beside this file lists every route.
package api
