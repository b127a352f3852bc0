// Package source owns the SQL database: channels, routing rules, model prices,
// request logs and the fleet's cache config, on SQLite or PostgreSQL.
//
//	psql, sqlite3 ──▶ tables ──trigger──▶ catalog_revision, catalog_changes
//	CreateChannel … ───▲ │                     │
//	                     └──Load (one transaction)──▶ Catalog ──▶ warmer
//	Run ──watches the database──▶ Changes
//
// Load returns all rows of one moment with the revisions of that moment, or an
// error: a read that broke off is never a short answer. A row that is no record
// is named in Catalog.Broken and does not hold back the others. LoadSince reads
// only the rows that changed, where the list of changes proves to have them all:
// each counter rose by as much as the entries say, and the list still begins with
// the entry that the reader knew. Anything else is answered whole. What this
// cannot see is a database whose trigger for the list was switched off, that was
// then set back, and whose trigger was switched off again: the audit, which
// compares everything, does within its interval. No plain
// provider key leaves this package: one that was typed into the table is sealed
// there first.
package source
