// Package model runs the protocol in a simulation, and breaks everything around
// it in any order that chance can think of.
//
//	warmer ─ lease ─ store ─ replica        the real code, in three processes
//	   │        │      │        │
//	   ▼        └──────┴────────┘
//	source             │  every call is a gate and waits there
//	(model)            ▼
//	           ┌───────────────┐
//	           │   scheduler   │  lets one thing happen at a time: a call is
//	           └───────┬───────┘  answered, answered late, twice, or never; time
//	                   ▼          passes; a bell is heard, lost or doubled; the
//	                 Redis        source changes, goes back or lies; Redis is
//	                (model)       flushed, fails over, forgets; processes pause
//	                              and die; people warm, invalidate, roll back
//
// What is real: warmer, store, lease and replica, but for what is listed below,
// and the Lua scripts, ours and those of the lock. What is modelled: SQL, the
// network, and Redis itself, whose answers are compared with those of a real
// server. Time is that of a synctest bubble.
//
// What of these packages does not run here, and is tested beside them and in
// test/chaos:
//
//   - connections: store.Dial, Listen (store/bell.go; the model rings), the
//     clients for Sentinel and Cluster, and with these lease.Reclaim
//   - what the audit calls: store.Inspect, replica.Mend
//   - replica.Restore, for the state file is not there
//   - what records say: the view and its decoding, and reads that wait for it
//   - schemas but this release's own, and scans of more than one page
//
// After every step a referee looks at Redis and at each replica: no step back,
// nothing served that a guard refuses, nothing served as good that was heard to
// be invalid, one head for each view, no publication without the lock or for
// another head, no version twice, no receipt that lies. At the end everything is
// mended, and within 80 s all replicas, Redis and the source have to be equal.
// Every second run begins with a scene, a moment on which a guard depends and that
// chance seldom finds; half of these go to their end without chance.
//
//	go test ./test/model -v | grep figure:                  the short form
//	scripts/chaos --minutes 60 --seed 7 ./test/model        the long form
//	go test ./test/model -run 'TestModel$' -rapid.seed=N    a run again
//
// The mutants take out one guard of the program after the other: a referee that
// does not notice would be worth nothing.
package model
