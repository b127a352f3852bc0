// Package fleet starts whole fleets of replicas for tests: on a real Redis, on
// SQLite or PostgreSQL, inside the test's process or as processes of the built
// program.
//
//	Start ──▶ Fleet ──┬──▶ Replica ──▶ URL, Get, Post, Put, Delete, Stats, Metric
//	                  ├──▶ Redis, Client, Key     what redis-cli would see
//	                  ├──▶ DB, Shell              a change behind the program's back
//	                  └──▶ Provide ──▶ Upstream   channels, and the providers behind them
//
// Both modes give the same handle, so a test moves from one to the other by one
// option. In the process a fleet of 32 is ready in about a second and the race
// detector sees all of it; as processes replicas can be killed and frozen. All
// that was started is gone when the test ends, and a failed test shows what
// each replica logged.
package fleet
