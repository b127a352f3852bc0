// Package source owns the SQL database: channels, routing rules, model prices,
// request logs and the fleet's cache config, on SQLite or PostgreSQL.
//
//	psql, sqlite3 ──▶ tables ──trigger──▶ catalog_revision
//	CreateChannel … ───▲ │                     │
//	                     └──Load (one transaction)──▶ Catalog ──▶ warmer
//	Run ──watches the database──▶ Changes
//
// Load returns all rows of one moment with the revisions of that moment, or an
// error: a read that broke off is never a short answer. A row that is no record
// is named in Catalog.Broken and does not hold back the others. No plain
// provider key leaves this package: one that was typed into the table is sealed
// there first.
package source
