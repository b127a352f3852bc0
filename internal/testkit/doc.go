// Package testkit gives tests real servers and real faults: Redis and
// PostgreSQL processes on free loopback ports, and a TCP proxy that freezes,
// resets and loses replies.
//
//	test ──▶ Proxy ──▶ redis-server     (Redis: its own, SharedRedis: one a process)
//	  ├──────────────▶ Sentinel set, Cluster   (Deployment: whichever of the three)
//	  └──────────────▶ postgres         (Postgres: a fresh database each)
//
// Whatever a test starts is gone when the test ends, also when the test binary
// is killed: servers die with the process that started them, and what several
// tests share is removed by a small shell that outlives it. Nothing here keeps
// a goroutine running between calls, so leak checkers need no exceptions; only
// a Proxy has goroutines, until its test ends.
package testkit
