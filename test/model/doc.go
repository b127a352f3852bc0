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
// What is real: every line of warmer, store, lease and replica that a running
// replica executes, and the Lua scripts, ours and those of the lock. What is
// modelled: SQL, the network, and Redis itself, whose answers are compared with
// those of a real server. Time is that of a synctest bubble.
//
// After every step a referee looks at Redis and at each replica: no step back,
// nothing served that a guard refuses, nothing served as good that was heard to
// be invalid, one head for each view, no publication without the lock or for
// another head, no version twice, no receipt that lies. At the end everything is
// mended, and within 80 s all replicas, Redis and the source have to be equal.
//
//	go test ./test/model -v | grep figure:                  the short form
//	scripts/chaos --minutes 60 --seed 7 ./test/model        the long form
//	go test ./test/model -run 'TestModel$' -rapid.seed=N    a run again
//
// The mutants take out one guard of the program after the other: a referee that
// does not notice would be worth nothing.
package model
